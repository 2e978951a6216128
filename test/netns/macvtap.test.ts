import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants as fsConstants } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  constants,
  Link,
  Netns,
  PacketBatch,
  PacketSocket,
  socketFromFd,
  type TunOptions,
  TunSocket,
} from '../../dist';
import { codeOf } from '../helpers/device';
import { enterQuietNamespace } from '../helpers/namespace';
import { ethernetFrame, udpPacket } from '../helpers/packets';
import { HAS_TC } from '../helpers/slow-link';

/**
 * macvtap and ipvtap: links with a character device, which TunSocket opens as `device`. Their driver (drivers/net/tap.c) has some of what
 * the one of /dev/net/tun has; each call of TunSocket is tried on it.
 */

const { MSG_DONTWAIT, MSG_TRUNC } = constants;
const FAR_MAC = '02:00:00:00:00:09';
const macBytes = (mac: string) => Buffer.from(mac.replaceAll(':', ''), 'hex');
const ETH_P_IP = 0x0800;

type Kind = 'macvtap' | 'ipvtap';

enterQuietNamespace();
// Character devices are the whole machine's, by the index of the link alone: from one on that no other namespace has.
for (let count = 0; count < 90; count++) Link.create({ type: 'bridge', name: `b${count}` });

/** The link, on one end of a cable whose other end is v1. */
function make(kind: Kind): Link {
  Link.create({ type: 'veth', name: 'v0', peer: { name: 'v1' }, up: true });
  Link.get('v1').up();
  return kind === 'macvtap'
    ? Link.create({ type: kind, name: 'tap', link: 'v0', mode: 'bridge', up: true })
    : Link.create({ type: kind, name: 'tap', link: 'v0', mode: 'l2', up: true });
}

/** Why a kind of link can't be tried here; undefined where it can. */
function missing(kind: Kind): string | undefined {
  try {
    accessSync(make(kind).device as string, fsConstants.R_OK | fsConstants.W_OK);
    return undefined;
  } catch (error) {
    return (error as Error).message;
  } finally {
    // With all that is on it.
    Link.get('v0').delete();
  }
}

describe.each<Kind>(['macvtap', 'ipvtap'])('%s', (kind) => {
  const reason = missing(kind);
  if (reason !== undefined) console.log(`skipped: ${kind}, since ${reason}`);
  const here = it.runIf(reason === undefined);

  let link: Link;
  let far: PacketSocket;
  const opened: TunSocket[] = [];
  const open = (options: object = {}) => {
    const socket = TunSocket.open({ device: link.device as string, mode: 'tap', ...options } as TunOptions);
    opened.push(socket);
    return socket;
  };
  /** A frame from beyond the cable to the link's address, of a flow; what the cable carries is told apart by its port. */
  const frameTo = (flow = 0, data = 'to the tap') =>
    ethernetFrame(
      macBytes(link.mac),
      macBytes(FAR_MAC),
      ETH_P_IP,
      udpPacket(['10.0.0.2', 4000 + flow], ['10.0.0.1', 7], data),
    );
  const frameFrom = (data = 'from the tap') =>
    ethernetFrame(
      macBytes(FAR_MAC),
      macBytes(link.mac),
      ETH_P_IP,
      udpPacket(['10.0.0.1', 7], ['10.0.0.2', 4000], data),
    );
  const received = (socket: TunSocket) => socket.recvmmsg(new PacketBatch(), MSG_DONTWAIT);
  /** What is left at the cable's end, of IPv4. */
  const beyond = () => {
    const batch = new PacketBatch();
    far.recvmmsg(batch, MSG_DONTWAIT);
    return [...batch].map((frame) => Buffer.from(frame));
  };

  beforeEach(() => {
    if (reason !== undefined) return;
    link = make(kind);
    // ipvtap knows whose a packet is by its address.
    link.addAddress('10.0.0.1/24');
    far = PacketSocket.open({ interface: 'v1', protocol: ETH_P_IP, ignoreOutgoing: true, offload: 'none' });
  });
  afterEach(() => {
    if (reason !== undefined) return;
    for (const socket of opened.splice(0)) if (!socket.closed) socket.close();
    far.close();
    Link.get('v0').delete();
  });

  describe('what works', () => {
    here('features() are those of its driver', () => {
      expect(TunSocket.features(link.device)).toMatchObject({
        tun: false,
        tap: true,
        packetInfo: false,
        virtioHeader: true,
        multiQueue: true,
        napi: false,
        napiFrags: false,
        noCarrier: false,
      });
    });

    here('packets both ways, by calls and by events, truncated and in batches', async () => {
      const tap = open();
      expect(tap).toMatchObject({ name: 'tap', index: link.index, offload: 'none' });
      expect(tap.link.type).toBe(kind);
      const { mode, persist, queues, virtioHeaderSize } = tap.info();
      expect({ mode, persist, queues, virtioHeaderSize }).toEqual({
        mode: 'tap',
        persist: false,
        queues: undefined,
        virtioHeaderSize: 0,
      });
      far.sendmsg(frameTo());
      const data = Buffer.alloc(2048);
      const { bytes } = tap.recvmsg(data, MSG_DONTWAIT);
      expect(data.subarray(0, bytes)).toEqual(frameTo());
      far.sendmsg(frameTo());
      expect(tap.recvmsg(Buffer.alloc(10), MSG_DONTWAIT | MSG_TRUNC)).toMatchObject({
        bytes: bytes,
        flags: MSG_TRUNC,
      });
      for (let flow = 0; flow < 5; flow++) far.sendmsg(frameTo(flow));
      expect(received(tap)).toBe(5);
      expect(codeOf(() => tap.recvmsg(data, MSG_DONTWAIT))).toBe('EAGAIN');
      expect(tap.sendmsg(frameFrom())).toBe(frameFrom().length);
      expect(beyond()).toEqual([frameFrom()]);
      const next = tap.receive({ signal: AbortSignal.timeout(5000) });
      far.sendmsg(frameTo(1));
      expect(await next).toEqual(frameTo(1));
    });

    here('queues: each open() is one more, openQueue() too; a detached one gets nothing', () => {
      const first = open({ multiQueue: true });
      const second = first.openQueue();
      opened.push(second);
      expect([second.name, first.queueAttached, second.queueAttached]).toEqual(['tap', true, true]);
      first.detachQueue();
      expect(first.queueAttached).toBe(false);
      for (let flow = 0; flow < 20; flow++) far.sendmsg(frameTo(flow));
      expect([received(first), received(second)]).toEqual([0, 20]);
      expect(first.sendmsg(frameFrom())).toBe(frameFrom().length);
      expect(beyond()).toHaveLength(1);
      first.attachQueue();
      second.detachQueue();
      for (let flow = 0; flow < 20; flow++) far.sendmsg(frameTo(flow));
      expect([received(first), received(second)]).toEqual([20, 0]);
      expect(codeOf(() => first.attachQueue())).toBe('EINVAL');
      expect(codeOf(() => open().openQueue())).toBe('ERR_INVALID_STATE');
    });

    here(
      "offload: superpackets in 'raw', packets in 'split', and what is unfinished finished by the kernel",
      () => {
        const raw = open({ offload: 'raw' });
        expect(raw.offload).toBe('raw');
        expect(raw.offloadFeatures).toContain('tso4');
        expect(raw.info().virtioHeaderSize).toBe(10);
        const unfinished = ethernetFrame(
          macBytes(FAR_MAC),
          macBytes(link.mac),
          ETH_P_IP,
          udpPacket(['10.0.0.1', 7], ['10.0.0.2', 4000], 'from the tap', { unfinished: true }),
        );
        raw.sendmsg(unfinished, 0, {
          offload: { needsChecksum: true, checksumStart: 34, checksumOffset: 6 },
        });
        // The cable's end asks for whole frames, which PACKET_VNET_HDR would not give.
        using whole = PacketSocket.open({ interface: 'v1', protocol: ETH_P_IP, ignoreOutgoing: true });
        raw.sendmsg(unfinished, 0, {
          offload: { needsChecksum: true, checksumStart: 34, checksumOffset: 6 },
        });
        const frame = Buffer.alloc(2048);
        const { bytes } = whole.recvmsg(frame, MSG_DONTWAIT);
        expect(frame.subarray(0, bytes)).toEqual(frameFrom());
        raw.close();
        const split = open({ offload: 'split' });
        far.sendmsg(frameTo());
        expect(received(split)).toBe(1);
        split.sendmsg(frameFrom());
        expect(beyond()).toContainEqual(frameFrom());
      },
    );

    here('options of the link, headers of another size, and a descriptor that is handed over', () => {
      const tap = open({
        offload: 'raw',
        virtioHeaderSize: 12,
        byteOrder: 'little',
        mtu: 1300,
        txQueueLength: 5,
        ...(kind === 'macvtap' && { mac: '02:00:00:00:00:0a' }),
      });
      expect(tap.info().virtioHeaderSize).toBe(12);
      expect([link.mtu, link.txQueueLength]).toEqual([1300, 5]);
      if (kind === 'macvtap') expect(link.mac).toBe('02:00:00:00:00:0a');
      for (let flow = 0; flow < 20; flow++) far.sendmsg(frameTo(flow));
      expect(received(tap)).toBe(5);
      const again = socketFromFd(tap.detach()) as TunSocket;
      opened.push(again);
      expect(again).toMatchObject({ name: 'tap', index: link.index, offload: 'raw' });
      expect(again.link.type).toBe(kind);
      far.sendmsg(frameTo());
      expect(received(again)).toBe(1);
    });

    it.runIf(reason === undefined && HAS_TC)(
      'a send buffer: EAGAIN while the cable is slow, and on it goes',
      () => {
        const tc = (...words: string[]) => expect(spawnSync('tc', ['qdisc', ...words]).status).toBe(0);
        tc('add', 'dev', 'v0', 'root', 'tbf', 'rate', '10kbit', 'burst', '1600', 'limit', '1000000');
        const tap = open();
        tap.setSendBufferSize(16_384);
        const frame = frameFrom('x'.repeat(1400));
        const fill = () => {
          for (let count = 0; count < 1000; count++) tap.sendmsg(frame, MSG_DONTWAIT);
        };
        expect(codeOf(fill)).toBe('EAGAIN');
        tc('change', 'dev', 'v0', 'root', 'tbf', 'rate', '1gbit', 'burst', '100000', 'limit', '1000000');
        expect(tap.sendmsg(frame)).toBe(frame.length);
      },
    );

    here('in another namespace, with a queue more', () => {
      const ns = Netns.create();
      link.down();
      link.moveTo(ns);
      ns.run(() => link.up());
      const tap = TunSocket.open({ device: link.device as string, mode: 'tap', multiQueue: true, netns: ns });
      const queue = tap.openQueue();
      expect([tap.link.type, queue.link.index]).toEqual([kind, link.index]);
      tap.close();
      queue.close();
      link.delete();
      ns.close();
    });
  });

  describe('what the kernel refuses', () => {
    const refused = (request: string) =>
      expect.objectContaining({
        code: 'EINVAL',
        syscall: request,
        interface: 'tap',
        message: expect.stringContaining(
          `a ${kind} has no such request: it is one of devices of /dev/net/tun`,
        ),
      });

    here.each<[string, (tap: TunSocket) => unknown]>([
      ['TUNGETSNDBUF', (tap) => tap.getSendBufferSize()],
      ['TUNSETOWNER', (tap) => tap.setOwner(1)],
      ['TUNSETGROUP', (tap) => tap.setGroup(1)],
      ['TUNSETPERSIST', (tap) => tap.setPersist(true)],
      ['TUNSETCARRIER', (tap) => tap.setCarrier(false)],
      ['TUNATTACHFILTER', (tap) => tap.setFilter([{ code: 6, jt: 0, jf: 0, k: 0 }])],
      ['TUNDETACHFILTER', (tap) => tap.removeFilter()],
      ['TUNGETFILTER', (tap) => tap.getFilter()],
      ['TUNSETTXFILTER', (tap) => tap.setTransmitFilter({ addresses: ['02:00:00:00:00:01'] })],
      ['TUNSETSTEERINGEBPF', (tap) => tap.setSteering(null)],
      ['TUNSETFILTEREBPF', (tap) => tap.setPacketFilter(null)],
    ])('%s, with the reason; the socket works on', (request, call) => {
      const tap = open();
      expect(() => call(tap)).toThrow(refused(request));
      far.sendmsg(frameTo());
      expect(received(tap)).toBe(1);
    });

    here.each<[string, object]>([
      ['TUNSETOWNER', { owner: 1 }],
      ['TUNSETGROUP', { group: 1 }],
      ['TUNSETPERSIST', { persist: true }],
      ['TUNSETLINK', { linkType: 519 }],
      ['TUNSETDEBUG', { debug: 1 }],
      ['TUNATTACHFILTER', { filter: [{ code: 6, jt: 0, jf: 0, k: 0 }] }],
    ])('%s as an option, with the reason, and leaves the link as it was', (request, options) => {
      const { mtu } = link;
      expect(() => open({ ...options, mtu: 1280 })).toThrow(refused(request));
      expect(link.mtu).toBe(mtu);
    });

    here.each<[object]>([
      [{ mode: 'tun' }],
      [{ packetInfo: true }],
      [{ napi: true }],
      [{ napi: 'frags' }],
      [{ noCarrier: true }],
      [{ exclusive: true }],
    ])('%j, with what it takes', (options) => {
      expect(() => open(options)).toThrow(
        expect.objectContaining({
          code: 'EINVAL',
          syscall: 'TUNSETIFF',
          message: expect.stringContaining("takes mode: 'tap'"),
        }),
      );
    });

    here('another number than its own', () => {
      expect(() => open({ index: 77 })).toThrow(
        expect.objectContaining({
          code: 'EINVAL',
          syscall: 'TUNSETIFINDEX',
          message: expect.stringContaining('the number that it was made with'),
        }),
      );
    });
  });

  here('what is gone is told by the link, and a descriptor of it is taken over no more', async () => {
    const tap = open();
    const kinds: string[] = [];
    tap.on('link', (change) => kinds.push(change.kind));
    tap.on('message', () => {});
    const error = once(tap, 'error');
    const closed = new Promise<void>((resolve) => tap.once('close', resolve));
    const other = open({ multiQueue: true });
    await new Promise(setImmediate);
    link.delete();
    expect((await error)[0]).toMatchObject({ code: 'EBADFD' });
    await closed;
    expect(kinds).toContain('removed');
    expect(codeOf(() => other.info())).toBe('EBADFD');
    expect(codeOf(() => socketFromFd(other.detach()))).toBe('EBADFD');
  });
});
