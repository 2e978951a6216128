import { randomBytes } from 'node:crypto';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { constants, PacketBatch, type PacketOffload, TunSocket } from '../../dist';
import { codeOf, HOST, PEER } from '../helpers/device';
import { enterQuietNamespace } from '../helpers/namespace';
import { turnRound, udpPacket } from '../helpers/packets';
import { tcpRound } from '../helpers/tcp-round';

const {
  MSG_DONTWAIT,
  MSG_TRUNC,
  VIRTIO_NET_HDR_GSO_NONE,
  VIRTIO_NET_HDR_GSO_TCPV4,
  VIRTIO_NET_HDR_GSO_TCPV6,
  VIRTIO_NET_HDR_GSO_UDP_L4,
} = constants;
const HOST6 = 'fd00::1';
const PEER6 = 'fd00::2';
const SUPERPACKET = 65535;

beforeAll(enterQuietNamespace);

let tun: TunSocket;
beforeEach(() => {
  tun = TunSocket.open({
    address: [`${HOST}/24`, `${HOST6}/64`],
    offload: 'raw',
    receiveTimeout: 5000,
    txQueueLength: 1000,
  });
});
afterEach(() => tun[Symbol.dispose]());

const turn = () => new Promise((resolve) => setImmediate(resolve));

interface Seen {
  offload: PacketOffload;
  length: number;
}
const seenOf = (packet: Buffer, offload: PacketOffload | undefined): Seen => {
  if (offload === undefined) throw new Error('a raw socket says of each packet what is left to do');
  return { offload, length: packet.length };
};

/** Sends each packet that comes back with its addresses exchanged, and says what it saw; until `done`. */
type Pump = (done: () => boolean, see: (seen: Seen) => void) => Promise<void>;

const pumps: Record<string, Pump> = {
  async "'message' and send()"(done, see) {
    tun.on('message', (packet, { offload }) => {
      const seen = seenOf(packet, offload);
      see(seen);
      tun.send(turnRound(packet), { offload: seen.offload });
    });
    while (!done()) await turn();
  },
  async "'batch' and sendmmsg()"(done, see) {
    tun.on('batch', (batch) => {
      for (let index = 0; index < batch.length; index++) {
        see(seenOf(turnRound(batch.at(index)), batch.info(index).offload));
      }
      for (let sent = 0; sent < batch.length; ) sent += tun.sendmmsg(batch, 0, sent);
    });
    while (!done()) await turn();
  },
  async 'recvmsg() and sendmsg()'(done, see) {
    const room = Buffer.alloc(SUPERPACKET);
    while (!done()) {
      await turn();
      for (;;) {
        const info = receivedOrNone(room);
        if (info === undefined) break;
        const packet = room.subarray(0, info.bytes);
        const seen = seenOf(packet, info.offload);
        see(seen);
        expect(tun.sendmsg(turnRound(packet), 0, { offload: seen.offload })).toBe(packet.length);
      }
    }
  },
  async 'recvmmsg() and push()'(done, see) {
    const [incoming, outgoing] = [0, 1].map(
      () => new PacketBatch({ capacity: 16, packetSize: SUPERPACKET }),
    ) as [PacketBatch, PacketBatch];
    while (!done()) {
      await turn();
      while (tun.recvmmsg(incoming, MSG_DONTWAIT) > 0) {
        outgoing.clear();
        [...incoming].forEach((packet, index) => {
          const seen = seenOf(packet, incoming.info(index).offload);
          see(seen);
          outgoing.push(turnRound(packet), { offload: seen.offload });
        });
        for (let sent = 0; sent < outgoing.length; ) sent += tun.sendmmsg(outgoing, 0, sent);
      }
    }
  },
};

function receivedOrNone(room: Buffer): ReturnType<TunSocket['recvmsg']> | undefined {
  try {
    return tun.recvmsg(room, MSG_DONTWAIT);
  } catch (error) {
    if ((error as { code?: string }).code === 'EAGAIN') return undefined;
    throw error;
  }
}

describe.each(Object.entries(pumps))('a real sender, %s', (_, pump) => {
  it.each([
    ['IPv4', HOST, PEER, VIRTIO_NET_HDR_GSO_TCPV4, 20],
    ['IPv6', HOST6, PEER6, VIRTIO_NET_HDR_GSO_TCPV6, 40],
  ])('TCP over %s comes in superpackets, which it takes back', async (_, host, peer, gsoType, start) => {
    const data = randomBytes(2 ** 20);
    const seen: Seen[] = [];
    let done = false;
    const round = tcpRound(host, peer, data).finally(() => {
      done = true;
    });
    await pump(
      () => done,
      (packet) => seen.push(packet),
    );
    expect((await round).equals(data)).toBe(true);
    const superpackets = seen.filter(({ offload }) => offload.gsoType !== VIRTIO_NET_HDR_GSO_NONE);
    expect(superpackets.length).toBeGreaterThan(0);
    // The segment: the mtu of 1500 less IP and TCP with timestamps.
    const gsoSize = 1500 - start - 32;
    for (const { offload, length } of superpackets) {
      expect(offload).toMatchObject({
        needsChecksum: true,
        checksumStart: start,
        checksumOffset: 16,
        gsoType,
        gsoSize,
        outerNeedsChecksum: false,
      });
      expect(offload.headerLength).toBeGreaterThanOrEqual(start + 32);
      expect(length).toBeGreaterThan(1500);
    }
    for (const { offload, length } of seen) {
      expect([offload.needsChecksum, offload.checksumStart]).toEqual([true, start]);
      if (offload.gsoType === VIRTIO_NET_HDR_GSO_NONE) expect(length).toBeLessThanOrEqual(1500);
    }
  });

  it.each([
    ['IPv4', HOST, PEER],
    ['IPv6', HOST6, PEER6],
  ])("TCP over %s comes in superpackets no longer than the link's gsoMaxSize", async (_, host, peer) => {
    tun.link.gsoMaxSize = 12_000;
    const lengths: number[] = [];
    let done = false;
    const round = tcpRound(host, peer, randomBytes(2 ** 19)).finally(() => {
      done = true;
    });
    await pump(
      () => done,
      ({ length }) => lengths.push(length),
    );
    await round;
    const longest = Math.max(...lengths);
    expect(longest).toBeGreaterThan(1500);
    expect(longest).toBeLessThanOrEqual(12_000);
  });
});

describe('what one builds', () => {
  let udp: Socket;
  let arrived: string[];
  beforeEach(async () => {
    udp = createSocket('udp4').bind(0, HOST);
    await once(udp, 'listening');
    arrived = [];
    udp.on('message', (message) => arrived.push(message.toString()));
  });
  afterEach(() => void udp.close());

  const until = async (count: number) => {
    while (arrived.length < count) await once(udp, 'message');
  };
  /** A superpacket of three datagrams, the last one shorter. */
  const pieces = ['first.....', 'second....', 'third'];
  const gso = { needsChecksum: true, checksumStart: 20, checksumOffset: 6 };
  const cut = { ...gso, gsoType: VIRTIO_NET_HDR_GSO_UDP_L4, gsoSize: 10, headerLength: 28 };
  const packet = (data: string, unfinished = true) =>
    udpPacket([PEER, 4000], [HOST, udp.address().port], data, { unfinished });

  it.each<[string, (data: Buffer) => unknown, string[]]>([
    ['sendmsg()', (data) => tun.sendmsg(data, 0, { offload: cut }), []],
    [
      'sendmsg() of pieces',
      (data) => tun.sendmsg([data.subarray(0, 5), data.subarray(5)], 0, { offload: cut }),
      [],
    ],
    ['send()', (data) => new Promise((resolve) => tun.send(data, { offload: cut }, resolve)), []],
    [
      'a batch',
      (data) => {
        const batch = new PacketBatch();
        batch.push(packet('before', false));
        batch.push(data, { offload: cut });
        expect(tun.sendmmsg(batch)).toBe(2);
      },
      ['before'],
    ],
  ])('a UDP superpacket by %s is cut into datagrams by the host', async (_, send, before) => {
    await send(packet(pieces.join('')));
    tun.sendmsg(packet('end', false));
    while (arrived.at(-1) !== 'end') await once(udp, 'message');
    expect(arrived).toEqual([...before, ...pieces, 'end']);
  });

  it('send() gives the callback the bytes of the packet, without its header', async () => {
    const data = packet(pieces.join(''));
    expect(
      await new Promise((resolve) => tun.send(data, { offload: cut }, (_, bytes) => resolve(bytes))),
    ).toBe(data.length);
    await until(3);
  });

  it('a checksum is completed where needsChecksum says so', async () => {
    tun.sendmsg(packet('left to the host'), 0, { offload: gso });
    // The same packet without the word is one with a wrong checksum, and is dropped.
    tun.sendmsg(packet('wrong'));
    tun.sendmsg(packet('right', false));
    await until(2);
    expect(arrived).toEqual(['left to the host', 'right']);
  });

  it('an offload that makes no sense is refused by the kernel with EINVAL, and sends nothing', async () => {
    const data = packet('x');
    for (const offload of [
      { ...gso, checksumStart: data.length },
      { ...cut, gsoType: 99 },
      { ...cut, gsoSize: 0 },
    ]) {
      expect(codeOf(() => tun.sendmsg(data, 0, { offload }))).toBe('EINVAL');
    }
    tun.sendmsg(packet('end', false));
    await until(1);
    expect(arrived).toEqual(['end']);
  });

  it('65535 bytes are the most, whatever the offload', () => {
    const long = Buffer.alloc(65536);
    packet('x').copy(long);
    expect(codeOf(() => tun.sendmsg(long, 0, { offload: gso }))).toBe('EMSGSIZE');
    expect(tun.sendmsg(long.subarray(0, 65535), MSG_DONTWAIT, { offload: gso })).toBe(65535);
  });

  it.each<[unknown, string]>([
    [{ gsoSize: 65536 }, 'ERR_OUT_OF_RANGE'],
    [{ gsoType: 256 }, 'ERR_OUT_OF_RANGE'],
    [{ checksumStart: -1 }, 'ERR_OUT_OF_RANGE'],
    [{ checksumOffset: 1.5 }, 'ERR_OUT_OF_RANGE'],
    [{ needsChecksum: 1 }, 'ERR_INVALID_ARG_TYPE'],
    [{ headerLength: '28' }, 'ERR_INVALID_ARG_TYPE'],
    [{ mss: 1448 }, 'ERR_INVALID_ARG_VALUE'],
    ['raw', 'ERR_INVALID_ARG_TYPE'],
  ])('offload %j is refused: %s', (offload, code) => {
    const options = { offload } as never;
    expect(codeOf(() => tun.sendmsg(packet('x'), 0, options))).toBe(code);
    expect(codeOf(() => tun.send(packet('x'), options))).toBe(code);
    expect(codeOf(() => new PacketBatch().push(packet('x'), options))).toBe(code);
  });
});

describe('what comes in', () => {
  const hostSends = async (size: number) => {
    const udp = createSocket('udp4');
    await new Promise((resolve) => udp.send(Buffer.alloc(size, 0x5a), 9, PEER, resolve));
    udp.close();
  };

  it('is cut to the room there is, and keeps its offload', async () => {
    await hostSends(200);
    const room = Buffer.alloc(60);
    expect(tun.recvmsg(room)).toEqual({
      size: 228,
      bytes: 60,
      flags: MSG_TRUNC,
      protocol: constants.ETH_P_IP,
      offload: expect.objectContaining({ needsChecksum: true, checksumStart: 20, checksumOffset: 6 }),
    });
    expect(room[0]).toBe(0x45);
    await hostSends(200);
    const batch = new PacketBatch({ packetSize: 60 });
    expect(tun.recvmmsg(batch)).toBe(1);
    expect(batch.info(0)).toMatchObject({ size: 228, bytes: 60, flags: MSG_TRUNC });
    expect(batch.info(0).offload?.checksumStart).toBe(20);
  });

  it('stays whole with its offload when the socket was paused in between', async () => {
    for (const size of [10, 20, 30, 40]) await hostSends(size);
    tun.once('message', () => tun.pause());
    await once(tun, 'message');
    const expected = { needsChecksum: true, checksumStart: 20, checksumOffset: 6 };
    expect(tun.recvmsg(Buffer.alloc(100))).toMatchObject({ size: 48, offload: expected });
    const batch = new PacketBatch();
    expect(tun.recvmmsg(batch)).toBe(2);
    expect([...batch.sizes.subarray(0, 2)]).toEqual([58, 68]);
    expect(batch.info(1).offload).toMatchObject(expected);
  });

  it('receive() gives its bytes', async () => {
    const packet = tun.receive();
    await hostSends(100);
    expect(await packet).toHaveLength(128);
  });

  it('does not go into a stream, which has no place for what is left to do', () => {
    expect(codeOf(() => tun.stream())).toBe('ERR_INVALID_STATE');
  });
});

it('scatters over 1022 views, since the header takes the place of one, and refuses 1023 before the system call', async () => {
  const udp = createSocket('udp4');
  await new Promise((resolve) => udp.send(Buffer.alloc(500, 0x5a), 9, PEER, resolve));
  const views = Array.from({ length: 1023 }, () => Buffer.alloc(1));
  expect(codeOf(() => tun.recvmsg(views))).toBe('ERR_OUT_OF_RANGE');
  expect(tun.recvmsg(views.slice(1))).toMatchObject({ bytes: 528, size: 528, flags: 0 });
  expect(Buffer.concat(views.slice(1)).subarray(28, 528)).toEqual(Buffer.alloc(500, 0x5a));
  udp.close();
});
