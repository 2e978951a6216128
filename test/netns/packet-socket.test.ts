import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, fstatSync, openSync, readdirSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  constants,
  Link,
  type MessageSocket,
  PacketBatch,
  PacketSocket,
  type PacketSocketOptions,
  socketFromFd,
  TunSocket,
} from '../../dist';
import { FAR_MAC, frame, NEAR_MAC, type Pair, untilRunning, vethPair } from '../helpers/pair';

const { MSG_DONTWAIT, MSG_PEEK, MSG_TRUNC, MSG_ERRQUEUE } = constants;
const dist = join(__dirname, '../../dist');
/** EtherTypes for local experiments (IEEE 802). */
const TEST = 0x88b5;
const OTHER = 0x88b6;
const empty = expect.objectContaining({ code: 'EAGAIN', syscall: 'recvmsg' });

let pair: Pair;
let sockets: MessageSocket[];
beforeEach(() => {
  pair = vethPair();
  sockets = [];
});
afterEach(() => {
  for (const socket of sockets) socket[Symbol.dispose]();
  pair.close();
});

function kept<S extends MessageSocket>(socket: S): S {
  sockets.push(socket);
  return socket;
}
const near = (options: Partial<PacketSocketOptions> = {}) =>
  kept(
    PacketSocket.open({
      interface: 'v0',
      protocol: TEST,
      netns: pair.near,
      receiveTimeout: 5000,
      ...options,
    }),
  );
const far = (options: Partial<PacketSocketOptions> = {}) =>
  kept(
    PacketSocket.open({ interface: 'v1', protocol: TEST, netns: pair.far, receiveTimeout: 5000, ...options }),
  );
const text = (value: string) => frame(TEST, Buffer.from(value.padEnd(50, '.')));
const room = () => Buffer.alloc(2048);
const descriptors = () => readdirSync('/proc/self/fd').length;

describe('sendmsg and recvmsg', () => {
  it('move frames both ways, as they are', () => {
    const a = near();
    const b = far();
    expect([a.name, a.type, b.name]).toEqual(['v0', 'raw', 'v1']);
    expect(a.index).toBe(pair.nearLink.index);
    expect(b.sendmsg([text('one').subarray(0, 20), text('one').subarray(20)])).toBe(64);
    const data = room();
    expect(a.recvmsg(data)).toMatchObject({ size: 64, bytes: 64, flags: 0, protocol: TEST });
    expect(data.subarray(0, 64)).toEqual(text('one'));
  });

  it('say what the link layer knows', () => {
    const a = near({ protocol: 'all' });
    const b = far({ protocol: 'all', promiscuous: true });
    b.sendmsg(text('host'));
    b.sendmsg(frame(TEST, Buffer.alloc(50), 'ff:ff:ff:ff:ff:ff'));
    b.sendmsg(frame(TEST, Buffer.alloc(50), '01:00:5e:00:00:01'));
    b.sendmsg(frame(TEST, Buffer.alloc(50), '02:00:00:00:00:99'));
    const infos = Array.from({ length: 4 }, () => a.recvmsg(room()));
    expect(infos.map((info) => info.packetType)).toEqual(['host', 'broadcast', 'multicast', 'otherhost']);
    for (const info of infos) {
      expect(info).toMatchObject({ address: FAR_MAC, hardwareType: 1, interface: a.index });
      expect(info).toMatchObject({ vlan: undefined, timestamp: undefined, status: 0 });
    }
    // The sender's other sockets see what leaves; its own does not.
    expect(() => b.recvmsg(room(), MSG_DONTWAIT)).toThrow(empty);
    far({ protocol: 0 }).sendmsg(text('leaves'));
    expect(b.recvmsg(room()).packetType).toBe('outgoing');
  });

  it('truncate as recvmsg(2) does, and show the true length', () => {
    const a = near();
    const b = far();
    b.sendmsg(text('x'));
    b.sendmsg(text('y'));
    expect(a.recvmsg(Buffer.alloc(10))).toMatchObject({ size: 64, bytes: 10, flags: MSG_TRUNC });
    expect(a.recvmsg(Buffer.alloc(10), MSG_TRUNC)).toMatchObject({ size: 64, bytes: 64, flags: MSG_TRUNC });
    expect(() => a.recvmsg(room(), MSG_DONTWAIT)).toThrow(empty);
    expect(a.stats().received).toMatchObject({ packets: 2, bytes: 128, truncated: 2, wouldBlock: 1 });
  });

  it('peek', () => {
    const a = near();
    far().sendmsg(text('peeked'));
    const [first, second] = [room(), room()];
    const peeked = a.recvmsg(first, MSG_PEEK);
    expect(a.stats().received.packets).toBe(0);
    const taken = a.recvmsg(second);
    expect([peeked.bytes, peeked.address]).toEqual([taken.bytes, taken.address]);
    expect(first).toEqual(second);
    expect(() => a.recvmsg(room(), MSG_DONTWAIT | MSG_PEEK)).toThrow(empty);
  });

  it('refuse flags that packet sockets do not have', () => {
    const a = near();
    expect(() => a.recvmsg(room(), 1)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    expect(() => a.sendmsg(text(''), MSG_PEEK)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    expect(() => a.sendmsg(Buffer.alloc(0))).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    expect(() => a.recvmsg(room(), MSG_ERRQUEUE)).toThrow(empty);
    expect(() => a.recvmmsg(new PacketBatch(), MSG_PEEK)).toThrow(
      expect.objectContaining({ code: 'EINVAL' }),
    );
  });

  it('wait as long as receiveTimeout', () => {
    const a = near({ receiveTimeout: 20 });
    expect(() => a.recvmsg(room())).toThrow(empty);
  });

  it('refuse a frame that is longer than the mtu, also in send()', async () => {
    const a = near();
    const long = frame(TEST, Buffer.alloc(1501));
    const tooLong = expect.objectContaining({ code: 'EMSGSIZE', interface: 'v0' });
    expect(() => a.sendmsg(long)).toThrow(tooLong);
    expect(await new Promise((resolve) => a.send(long, resolve))).toEqual(tooLong);
  });
});

describe('dgram', () => {
  it('leaves the link header to the kernel', () => {
    const a = near();
    const b = far({ type: 'dgram', destination: { address: NEAR_MAC } });
    const payload = Buffer.alloc(50, 1);
    b.sendmsg(payload);
    const data = room();
    const { bytes } = a.recvmsg(data);
    expect(data.subarray(0, bytes)).toEqual(frame(TEST, payload));
    a.sendmsg(frame(TEST, payload, FAR_MAC, NEAR_MAC));
    expect(b.recvmsg(data)).toMatchObject({ bytes: 50, address: NEAR_MAC });
    expect(data.subarray(0, 50)).toEqual(payload);
  });

  it('sends where the call, the option and the packet say', async () => {
    const a = near({ protocol: 'all', promiscuous: true });
    const b = far({ type: 'dgram', protocol: 'all', destination: { address: NEAR_MAC } });
    b.sendmsg(Buffer.alloc(50), 0, { address: 'ff:ff:ff:ff:ff:ff', protocol: OTHER });
    b.sendmsg(Buffer.alloc(50, 0x45));
    b.sendmsg(Buffer.alloc(50, 0x60));
    const batch = new PacketBatch();
    batch.push(Buffer.alloc(50, 0x45));
    b.sendmmsg(batch);
    await new Promise((resolve) => b.send(Buffer.alloc(50, 0x60), resolve));
    const heads = Array.from({ length: 5 }, () => {
      const data = room();
      a.recvmsg(data);
      return data.subarray(0, 14).toString('hex');
    });
    const head = (to: string, type: string) => to.replaceAll(':', '') + FAR_MAC.replaceAll(':', '') + type;
    expect(heads).toEqual([
      head('ff:ff:ff:ff:ff:ff', '88b6'),
      head(NEAR_MAC, '0800'),
      head(NEAR_MAC, '86dd'),
      head(NEAR_MAC, '0800'),
      head(NEAR_MAC, '86dd'),
    ]);
  });

  it('needs a destination', () => {
    const b = far({ type: 'dgram' });
    expect(() => b.sendmsg(Buffer.alloc(50))).toThrow(/^sendmsg EINVAL.*needs a destination/);
    expect(() => near().sendmsg(Buffer.alloc(50), 0, { address: FAR_MAC })).toThrow(TypeError);
    for (const address of ['', '02:0', '0g:00', '00:01:02:03:04:05:06:07:08']) {
      expect(() => b.sendmsg(Buffer.alloc(50), 0, { address }), address).toThrow(TypeError);
    }
  });
});

describe('batches', () => {
  it.each([1, 64, 200])('of %d packets go out and come in whole', (count) => {
    const a = near({ auxdata: true, timestamps: true });
    const b = far();
    const batch = new PacketBatch({ capacity: count });
    for (let i = 0; i < count; i++) batch.push(text(`packet ${i}`));
    expect(b.sendmmsg(batch)).toBe(count);
    const received = new PacketBatch({ capacity: 256 });
    expect(a.recvmmsg(received)).toBe(count);
    expect([...received]).toEqual([...batch]);
    for (let i = 0; i < count; i++) {
      const info = received.info(i);
      expect(info).toMatchObject({ size: 64, bytes: 64, flags: 0, protocol: TEST, address: FAR_MAC });
      expect(info.timestamp).toBeGreaterThan(0n);
    }
    expect(a.recvmmsg(received, MSG_DONTWAIT)).toBe(0);
    expect(a.stats().received).toMatchObject({ packets: count, bytes: 64 * count });
    expect(b.stats().sent).toMatchObject({ packets: count, bytes: 64 * count });
  });

  it('cut what is longer than a slot', () => {
    const a = near();
    const b = far();
    b.sendmsg(text('a'));
    b.sendmsg(text('b'));
    const received = new PacketBatch({ packetSize: 20 });
    expect(a.recvmmsg(received)).toBe(2);
    expect([...received]).toEqual([text('a').subarray(0, 20), text('b').subarray(0, 20)]);
    expect(received.sizes[1]).toBe(64);
    expect(received.flags[1]).toBe(MSG_TRUNC);
  });

  it('stop at the packet that fails, which fails alone', () => {
    const a = near();
    const batch = new PacketBatch();
    batch.push(text('1'));
    batch.push(frame(TEST, Buffer.alloc(1600)));
    batch.push(text('3'));
    expect(a.sendmmsg(batch)).toBe(1);
    expect(() => a.sendmmsg(batch, 0, 1)).toThrow(expect.objectContaining({ code: 'EMSGSIZE' }));
    expect(a.sendmmsg(batch, 0, 2)).toBe(1);
  });

  it('keep what is known of a packet, and forget it with the packet', () => {
    const a = near();
    far().sendmsg(text('known'));
    const batch = new PacketBatch();
    a.recvmmsg(batch);
    const info = batch.info(0);
    batch.push(text('pushed'));
    expect(batch.info(1)).toMatchObject({ size: 64, address: '', interface: 0 });
    batch.clear();
    batch.push(text('tun has none'));
    expect(batch.info(0)).toEqual({ size: 64, bytes: 64, flags: 0, protocol: 0 });
    expect(info.address).toBe(FAR_MAC);
    expect(() => batch.info(1)).toThrow(RangeError);
  });

  it("'batch' has info too", async () => {
    const a = near();
    const b = far();
    const seen: string[] = [];
    const done = new Promise<void>((resolve) =>
      a.on('batch', (batch) => {
        for (let i = 0; i < batch.length; i++)
          seen.push(`${batch.at(i).subarray(14, 16)} ${batch.info(i).address}`);
        if (seen.length === 3) resolve();
      }),
    );
    for (const name of ['p0', 'p1', 'p2']) b.send(text(name));
    await done;
    expect(seen).toEqual([`p0 ${FAR_MAC}`, `p1 ${FAR_MAC}`, `p2 ${FAR_MAC}`]);
  });
});

describe('events', () => {
  it("'message' has owned packets, and info that lasts", async () => {
    const a = near({ timestamps: true });
    const b = far();
    const got: [Buffer, bigint, string][] = [];
    const done = new Promise<void>((resolve) =>
      a.on('message', (packet, info) => {
        got.push([packet, info.timestamp as bigint, info.packetType as string]);
        if (got.length === 150) resolve();
      }),
    );
    const before = BigInt(Date.now()) * 1_000_000n;
    for (let i = 0; i < 150; i++) b.send(text(`m${i}`));
    await done;
    const after = BigInt(Date.now() + 1) * 1_000_000n;
    got.forEach(([packet, timestamp, type], i) => {
      expect(packet).toEqual(text(`m${i}`));
      expect(timestamp >= before && timestamp <= after).toBe(true);
      expect(type).toBe('host');
    });
  });

  it("'message' does not cut a frame of 64 KiB", async () => {
    // Loopback takes the largest frames that there are.
    const open = () =>
      kept(PacketSocket.open({ interface: 'lo', protocol: TEST, netns: pair.near, ignoreOutgoing: true }));
    const [a, b] = [open(), open()];
    const large = frame(TEST, Buffer.alloc(65536, 5), '00:00:00:00:00:00', '00:00:00:00:00:00');
    const messages: Buffer[] = [];
    const done = new Promise<void>((resolve) =>
      a.on('message', (packet, { flags }) => {
        expect(flags).toBe(0);
        messages.push(packet);
        if (messages.length === 3) resolve();
      }),
    );
    for (let i = 0; i < 3; i++) b.sendmsg(large);
    await done;
    for (const message of messages) expect(message.equals(large)).toBe(true);
  });

  it('iterates, streams, and receives by promise', async () => {
    const a = near();
    const b = far();
    b.send(text('promised'));
    expect(await a.receive()).toEqual(text('promised'));
    b.send(text('iterated'));
    for await (const packet of a) {
      expect(packet).toEqual(text('iterated'));
      break;
    }
    const stream = a.stream();
    far().stream().write(text('streamed'));
    expect((await once(stream, 'data'))[0]).toEqual(text('streamed'));
    stream.destroy();
    await once(a, 'close');
  });

  it('says once that the interface went down, and goes on when it is up again', async () => {
    const a = near();
    const b = far();
    const errors: unknown[] = [];
    a.on('error', (error) => errors.push(error));
    a.on('message', () => {});
    await once(a, 'listening');
    await new Promise(setImmediate);
    const down = once(a, 'error');
    pair.nearLink.down();
    await down.catch(() => {});
    expect(() => a.sendmsg(frame(TEST, Buffer.alloc(50), FAR_MAC, NEAR_MAC))).toThrow(
      expect.objectContaining({ code: 'ENETDOWN', syscall: 'sendmsg', interface: 'v0' }),
    );
    pair.nearLink.up();
    for (const link of [pair.nearLink, pair.farLink]) untilRunning(link);
    const message = once(a, 'message');
    b.sendmsg(text('back'));
    expect((await message)[0]).toEqual(text('back'));
    expect(errors).toEqual([expect.objectContaining({ code: 'ENETDOWN', interface: 'v0' })]);
    expect(a.closed).toBe(false);
  });

  it('recvmsg says once that the interface went down', () => {
    const a = near();
    pair.nearLink.down();
    expect(() => a.recvmsg(room())).toThrow(expect.objectContaining({ code: 'ENETDOWN' }));
    expect(() => a.recvmsg(room(), MSG_DONTWAIT)).toThrow(empty);
    pair.nearLink.up();
    for (const link of [pair.nearLink, pair.farLink]) untilRunning(link);
    far().sendmsg(text('back'));
    expect(a.recvmsg(room()).bytes).toBe(64);
  });

  it('opens on an interface that is down', () => {
    pair.nearLink.down();
    const a = near();
    expect(() => a.recvmsg(room(), MSG_DONTWAIT)).toThrow(empty);
    pair.nearLink.up();
    for (const link of [pair.nearLink, pair.farLink]) untilRunning(link);
    far().sendmsg(text('up'));
    expect(a.recvmsg(room()).bytes).toBe(64);
  });

  it.each(['up', 'down'] as const)('ends when the interface, being %s, is deleted', async (state) => {
    const a = near();
    const blocked = near();
    a.on('message', () => {});
    if (state === 'down') {
      const down = once(a, 'error');
      a.on('error', () => {});
      pair.nearLink.down();
      await down.catch(() => {});
    }
    const error = new Promise((resolve) => a.once('error', resolve));
    const close = new Promise<void>((resolve) => a.once('close', resolve));
    pair.nearLink.delete();
    expect(await error).toEqual(expect.objectContaining({ code: 'EBADFD', interface: 'v0' }));
    await close;
    expect(a.closed).toBe(true);
    expect(() => a.recvmsg(room())).toThrow(expect.objectContaining({ code: 'ERR_SOCKET_CLOSED' }));
    const gone = expect.objectContaining({ code: 'EBADFD' });
    for (let i = 0; i < 2; i++) expect(() => blocked.recvmsg(room())).toThrow(gone);
    expect(() => blocked.sendmsg(text(''))).toThrow(gone);
  });
});

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
    const a = near({ protocol: 'all', auxdata: true });
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
      pair.near.run(() => spawnSync('ip', ['-d', 'link', 'show', 'v0'], { encoding: 'utf8' })).stdout;
    const a = near({ promiscuous: true });
    expect(promiscuity()).toContain('promiscuity 1');
    a.close();
    expect(promiscuity()).toContain('promiscuity 0');
    expect(pair.nearLink.flags & IFF_PROMISC).toBe(0);
  });

  it('buffers are as large as asked for', () => {
    const a = near({ receiveBuffer: 100_000, sendBuffer: 50_000 });
    expect([a.getReceiveBufferSize(), a.getSendBufferSize()]).toEqual([200_000, 100_000]);
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

describe('bad input', () => {
  it('no such interface', () => {
    const before = descriptors();
    expect(() => near({ interface: 'nope' })).toThrow(
      expect.objectContaining({ code: 'ENODEV', interface: 'nope' }),
    );
    expect(descriptors()).toBe(before);
  });

  it.each([
    [{ interface: 'a/b' }, 'ERR_INVALID_ARG_VALUE'],
    [{ interface: undefined }, 'ERR_INVALID_ARG_TYPE'],
    [{ interface: 1 }, 'ERR_INVALID_ARG_TYPE'],
    [{ type: 'stream' }, 'ERR_INVALID_ARG_VALUE'],
    [{ protocol: 'tcp' }, 'ERR_INVALID_ARG_VALUE'],
    [{ protocol: 65536 }, 'ERR_OUT_OF_RANGE'],
    [{ protocol: true }, 'ERR_INVALID_ARG_TYPE'],
    [{ promiscuous: 1 }, 'ERR_INVALID_ARG_TYPE'],
    [{ fanout: { group: 65536, mode: 'hash' } }, 'ERR_OUT_OF_RANGE'],
    [{ fanout: { group: 1 } }, 'ERR_INVALID_ARG_TYPE'],
    [{ fanout: { group: 1, mode: 'ebpf' } }, 'ERR_INVALID_ARG_VALUE'],
    [{ offload: 'split' }, 'ERR_INVALID_ARG_VALUE'],
    [{ destination: { address: NEAR_MAC } }, 'ERR_INVALID_ARG_VALUE'],
    [{ type: 'dgram', destination: { address: 'x' } }, 'ERR_INVALID_ARG_VALUE'],
    [{ receiveBuffer: 0 }, 'ERR_OUT_OF_RANGE'],
    [{ sendBuffer: 2 ** 31 }, 'ERR_OUT_OF_RANGE'],
    [{ timeout: 1 }, 'ERR_INVALID_ARG_VALUE'],
  ])('%j: %s', (options, code) => {
    expect(() => near(options as never)).toThrow(expect.objectContaining({ code }));
  });

  it('without CAP_NET_RAW', () => {
    const script = `
      const { PacketSocket } = require(${JSON.stringify(dist)});
      try { PacketSocket.open({ interface: 'lo' }); } catch (error) { console.log(error.message); }`;
    const { stdout } = spawnSync(
      'setpriv',
      ['--bounding-set=-all', '--inh-caps=-all', process.execPath, '-e', script],
      {
        encoding: 'utf8',
      },
    );
    expect(stdout).toMatch(/^socket EPERM.*CAP_NET_RAW/);
  });
});

describe('fromFd', () => {
  /** What `code` prints as JSON, in a process that got the socket's descriptor as its own number 3. */
  function inheriting(socket: MessageSocket, code: string): unknown {
    const script = `
      const { socketFromFd, TunSocket, PacketSocket, constants } = require(${JSON.stringify(dist)});
      const { fstatSync } = require('node:fs');
      ${code}`;
    const { stdout, stderr } = spawnSync(process.execPath, ['-e', script], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe', socket.fd],
    });
    expect(stderr).toBe('');
    return JSON.parse(stdout);
  }
  const describeSocket = `
    const { constructor, name, index, type } = socket;
    console.log(JSON.stringify([constructor.name, name, index, type, socket.fd]));`;

  it('gives a PacketSocket for a packet socket, whatever namespace it is of', () => {
    const socket = near({ type: 'dgram' });
    const seen = inheriting(socket, `const socket = socketFromFd(3); ${describeSocket} socket.close();`);
    expect(seen).toEqual(['PacketSocket', 'v0', socket.index, 'dgram', 3]);
  });

  it('gives a TunSocket for a tun descriptor', () => {
    const socket = kept(TunSocket.open({ name: 't7', netns: pair.near }));
    const seen = inheriting(socket, `const socket = socketFromFd(3); ${describeSocket} socket.close();`);
    expect(seen).toEqual(['TunSocket', 't7', socket.index, null, 3]);
  });

  it('takes options of the socket over: what it was asked to tell, it tells', () => {
    const socket = near({ timestamps: true });
    far().sendmsg(text('queued'));
    const code = `
      const { bytes, timestamp, address } = socketFromFd(3).recvmsg(Buffer.alloc(100), constants.MSG_DONTWAIT);
      console.log(JSON.stringify([bytes, typeof timestamp, address]));`;
    expect(inheriting(socket, code)).toEqual([64, 'bigint', FAR_MAC]);
  });

  it('ENOTSOCK, EBADF and EBADFD leave the descriptor with the caller', async () => {
    const server = createServer().listen(0);
    await once(server, 'listening');
    const socketFd = (server as unknown as { _handle: { fd: number } })._handle.fd;
    const file = openSync('/dev/null', 'r');
    for (const fd of [file, socketFd]) {
      for (const adopt of [socketFromFd, PacketSocket.fromFd, TunSocket.fromFd]) {
        expect(() => adopt(fd)).toThrow(expect.objectContaining({ code: 'ENOTSOCK' }));
      }
      fstatSync(fd);
    }
    closeSync(file);
    server.close();
    expect(() => socketFromFd(file)).toThrow(expect.objectContaining({ code: 'EBADF' }));
    expect(() => socketFromFd(-1)).toThrow(RangeError);
    const a = near();
    pair.nearLink.delete();
    expect(() => socketFromFd(a.fd)).toThrow(expect.objectContaining({ code: 'EBADFD' }));
    fstatSync(a.fd);
  });
});

it('a tun device is seen by a packet socket, byte for byte', () => {
  const tun = kept(TunSocket.open({ name: 't0', netns: pair.near, address: '10.5.0.1/24' }));
  const tap = kept(
    PacketSocket.open({ interface: 't0', netns: pair.near, protocol: 'ip', receiveTimeout: 5000 }),
  );
  const packet = Buffer.from('4500001c000000004011000000000000000000000000000000080000', 'hex');
  tun.sendmsg(packet);
  const data = room();
  const { bytes, address, hardwareType } = tap.recvmsg(data);
  expect(data.subarray(0, bytes)).toEqual(packet);
  expect([address, hardwareType]).toEqual(['', 65534]);
  expect(pair.near.run(() => Link.get('t0').counters().rxPackets)).toBeGreaterThan(0);
});
