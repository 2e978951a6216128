import { describe, expect, it } from 'vitest';
import { constants, Link, PacketBatch, PacketSocket, TunSocket } from '../../dist';
import { empty, OTHER, packetStage, room, TEST, text } from '../helpers/packet-stage';
import { FAR_MAC, frame, NEAR_MAC } from '../helpers/pair';

const { MSG_DONTWAIT, MSG_ERRQUEUE, MSG_PEEK, MSG_TRUNC } = constants;
const stage = packetStage();
const { near, far, kept } = stage;

describe('sendmsg and recvmsg', () => {
  it('move frames both ways, as they are', () => {
    const a = near();
    const b = far();
    expect([a.name, a.type, b.name]).toEqual(['v0', 'raw', 'v1']);
    expect(a.index).toBe(stage.pair.nearLink.index);
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
      expect(info).toMatchObject({ vlan: undefined, timestamp: undefined });
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

it('a tun device is seen by a packet socket, byte for byte', () => {
  const tun = kept(TunSocket.open({ name: 't0', netns: stage.pair.near, address: '10.5.0.1/24' }));
  const tap = kept(
    PacketSocket.open({ interface: 't0', netns: stage.pair.near, protocol: 'ip', receiveTimeout: 5000 }),
  );
  const packet = Buffer.from('4500001c000000004011000000000000000000000000000000080000', 'hex');
  tun.sendmsg(packet);
  const data = room();
  const { bytes, address, hardwareType } = tap.recvmsg(data);
  expect(data.subarray(0, bytes)).toEqual(packet);
  expect([address, hardwareType]).toEqual(['', 65534]);
  expect(stage.pair.near.run(() => Link.get('t0').counters().rxPackets)).toBeGreaterThan(0);
});
