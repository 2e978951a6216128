import { describe, expect, it } from 'vitest';
import { constants, PacketBatch, type PacketSocket, TunSocket } from '../../dist';
import { empty, packetStage, room, TEST } from '../helpers/packet-stage';
import { frame } from '../helpers/pair';

const { MSG_DONTWAIT, MSG_PEEK, MSG_TRUNC } = constants;
const stage = packetStage();
const { near, far, kept } = stage;

const PAYLOAD = Buffer.from(Array.from({ length: 50 }, (_, index) => index));
/** A frame with a tag of EtherType `protocol`; `tag` is priority, drop eligible bit and number. IEEE 802.1Q, 9.3 to 9.6. */
const tagged = (protocol: number, tag: number, payload = PAYLOAD) =>
  frame(protocol, Buffer.concat([Buffer.from([tag >> 8, tag & 255, TEST >> 8, TEST & 255]), payload]));

const kinds: [string, Buffer][] = [
  ['a tag', tagged(0x8100, 100)],
  ['all bits of a tag', tagged(0x8100, 0xbfff)],
  ['a priority tag', tagged(0x8100, 0xa000)],
  ['an empty priority tag', tagged(0x8100, 0)],
  ['a service tag', tagged(0x88a8, 100)],
  [
    'a service tag and a tag',
    frame(0x88a8, Buffer.concat([Buffer.from([0, 7]), tagged(0x8100, 9).subarray(12)])),
  ],
  ['no tag', frame(TEST, PAYLOAD)],
];

/** Each way to receive one frame. */
const ways: [string, (socket: PacketSocket) => Promise<Buffer>][] = [
  [
    'recvmsg',
    async (socket) => {
      const data = room();
      return data.subarray(0, socket.recvmsg(data).bytes);
    },
  ],
  [
    'recvmmsg',
    async (socket) => {
      const batch = new PacketBatch();
      socket.recvmmsg(batch);
      return Buffer.from(batch.at(0));
    },
  ],
  ["'message'", (socket) => new Promise((resolve) => socket.once('message', resolve))],
  [
    "'batch'",
    (socket) => new Promise((resolve) => socket.once('batch', (batch) => resolve(Buffer.from(batch.at(0))))),
  ],
  ['receive()', (socket) => socket.receive()],
];

describe.each(['none', 'split', 'raw'] as const)("with offload '%s'", (offload) => {
  const open = () => near({ protocol: 'all', offload, ignoreOutgoing: true });

  it.each(kinds)('a frame with %s is as it was on the cable, however it is received', async (_, bytes) => {
    for (const [way, receive] of ways) {
      const socket = open();
      far().sendmsg(bytes);
      expect(await receive(socket), way).toEqual(bytes);
      socket.close();
    }
  });

  it('a batch passes tags on', () => {
    const tap = kept(TunSocket.open({ mode: 'tap', netns: stage.pair.near, name: 'out' }));
    const seen = far({ protocol: 'all', ignoreOutgoing: true });
    const from = open();
    const batch = new PacketBatch();
    for (const [, bytes] of kinds) batch.push(bytes);
    far().sendmmsg(batch);
    const received = new PacketBatch();
    expect(from.recvmmsg(received)).toBe(kinds.length);
    expect([...received]).toEqual(kinds.map(([, bytes]) => bytes));
    // The same batch, out again where it came from: it comes in at the other end.
    if (offload !== 'raw') expect(tap.sendmmsg(received)).toBe(kinds.length);
    expect(near({ protocol: 0 }).sendmmsg(received)).toBe(kinds.length);
    for (const [, bytes] of kinds) {
      const data = room();
      expect(data.subarray(0, seen.recvmsg(data).bytes)).toEqual(bytes);
    }
  });

  it('lengths are those of the frame with its tag, and a view takes as much as it has room for', () => {
    const bytes = tagged(0x8100, 100);
    const sender = far();
    const socket = open();
    for (const length of [
      1,
      11,
      12,
      13,
      14,
      15,
      16,
      17,
      30,
      bytes.length - 5,
      bytes.length - 4,
      bytes.length - 1,
    ]) {
      sender.sendmsg(bytes);
      const data = Buffer.alloc(length);
      const info = socket.recvmsg(data, MSG_TRUNC);
      expect(info, `${length}`).toMatchObject({ size: bytes.length, bytes: bytes.length, flags: MSG_TRUNC });
      expect(data).toEqual(bytes.subarray(0, length));
    }
    sender.sendmsg(bytes);
    const whole = Buffer.alloc(bytes.length);
    expect(socket.recvmsg(whole)).toMatchObject({ size: bytes.length, bytes: bytes.length, flags: 0 });
    expect(whole).toEqual(bytes);
    expect(() => socket.recvmsg(whole, MSG_DONTWAIT)).toThrow(empty);
  });

  it.each([[[1, 1, 1]], [[3, 9, 2, 1, 1]], [[12, 1, 3]], [[10, 3, 1, 1, 1]], [[5, 0, 9, 4]]])(
    'scattered over views of %j bytes and one more',
    (sizes) => {
      const bytes = tagged(0x88a8, 0x2123);
      const socket = open();
      far().sendmsg(bytes);
      const views = [...sizes, 500].map((size) => Buffer.alloc(size));
      const { bytes: length } = socket.recvmsg(views);
      expect(Buffer.concat(views).subarray(0, length)).toEqual(bytes);
    },
  );

  it('slots of a batch cut a frame with its tag', () => {
    const bytes = tagged(0x8100, 100);
    const socket = open();
    const batch = new PacketBatch({ packetSize: bytes.length - 3 });
    for (let i = 0; i < 3; i++) far().sendmsg(bytes);
    expect(socket.recvmmsg(batch)).toBe(3);
    for (let i = 0; i < 3; i++) {
      expect(batch.at(i)).toEqual(bytes.subarray(0, bytes.length - 3));
      expect([batch.sizes[i], batch.flags[i]]).toEqual([bytes.length, MSG_TRUNC]);
    }
    expect(socket.stats().received).toMatchObject({ packets: 3, bytes: 3 * bytes.length, truncated: 3 });
  });

  it('MSG_PEEK shows what comes', () => {
    const socket = open();
    far().sendmsg(tagged(0x8100, 100));
    const [first, second] = [room(), room()];
    const { bytes } = socket.recvmsg(first, MSG_PEEK);
    expect(socket.recvmsg(second).bytes).toBe(bytes);
    expect(first).toEqual(second);
  });

  it("vlan: 'metadata' leaves the tag to info", () => {
    const socket = near({ protocol: 'all', offload, vlan: 'metadata' });
    far().sendmsg(tagged(0x8100, 0xb02a));
    const data = room();
    const info = socket.recvmsg(data);
    expect(info.vlan).toEqual({ id: 42, priority: 5, dropEligible: true, protocol: 0x8100 });
    expect(data.subarray(0, info.bytes)).toEqual(frame(TEST, PAYLOAD));
  });
});

it("'raw': what is still to be done is counted from the frame with its tag", () => {
  const UDP_AT = 14 + 20;
  const payload = Buffer.alloc(28 + 100, 1);
  payload.writeUInt8(0x45, 0);
  payload.writeUInt16BE(payload.length, 2);
  payload.writeUInt8(17, 9);
  const inner = Buffer.concat([Buffer.from([0, 100, 0x08, 0]), payload]);
  const socket = near({ protocol: 'all', offload: 'raw' });
  const offload = { needsChecksum: true, checksumStart: UDP_AT + 4, checksumOffset: 6 };
  far({ offload: 'raw' }).sendmsg(frame(0x8100, inner), 0, { offload });
  const data = room();
  const info = socket.recvmsg(data);
  expect(data.subarray(0, info.bytes)).toEqual(frame(0x8100, inner));
  expect(info.offload).toMatchObject(offload);
});

it("a 'dgram' socket has no frame for a tag to stand in", () => {
  expect(() => near({ type: 'dgram', vlan: 'inline' } as object)).toThrow(
    expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }),
  );
  const socket = near({ type: 'dgram', protocol: 'all' });
  far().sendmsg(tagged(0x8100, 42));
  const data = room();
  const info = socket.recvmsg(data);
  expect(info.vlan?.id).toBe(42);
  expect(data.subarray(0, info.bytes)).toEqual(PAYLOAD);
});
