import { beforeEach, describe, expect, it } from 'vitest';
import {
  constants,
  type MessageInfo,
  PacketBatch,
  type PacketOffload,
  PacketSocket,
  TunSocket,
} from '../../dist';
import { codeOf, ETH_P_IP } from '../helpers/device';
import { inheriting } from '../helpers/inheriting';
import { empty, packetStage, room, TEST } from '../helpers/packet-stage';
import { checksumsRight, tcpPacket, udpPacket, udpPayload } from '../helpers/packets';
import { FAR_MAC, frame, NEAR_MAC } from '../helpers/pair';
import { tcpExchange, udpListener } from '../helpers/peers';

const { MSG_DONTWAIT, MSG_PEEK, MSG_TRUNC, VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_UDP_L4 } = constants;
const ETHERNET = 14;
const NEAR = '10.3.0.1';
const FAR = '10.3.0.2';

const stage = packetStage();
const { near, far, kept } = stage;
beforeEach(() => {
  stage.pair.nearLink.addAddress(`${NEAR}/24`);
  stage.pair.farLink.addAddress(`${FAR}/24`);
});

describe('a real TCP sender on the cable', () => {
  // Who asks for one protocol does not see what leaves.
  const open = (offload: 'none' | 'split' | 'raw') =>
    far({ protocol: 'all', offload, receiveBuffer: 8 << 20 });
  /** Everything that a socket at the far end sees of 2 MiB each way. */
  async function seen(socket: PacketSocket): Promise<[Buffer, MessageInfo][]> {
    const frames: [Buffer, MessageInfo][] = [];
    socket.on('message', (packet, info) => {
      if (info.protocol === ETH_P_IP) frames.push([packet, info]);
    });
    const { client, server } = await tcpExchange(stage.pair.near, stage.pair.far, FAR, 2 ** 21);
    expect([server.received, client.received]).toEqual([client.sent, server.sent]);
    return frames;
  }
  const longest = (frames: [Buffer, MessageInfo][]) => Math.max(...frames.map(([packet]) => packet.length));

  it("is seen by 'raw' as it sends: superpackets, and what is left to do to them", async () => {
    const frames = await seen(open('raw'));
    const superpackets = frames.filter(([, { offload }]) => offload?.gsoType !== 0);
    expect(superpackets.length).toBeGreaterThan(0);
    for (const [packet, info] of superpackets) {
      expect(packet.length).toBeGreaterThan(ETHERNET + 1500);
      expect(info).toMatchObject({ size: packet.length, bytes: packet.length, flags: 0, protocol: ETH_P_IP });
      expect(info.offload).toMatchObject({
        needsChecksum: true,
        checksumStart: ETHERNET + 20,
        checksumOffset: 16,
        gsoType: VIRTIO_NET_HDR_GSO_TCPV4,
      });
      // Less the SACK blocks of an acknowledgement that it carries too.
      expect([1500 - 20 - 32, 1500 - 20 - 32 - 12]).toContain(info.offload?.gsoSize);
    }
    // What the link layer knows comes beside it.
    const types = new Map(superpackets.map(([, { packetType, address }]) => [packetType, address]));
    expect([...types].sort()).toEqual([
      ['host', NEAR_MAC],
      ['outgoing', FAR_MAC],
    ]);
  });

  it("is seen by 'split' in frames no longer than the mtu with right checksums", async () => {
    const socket = open('split');
    const frames = await seen(socket);
    expect(longest(frames)).toBe(ETHERNET + 1500);
    for (const [packet, info] of frames) {
      expect(checksumsRight(packet.subarray(ETHERNET))).toBe(true);
      expect(info.offload).toBeUndefined();
    }
    expect(new Set(frames.map(([, { packetType }]) => packetType))).toEqual(new Set(['host', 'outgoing']));
    expect(socket.stats().offload?.received).toBeGreaterThan(0);
  });

  it("is seen by 'none' in superpackets without their checksums, and nothing says so", async () => {
    const frames = await seen(open('none'));
    expect(longest(frames)).toBeGreaterThan(ETHERNET + 1500);
    expect(frames.some(([packet]) => !checksumsRight(packet.subarray(ETHERNET)))).toBe(true);
    for (const [, info] of frames) expect(info.offload).toBeUndefined();
  });
});

const cut: Partial<PacketOffload> = {
  needsChecksum: true,
  checksumStart: ETHERNET + 20,
  checksumOffset: 6,
  gsoType: VIRTIO_NET_HDR_GSO_UDP_L4,
  gsoSize: 1000,
  headerLength: ETHERNET + 28,
};
/** Three datagrams that are 2.5 KB together. */
const pieces = ['a'.repeat(1000), 'b'.repeat(1000), 'c'.repeat(500)];

describe('sending to an ordinary socket at the other end', () => {
  const frameTo = (port: number, data: string, options = {}) =>
    frame(ETH_P_IP, udpPacket([NEAR, 4000], [FAR, port], data, options), FAR_MAC, NEAR_MAC);

  it.each(['raw', 'split'] as const)(
    "'%s' sends superpackets that are longer than the mtu",
    async (offload) => {
      using listener = await udpListener(stage.pair.far, FAR);
      const socket = near({ offload });
      const packet = frameTo(listener.port, pieces.join(''), { unfinished: true });
      expect(socket.sendmsg(packet, 0, { offload: cut })).toBe(packet.length);
      expect(await listener.datagrams(3)).toEqual(pieces);
      await new Promise((resolve) => socket.send(packet, { offload: cut }, resolve));
      expect(await listener.datagrams(3)).toEqual(pieces);
      const batch = new PacketBatch({ packetSize: 4096 });
      batch.push(frameTo(listener.port, 'before'));
      batch.push(packet, { offload: cut });
      batch.push(frameTo(listener.port, 'after'));
      expect(socket.sendmmsg(batch)).toBe(3);
      expect(await listener.datagrams(5)).toEqual(['before', ...pieces, 'after']);
      // What is no superpacket must fit the interface.
      expect(codeOf(() => socket.sendmsg(packet))).toBe('EMSGSIZE');
    },
  );

  it("'split' makes superpackets of a batch and of what send() queued", async () => {
    using listener = await udpListener(stage.pair.far, FAR);
    const socket = near({ offload: 'split' });
    const texts = Array.from({ length: 20 }, (_, index) => `datagram ${index}`.padEnd(100));
    const frames = texts.map((text, id) => frameTo(listener.port, text, { id }));
    const batch = new PacketBatch();
    for (const packet of frames) batch.push(packet);
    expect(socket.sendmmsg(batch)).toBe(20);
    expect(await listener.datagrams(20)).toEqual(texts);
    expect(socket.stats().offload).toEqual({ received: 0, sent: 1, refused: [] });
    for (const packet of frames) socket.send(packet);
    expect(await listener.datagrams(20)).toEqual(texts);
    expect(socket.stats()).toMatchObject({ sent: { packets: 40 }, offload: { sent: 2 } });
  });

  // The kernel would take a frame for one of the socket's protocol, and find nothing there that it knows how to cut.
  it.each(['all', 'arp', 'ipv6', 0, TEST] as const)(
    'works whatever protocol the socket is bound to: %s',
    async (protocol) => {
      using listener = await udpListener(stage.pair.far, FAR);
      const socket = near({ offload: 'split', protocol });
      const packet = frameTo(listener.port, pieces.join(''), { unfinished: true });
      socket.sendmsg(packet, 0, { offload: cut });
      const batch = new PacketBatch();
      for (const id of [1, 2, 3]) batch.push(frameTo(listener.port, `merged ${id}`, { id }));
      expect(socket.sendmmsg(batch)).toBe(3);
      expect(await listener.datagrams(6)).toEqual([...pieces, 'merged 1', 'merged 2', 'merged 3']);
      expect(socket.stats().offload?.sent).toBe(1);
    },
  );

  it("'none' refuses what is not finished", () => {
    const socket = near({ offload: 'none' });
    const packet = frameTo(9, pieces.join(''), { unfinished: true });
    expect(codeOf(() => socket.sendmsg(packet, 0, { offload: cut }))).toBe('ERR_INVALID_ARG_VALUE');
    const batch = new PacketBatch({ packetSize: 4096 });
    batch.push(packet, { offload: cut });
    expect(codeOf(() => socket.sendmmsg(batch))).toBe('EOPNOTSUPP');
  });
});

describe('receiving a superpacket', () => {
  const superpacket = frame(
    ETH_P_IP,
    udpPacket([FAR, 4000], [NEAR, 9], pieces.join(''), { unfinished: true }),
  );
  const data = (packet: Buffer) => udpPayload(packet.subarray(ETHERNET)).toString();
  const arrives = () => far({ offload: 'raw' }).sendmsg(superpacket, 0, { offload: cut });
  const open = (offload: 'split' | 'raw') => near({ protocol: 'ip', offload, ignoreOutgoing: true });

  it("'split' peeks at the next segment, which stays", () => {
    const socket = open('split');
    arrives();
    for (const piece of pieces) {
      for (const flags of [MSG_PEEK, MSG_PEEK | MSG_DONTWAIT, 0]) {
        const bytes = room();
        const info = socket.recvmsg(bytes, flags);
        expect(info).toMatchObject({ address: FAR_MAC, packetType: 'host', flags: 0 });
        expect(data(bytes.subarray(0, info.bytes))).toBe(piece);
        expect(checksumsRight(bytes.subarray(ETHERNET, info.bytes))).toBe(true);
      }
    }
    expect(() => socket.recvmsg(room(), MSG_DONTWAIT | MSG_PEEK)).toThrow(empty);
    expect(socket.stats().received).toMatchObject({ packets: 3, truncated: 0 });
  });

  it("'split' takes a segment into 0 bytes, as packet sockets do with a packet", () => {
    const socket = open('split');
    arrives();
    const size = ETHERNET + 28 + 1000;
    expect(socket.recvmsg(Buffer.alloc(0))).toMatchObject({ bytes: 0, size, flags: MSG_TRUNC });
    const bytes = room();
    expect(data(bytes.subarray(0, socket.recvmsg(bytes).bytes))).toBe(pieces[1]);
  });

  it("'raw' and a batch forward it untouched", async () => {
    using listener = await udpListener(stage.pair.near, NEAR);
    // From one end to the other through this program: what a socket at v0 receives is sent from v1 anew.
    const [incoming, outgoing] = [open('raw'), far({ offload: 'raw' })];
    const packet = udpPacket([FAR, 4000], [NEAR, listener.port], pieces.join(''), { unfinished: true });
    outgoing.sendmsg(frame(ETH_P_IP, packet), 0, { offload: cut });
    expect(await listener.datagrams(3)).toEqual(pieces);
    const batch = new PacketBatch({ packetSize: 65535 });
    expect(incoming.recvmmsg(batch)).toBe(1);
    expect(batch.info(0)).toMatchObject({ size: superpacket.length, address: FAR_MAC });
    // The length of the headers is but the kernel's hint.
    const { headerLength, ...rest } = cut;
    expect(batch.info(0).offload).toMatchObject(rest);
    expect(batch.info(0).offload?.headerLength).toBeGreaterThanOrEqual(headerLength ?? 0);
    expect(outgoing.sendmmsg(batch)).toBe(1);
    expect(await listener.datagrams(3)).toEqual(pieces);
  });

  it("on a tun interface 'split' cuts packets that have no link header", () => {
    const tun = kept(
      TunSocket.open({ name: 't0', netns: stage.pair.near, address: '10.5.0.1/24', offload: 'raw' }),
    );
    const socket = kept(
      PacketSocket.open({
        interface: 't0',
        netns: stage.pair.near,
        protocol: 'ip',
        offload: 'split',
        receiveTimeout: 5000,
      }),
    );
    tun.sendmsg(superpacket.subarray(ETHERNET), 0, {
      offload: { ...cut, checksumStart: 20, headerLength: 28 },
    });
    for (const piece of pieces) {
      const bytes = room();
      const { bytes: length } = socket.recvmsg(bytes);
      expect(udpPayload(bytes.subarray(0, length)).toString()).toBe(piece);
      expect(checksumsRight(bytes.subarray(0, length))).toBe(true);
    }
  });
});

describe('what is in force', () => {
  it('is what the option says, and packet sockets know all that there is to offload', () => {
    const none = near({ offload: 'none' });
    expect([none.offload, none.offloadFeatures]).toEqual(['none', []]);
    expect(near().offload).toBe('split');
    expect(near({ type: 'dgram' }).offload).toBe('none');
    for (const offload of ['raw', 'split'] as const) {
      const socket = near({ offload });
      expect(socket.offload).toBe(offload);
      expect(socket.offloadFeatures).toEqual(
        expect.arrayContaining(['csum', 'tso4', 'tso6', 'uso4', 'uso6']),
      );
    }
  });

  it("of a descriptor with PACKET_VNET_HDR is 'raw'", () => {
    const code = `
      const socket = socketFromFd(3);
      console.log(JSON.stringify([socket.constructor.name, socket.offload, socket.offloadFeatures ?? 'unknown']));`;
    expect(inheriting(near({ offload: 'raw' }), code)).toEqual(['PacketSocket', 'raw', 'unknown']);
    expect(inheriting(near({ offload: 'none' }), code)).toEqual(['PacketSocket', 'none', []]);
  });

  it("does not go together with type 'dgram', nor a stream with 'raw'", () => {
    for (const offload of ['raw', 'split'] as const) {
      expect(codeOf(() => near({ type: 'dgram', offload } as object))).toBe('ERR_INVALID_ARG_VALUE');
    }
    expect(codeOf(() => near({ offload: 'raw' }).stream())).toBe('ERR_INVALID_STATE');
  });
});

describe("what 'split' must not change", () => {
  const tcp = (index: number, size: number) =>
    frame(
      ETH_P_IP,
      tcpPacket([NEAR, 4000], [FAR, 4001], Buffer.alloc(size, index), {
        sequence: 1000 + index * size,
        id: index,
      }),
      FAR_MAC,
      NEAR_MAC,
    );
  const batchOf = (size: number) => {
    const batch = new PacketBatch({ packetSize: 4096 });
    for (let index = 0; index < 4; index++) batch.push(tcp(index, size));
    return batch;
  };

  it('frames longer than the mtu are refused, though they would merge', () => {
    const socket = near({ offload: 'split' });
    const seen = far({ protocol: 'all', ignoreOutgoing: true });
    expect(codeOf(() => socket.sendmmsg(batchOf(3000)))).toBe('EMSGSIZE');
    expect(() => seen.recvmsg(room(), MSG_DONTWAIT)).toThrow(empty);
    expect(socket.sendmmsg(batchOf(1000))).toBe(4);
    expect(socket.stats().offload).toEqual({ received: 0, sent: 1, refused: [] });
  });

  it('what is merged follows the mtu of the interface', async () => {
    const socket = near({ offload: 'split' });
    const links = [stage.pair.nearLink, stage.pair.farLink];
    /** How many superpackets four packets with so many bytes make, or why they can't be sent. */
    const made = (size: number) => {
      const before = socket.stats().offload?.sent ?? 0;
      try {
        socket.sendmmsg(batchOf(size));
      } catch (error) {
        return (error as { code?: string }).code;
      }
      return (socket.stats().offload?.sent ?? 0) - before;
    };
    const told = async (mtu: number) => {
      const change = new Promise<void>((resolve) =>
        socket.on('link', ({ kind }) => {
          if (kind === 'mtu') resolve();
        }),
      );
      for (const link of links) link.mtu = mtu;
      await change;
      socket.removeAllListeners('link');
    };
    await new Promise(setImmediate);
    expect([made(1000), made(3000)]).toEqual([1, 'EMSGSIZE']);
    await told(9000);
    expect([made(1000), made(3000)]).toEqual([1, 1]);
    await told(1200);
    expect([made(1000), made(1400)]).toEqual([1, 'EMSGSIZE']);
  });

  it('past the queueing discipline nothing could be cut: nothing is merged', () => {
    const socket = near({ qdiscBypass: true });
    expect([socket.offload, socket.offloadFeatures]).toEqual(['split', ['csum']]);
    const receiver = far({ protocol: ETH_P_IP, offload: 'raw' });
    expect(socket.sendmmsg(batchOf(1000))).toBe(4);
    expect(socket.stats().offload).toEqual({ received: 0, sent: 0, refused: [] });
    for (let index = 0; index < 4; index++) expect(receiver.recvmsg(room()).size).toBe(ETHERNET + 40 + 1000);
  });

  it('the status of a frame that was cut is that of a finished one', () => {
    const socket = near({ protocol: 'all', offload: 'split', auxdata: true, ignoreOutgoing: true });
    const packet = udpPacket([FAR, 4000], [NEAR, 9], 'x'.repeat(2500), { unfinished: true });
    far({ offload: 'raw' }).sendmsg(frame(ETH_P_IP, packet), 0, {
      offload: {
        needsChecksum: true,
        checksumStart: ETHERNET + 20,
        checksumOffset: 6,
        gsoType: VIRTIO_NET_HDR_GSO_UDP_L4,
        gsoSize: 1000,
      },
    });
    const { TP_STATUS_CSUMNOTREADY, TP_STATUS_GSO_TCP } = constants;
    for (let index = 0; index < 3; index++) {
      expect((socket.recvmsg(room()).status ?? 0) & (TP_STATUS_CSUMNOTREADY | TP_STATUS_GSO_TCP)).toBe(0);
    }
  });
});
