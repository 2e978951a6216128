import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { constants, PacketBatch } from '../../dist';
import { ETH_P_IP } from '../helpers/device';
import { program } from '../helpers/optional';
import { empty, OTHER, packetStage, room, TEST, text } from '../helpers/packet-stage';
import { checksumsRight, udpPacket } from '../helpers/packets';
import { frame } from '../helpers/pair';

const { MSG_DONTWAIT } = constants;
const stage = packetStage();
const { near, far } = stage;
const descriptors = () => readdirSync('/proc/self/fd').length;

describe('options', () => {
  it('timestamps count nanoseconds since 1970', () => {
    const a = near({ timestamps: true });
    far().sendmsg(text('now'));
    const { timestamp } = a.recvmsg(room());
    const now = BigInt(Date.now()) * 1_000_000n;
    expect(now - (timestamp as bigint)).toBeLessThan(60_000_000_000n);
    expect((timestamp as bigint) - now).toBeLessThan(1_000_000_000n);
  });

  it('auxdata shows the VLAN tag that the kernel takes out', () => {
    const a = near({ protocol: 'all', vlan: 'metadata' });
    const tag = Buffer.from([0xb0, 0x2a, TEST >> 8, TEST & 255]); // priority 5, drop eligible, id 42
    far().sendmsg(frame(0x8100, Buffer.concat([tag, Buffer.alloc(46, 9)])));
    const data = room();
    const info = a.recvmsg(data);
    expect(info.vlan).toEqual({ id: 42, priority: 5, dropEligible: true, protocol: 0x8100 });
    expect(info.status & constants.TP_STATUS_VLAN_VALID).not.toBe(0);
    expect(info.protocol).toBe(TEST);
    expect(data.subarray(0, info.bytes)).toEqual(frame(TEST, Buffer.alloc(46, 9)));
  });

  it('protocol and interface hold from the first packet on', () => {
    const any = near({ protocol: 'all' });
    const a = near();
    const b = far({ protocol: 0 });
    b.sendmsg(frame(OTHER, Buffer.alloc(50)));
    b.sendmsg(text('mine'));
    expect(a.recvmsg(room()).protocol).toBe(TEST);
    expect(() => a.recvmsg(room(), MSG_DONTWAIT)).toThrow(empty);
    expect(any.recvmsg(room()).protocol).toBe(OTHER);
    expect(() => b.recvmsg(room(), MSG_DONTWAIT)).toThrow(empty);
  });

  it('ignoreOutgoing hides what this host sends', () => {
    const hears = near({ protocol: 'all' });
    const ignores = near({ protocol: 'all', ignoreOutgoing: true });
    near({ protocol: 0 }).sendmsg(text('out'));
    expect(hears.recvmsg(room()).packetType).toBe('outgoing');
    expect(() => ignores.recvmsg(room(), MSG_DONTWAIT)).toThrow(empty);
  });

  it('promiscuous lasts as long as the socket', () => {
    const IFF_PROMISC = 0x100;
    const promiscuity = () =>
      stage.pair.near.run(() => spawnSync(program('ip'), ['-d', 'link', 'show', 'v0'], { encoding: 'utf8' }))
        .stdout;
    const a = near({ promiscuous: true });
    expect(promiscuity()).toContain('promiscuity 1');
    a.close();
    expect(promiscuity()).toContain('promiscuity 0');
    expect(stage.pair.nearLink.flags & IFF_PROMISC).toBe(0);
  });

  it('buffers are as large as asked for', () => {
    const a = near({ receiveBuffer: 100_000, sendBuffer: 50_000 });
    expect([a.getRecvBufferSize(), a.getSendBufferSize()]).toEqual([200_000, 100_000]);
  });

  it('stats count what the kernel dropped, also when asked twice and once closed', () => {
    const a = near({ receiveBuffer: 5000 });
    const b = far({ qdiscBypass: true });
    const batch = new PacketBatch({ capacity: 100 });
    for (let i = 0; i < 100; i++) batch.push(text(`${i}`));
    b.sendmmsg(batch);
    const received = a.recvmmsg(new PacketBatch({ capacity: 200 }));
    expect(received).toBeLessThan(100);
    expect(a.stats().received.dropped).toBe(100 - received);
    b.sendmmsg(batch);
    const { dropped } = a.stats().received;
    expect(dropped).toBeGreaterThan(100 - received);
    a.close();
    expect(a.stats().received.dropped).toBe(dropped);
  });

  it('signal closes', async () => {
    const controller = new AbortController();
    const a = near({ signal: controller.signal });
    const close = once(a, 'close');
    controller.abort();
    await close;
    expect(() => near({ signal: controller.signal })).toThrow(expect.objectContaining({ code: 'ABORT_ERR' }));
  });

  describe('filter', () => {
    // What `tcpdump -ddd ether[14] = 65` prints: the first byte of the payload is 'A'.
    const program = '4\n48 0 0 14\n21 0 1 65\n6 0 0 262144\n6 0 0 0\n';
    const instructions = [
      { code: 48, jt: 0, jf: 0, k: 14 },
      { code: 21, jt: 0, jf: 1, k: 65 },
      { code: 6, jt: 0, jf: 0, k: 262144 },
      { code: 6, jt: 0, jf: 0, k: 0 },
    ];
    it.each([
      ['text', program],
      ['instructions', instructions],
    ])('of %s', (_, filter) => {
      const a = near({ filter });
      const b = far();
      for (const name of ['B', 'A', 'C']) b.sendmsg(text(name));
      const data = room();
      a.recvmsg(data);
      expect(data.toString('latin1', 14, 15)).toBe('A');
      expect(() => a.recvmsg(data, MSG_DONTWAIT)).toThrow(empty);
    });

    it('that cuts: the kernel keeps that much', () => {
      const a = near({ filter: [{ code: 6, jt: 0, jf: 0, k: 30 }] });
      far().sendmsg(text('cut'));
      expect(a.recvmsg(room())).toMatchObject({ size: 30, bytes: 30 });
    });

    it("that cuts is refused with offload 'split', before anything is opened", () => {
      const before = descriptors();
      expect(() => near({ filter: '1\n6 0 0 96', offload: 'split' })).toThrow(
        expect.objectContaining({ name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE' }),
      );
      expect(descriptors()).toBe(before);
    });

    it("that cuts nothing holds for superpackets with offload 'split'", () => {
      const socket = near({ filter: '1\n6 0 0 262144', offload: 'split', protocol: 'ip' });
      const data = 'x'.repeat(60_000);
      const packet = udpPacket(['10.3.0.2', 4000], ['10.3.0.1', 9], data, { unfinished: true });
      far({ offload: 'raw' }).sendmsg(frame(ETH_P_IP, packet), 0, {
        offload: {
          needsChecksum: true,
          checksumStart: 34,
          checksumOffset: 6,
          gsoType: constants.VIRTIO_NET_HDR_GSO_UDP_L4,
          gsoSize: 1000,
        },
      });
      for (let index = 0; index < 60; index++) {
        const bytes = room();
        const received = bytes.subarray(14, socket.recvmsg(bytes).bytes);
        expect([received.length, checksumsRight(received)]).toEqual([1028, true]);
      }
      expect(socket.stats().received.errors).toBe(0);
    });

    it('that is too long', () => {
      const filter = new Array(4097).fill({ code: 6, jt: 0, jf: 0, k: 0 });
      expect(() => near({ filter })).toThrow(RangeError);
    });

    it('that the kernel refuses', () => {
      const before = descriptors();
      for (const filter of [
        [{ code: 48, jt: 0, jf: 0, k: 0 }], // no return
        [
          { code: 5, jt: 0, jf: 0, k: 9 },
          { code: 6, jt: 0, jf: 0, k: 0 },
        ], // a jump out of the program
        [{ code: 65535, jt: 0, jf: 0, k: 0 }],
      ]) {
        expect(() => near({ filter })).toThrow(
          expect.objectContaining({ code: 'EINVAL', syscall: 'SO_ATTACH_FILTER', interface: 'v0' }),
        );
      }
      expect(descriptors()).toBe(before);
    });

    it.each([
      [''],
      ['ip'],
      ['2\n6 0 0 0'],
      ['1\n6 0 0'],
      ['1\n6 0 0 0x10'],
      [[]],
      [[undefined]],
      [[{ code: 6 }]],
      [[{ code: 6, jt: 256, jf: 0, k: 0 }]],
      [[{ code: 6, jt: 0, jf: 0, k: -1 }]],
      [[{ code: 6, jt: 0, jf: 0, k: 0, next: 1 }]],
      [7],
      [{}],
    ])('%j is none', (filter) => {
      expect(() => near({ filter: filter as never })).toThrow(
        expect.objectContaining({ code: expect.stringMatching(/^ERR_/) }),
      );
    });
  });
});
