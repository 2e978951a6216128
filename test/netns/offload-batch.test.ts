import { randomBytes } from 'node:crypto';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { constants, type OffloadMode, PacketBatch, TunSocket } from '../../dist';
import { codeOf, HOST, PEER } from '../helpers/device';
import { enterQuietNamespace } from '../helpers/namespace';
import { turnRound, udpPacket } from '../helpers/packets';

const { MSG_DONTWAIT, VIRTIO_NET_HDR_GSO_UDP_L4 } = constants;

beforeAll(() => {
  enterQuietNamespace();
  // A packet may come in by another device than its answer would go out by.
  for (const of of ['all', 'default']) writeFileSync(`/proc/sys/net/ipv4/conf/${of}/rp_filter`, '0');
});

const sockets: TunSocket[] = [];
let udp: Socket;
let arrived: string[];
beforeEach(async () => {
  udp = createSocket('udp4').bind(0);
  await once(udp, 'listening');
  arrived = [];
  udp.on('message', (message) => arrived.push(message.toString()));
});
afterEach(() => {
  udp.close();
  for (const socket of sockets.splice(0)) socket[Symbol.dispose]();
});

/** A device; the first one has the host's address. */
function open(offload: OffloadMode): TunSocket {
  const address = sockets.length === 0 ? `${HOST}/24` : '10.0.1.1/24';
  const socket = TunSocket.open({ offload, address, receiveTimeout: 5000 });
  sockets.push(socket);
  return socket;
}
const gso = {
  needsChecksum: true,
  checksumStart: 20,
  checksumOffset: 6,
  gsoType: VIRTIO_NET_HDR_GSO_UDP_L4,
  gsoSize: 4,
};
const packet = (data: string, unfinished = false) =>
  udpPacket([PEER, 4000], [HOST, udp.address().port], data, { unfinished });
/** Sends by `socket` the last packet of a test, and waits until it is there: what has not come by then never will. */
const arrivedUpTo = async (end: string, socket: TunSocket) => {
  socket.sendmsg(packet(end));
  while (arrived.at(-1) !== end) await once(udp, 'message');
  return arrived.slice(0, -1);
};
const hostSends = async (data: string) => {
  await new Promise((resolve) => udp.send(data, 9, PEER, resolve));
};

describe("a socket with offload 'none'", () => {
  it('refuses a packet that is not finished, and only it', async () => {
    const tun = open('none');
    const batch = new PacketBatch();
    batch.push(packet('1'));
    batch.push(packet('2222333', true), { offload: gso });
    batch.push(packet('4', true), { offload: { needsChecksum: true, checksumStart: 20, checksumOffset: 6 } });
    batch.push(packet('5'));
    expect(tun.sendmmsg(batch)).toBe(1);
    for (const start of [1, 2]) expect(codeOf(() => tun.sendmmsg(batch, 0, start))).toBe('EOPNOTSUPP');
    expect(tun.sendmmsg(batch, 0, 3)).toBe(1);
    expect(await arrivedUpTo('end', tun)).toEqual(['1', '5']);
  });

  it('refuses the option with each call, and sends nothing', async () => {
    const tun = open('none');
    const options = { offload: gso };
    expect(codeOf(() => tun.sendmsg(packet('x', true), 0, options))).toBe('ERR_INVALID_ARG_VALUE');
    expect(codeOf(() => tun.send(packet('x', true), options))).toBe('ERR_INVALID_ARG_VALUE');
    expect(tun.getSendQueueCount()).toBe(0);
    expect(await arrivedUpTo('end', tun)).toEqual([]);
  });

  it('has no use for what says that nothing is left to do', async () => {
    const tun = open('none');
    const batch = new PacketBatch();
    batch.push(packet('whole'), { offload: { checksumValid: true, headerLength: 28 } });
    expect(tun.sendmmsg(batch)).toBe(1);
    expect(await arrivedUpTo('end', tun)).toEqual(['whole']);
  });
});

describe.each<OffloadMode>(['raw', 'split'])("a socket with offload '%s'", (offload) => {
  it('sends superpackets and whole packets of one batch in order', async () => {
    const tun = open(offload);
    const batch = new PacketBatch();
    batch.push(packet('a'));
    batch.push(packet('bbbbccccdd', true), { offload: gso });
    batch.push(packet('e'));
    batch.push(packet('ffffgggg', true), { offload: gso });
    expect(tun.sendmmsg(batch)).toBe(4);
    expect(await arrivedUpTo('end', tun)).toEqual(['a', 'bbbb', 'cccc', 'dd', 'e', 'ffff', 'gggg']);
  });

  it('sends superpackets by send() and sendmsg() too', async () => {
    const tun = open(offload);
    tun.send(packet('a'));
    tun.send(packet('bbbbcc', true), { offload: gso });
    tun.sendmsg(packet('ddddee', true), 0, { offload: gso });
    tun.send(packet('f'));
    const sent = new Promise((resolve) => tun.send(packet('ggggh', true), { offload: gso }, resolve));
    expect(await sent).toBeNull();
    const all = ['a', 'bbbb', 'cc', 'dddd', 'ee', 'f', 'gggg', 'h'];
    expect(await arrivedUpTo('end', tun)).toEqual(all);
  });
});

describe('a batch forgets the offload of what was in it', () => {
  /** A batch that was filled from a raw socket: each of its packets needs its checksum. */
  const filled = async (raw: TunSocket) => {
    const batch = new PacketBatch({ capacity: 4 });
    for (const data of ['old 1', 'old 2', 'old 3']) await hostSends(data);
    expect(raw.recvmmsg(batch)).toBe(3);
    expect(batch.info(0).offload).toMatchObject({ needsChecksum: true, checksumStart: 20 });
    return batch;
  };

  it('when it is cleared', async () => {
    const raw = open('raw');
    const batch = await filled(raw);
    batch.clear();
    // With the checksum of a whole packet: were it completed again, it would be wrong.
    for (const data of ['1', '2', '3', '4']) batch.push(packet(data));
    expect(batch.info(0)).toEqual({ size: 29, bytes: 29, flags: 0, protocol: 0 });
    expect(raw.sendmmsg(batch)).toBe(4);
    expect(await arrivedUpTo('end', raw)).toEqual(['1', '2', '3', '4']);
  });

  it("when it is filled from a socket with 'none'", async () => {
    const raw = open('raw');
    const batch = await filled(raw);
    const none = open('none');
    none.link.addRoute({ destination: '10.9.0.0/16' });
    const port = udp.address().port;
    await new Promise((resolve) => udp.send('whole', port, '10.9.0.1', resolve));
    expect(none.recvmmsg(batch)).toBe(1);
    expect(batch.info(0).offload).toBeUndefined();
    turnRound(batch.at(0));
    expect(raw.sendmmsg(batch)).toBe(1);
    expect(await arrivedUpTo('end', raw)).toEqual(['whole']);
  });

  it('when one packet of several has one', async () => {
    const raw = open('raw');
    const batch = await filled(raw);
    batch.push(packet('pushed'));
    expect(batch.info(3).offload).toMatchObject({ needsChecksum: false, gsoType: 0 });
    batch.clear();
    batch.push(packet('1'));
    batch.push(packet('2222333', true), { offload: gso });
    batch.push(packet('4'));
    expect(batch.info(0).offload).toMatchObject({ needsChecksum: false, gsoType: 0 });
    expect(raw.sendmmsg(batch)).toBe(3);
    expect(await arrivedUpTo('end', raw)).toEqual(['1', '2222', '333', '4']);
  });
});

describe('a batch of the largest packets', () => {
  it.each([1, 3, 64])('of capacity %d keeps its columns and its neighbours as they are', async (capacity) => {
    const raw = open('raw');
    const batch = new PacketBatch({ capacity, packetSize: 1024 });
    // The virtio header of a packet is read and written in the place before it.
    const texts = Array.from({ length: capacity }, (_, index) => randomBytes(490).toString('hex') + index);
    for (const text of texts) await hostSends(text);
    expect(raw.recvmmsg(batch)).toBe(capacity);
    expect([...batch].map((bytes) => bytes.subarray(28).toString())).toEqual(texts);
    const columns = () =>
      [batch.offsets, batch.lengths, batch.sizes, batch.flags, batch.protocols].map((column) => [...column]);
    const before = columns();
    batch.clear();
    for (const text of texts) batch.push(packet(text));
    const [, , , , protocols] = columns();
    expect(raw.sendmmsg(batch)).toBe(capacity);
    expect(columns().slice(0, 4)).toEqual(before.slice(0, 4));
    expect(protocols).toEqual(new Array(capacity).fill(0));
    expect([...batch].map((bytes) => bytes.subarray(28).toString())).toEqual(texts);
    expect(await arrivedUpTo('end', raw)).toEqual(texts);
    expect(raw.recvmmsg(batch, MSG_DONTWAIT)).toBe(0);
  });
});
