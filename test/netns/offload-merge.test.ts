import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { constants, Netns, PacketBatch, PacketSocket, TunSocket } from '../../dist';
import { ETH_P_IP, HOST, PEER } from '../helpers/device';
import { checksum, checksumsRight, tcpPacket, udpPacket, udpPayload } from '../helpers/packets';
import { udpListener } from '../helpers/peers';

const { VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_UDP_L4 } = constants;
const COUNT = 8;
const SIZE = 1000;
const IPV4 = 20;
const DONT_FRAGMENT = 0x40;

/** A tun device that merges, and what the host sees of it. */
let netns: Netns;
let tun: TunSocket;
let seen: PacketSocket;
beforeEach(() => {
  netns = Netns.create();
  tun = TunSocket.open({ netns, offload: 'split', address: `${HOST}/24` });
  seen = PacketSocket.open({
    interface: tun.name,
    netns,
    protocol: 'ip',
    offload: 'raw',
    receiveTimeout: 5000,
  });
  onTestFinished(() => {
    seen[Symbol.dispose]();
    tun[Symbol.dispose]();
    netns.close();
  });
});

const indices = Array.from({ length: COUNT }, (_, index) => index);
const text = (index: number) => String(index).repeat(SIZE);

function withDf(packet: Buffer): Buffer {
  packet[6] = DONT_FRAGMENT;
  packet.writeUInt16BE(0, 10);
  packet.writeUInt16BE(checksum(packet.subarray(0, IPV4)), 10);
  return packet;
}

function withoutChecksum(packet: Buffer): Buffer {
  packet.writeUInt16BE(0, IPV4 + 6);
  return packet;
}

function send(packets: Buffer[]): void {
  const batch = new PacketBatch();
  for (const packet of packets) batch.push(packet);
  expect(tun.sendmmsg(batch)).toBe(packets.length);
}

/** The next packet that the host got. */
function next(): { packet: Buffer; gsoType: number | undefined; gsoSize: number | undefined } {
  const bytes = Buffer.alloc(65536);
  const { bytes: size, offload, protocol } = seen.recvmsg(bytes);
  expect(protocol).toBe(ETH_P_IP);
  return { packet: bytes.subarray(0, size), gsoType: offload?.gsoType, gsoSize: offload?.gsoSize };
}

const datagram = (index: number, port = 9) =>
  udpPacket([PEER, 4000], [HOST, port], text(index), { id: index });

describe('merged on their way to the host', () => {
  it('TCP segments with DF and an identification that stands still', () => {
    send(
      indices.map((index) =>
        withDf(tcpPacket([PEER, 4000], [HOST, 9], text(index), { sequence: 7 + index * SIZE, id: 0 })),
      ),
    );
    expect(tun.stats().offload).toEqual({ received: 0, sent: 1, refused: [] });
    const { packet, gsoType, gsoSize } = next();
    expect([gsoType, gsoSize]).toEqual([VIRTIO_NET_HDR_GSO_TCPV4, SIZE]);
    expect(packet.toString('latin1', 2 * IPV4)).toBe(indices.map(text).join(''));
  });

  it('UDP datagrams without a checksum, which have one afterwards', async () => {
    using listener = await udpListener(netns, HOST);
    send(indices.map((index) => withoutChecksum(datagram(index, listener.port))));
    expect(tun.stats().offload).toEqual({ received: 0, sent: 1, refused: [] });
    expect(next()).toMatchObject({ gsoType: VIRTIO_NET_HDR_GSO_UDP_L4, gsoSize: SIZE });
    expect(await listener.datagrams(COUNT)).toEqual(indices.map(text));
  });
});

it('datagrams with and without a checksum stay as they are', () => {
  send(indices.map((index) => (index % 2 === 0 ? datagram(index) : withoutChecksum(datagram(index)))));
  expect(tun.stats().offload).toEqual({ received: 0, sent: 0, refused: [] });
  for (const index of indices) {
    const { packet } = next();
    expect(udpPayload(packet).toString()).toBe(text(index));
    if (index % 2 === 0) expect(checksumsRight(packet)).toBe(true);
    else expect(packet.readUInt16BE(IPV4 + 6)).toBe(0);
  }
});
