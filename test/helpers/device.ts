import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { type MessageSocket, type OffloadMode, TunSocket } from '../../dist';
import { ethernetFrame, udpPacket } from './packets';

export const HOST = '10.0.0.1';
export const PEER = '10.0.0.2';
export const ETH_P_IP = 0x0800;
const PEER_MAC = Buffer.from([2, 0, 0, 0, 0, 2]);

/** Forms of a device that the contract holds for. */
export interface Form {
  mode: 'tun' | 'tap';
  packetInfo: boolean;
  offload: OffloadMode;
  /** Packets come from what was read ahead and not taken, rather than from the kernel. */
  held?: boolean;
}

/** Whoever splits has no packet info: the two are not to be had together. */
export const FORMS: Form[] = [
  { mode: 'tun', packetInfo: false, offload: 'none' },
  { mode: 'tun', packetInfo: true, offload: 'none' },
  { mode: 'tun', packetInfo: false, offload: 'split' },
  { mode: 'tap', packetInfo: false, offload: 'none' },
  { mode: 'tap', packetInfo: true, offload: 'none' },
  { mode: 'tap', packetInfo: false, offload: 'split' },
];

/** Modes in which a program sees the same packets. */
export const WHOLE_PACKETS: OffloadMode[] = ['none', 'split'];

/** A device of one form with a peer that the host knows the hardware address of, and an ordinary UDP socket on the host. */
export interface Stage extends AsyncDisposable {
  tun: TunSocket;
  udp: Socket;
  port: number;
  /** Bytes that stand before an IP packet. */
  header: number;
  /** Makes the host send a datagram to the peer: `size` bytes of payload. */
  hostSends(size: number): Promise<void>;
  /** A datagram from the peer to the host's UDP socket, as this form of device carries it. */
  fromPeer(data: string): Buffer;
}

export async function stage({ held = false, ...form }: Form): Promise<Stage> {
  const tun = TunSocket.open({ ...form, address: `${HOST}/24`, receiveTimeout: 2000 });
  const { link } = tun;
  if (form.mode === 'tap') link.addNeighbour(PEER, '02:00:00:00:00:02');
  const mac = form.mode === 'tap' ? Buffer.from(link.mac.replaceAll(':', ''), 'hex') : Buffer.alloc(6);
  const udp = createSocket('udp4');
  udp.bind(0, HOST);
  await once(udp, 'listening');
  const { port } = udp.address();
  return {
    tun,
    udp,
    port,
    header: (form.packetInfo ? 4 : 0) + (form.mode === 'tap' ? 14 : 0),
    hostSends: async (size) => {
      // A receive() that takes what is before the packet has read ahead by then.
      if (held) await sendTo(PEER, udp, 1);
      await sendTo(PEER, udp, size);
      if (held) await tun.receive();
    },
    fromPeer: (data) => {
      const packet = udpPacket([PEER, 4000], [HOST, port], data);
      const frame = form.mode === 'tap' ? ethernetFrame(mac, PEER_MAC, ETH_P_IP, packet) : packet;
      return form.packetInfo ? Buffer.concat([packetInfo(ETH_P_IP), frame]) : frame;
    },
    async [Symbol.asyncDispose]() {
      udp.close();
      await tun[Symbol.asyncDispose]();
    },
  };
}

function sendTo(address: string, udp: Socket, size: number): Promise<void> {
  return new Promise((resolve, reject) => {
    udp.send(Buffer.alloc(size, 0x5a), 9, address, (error) => (error ? reject(error) : resolve()));
  });
}

/** struct tun_pi: no flags, and an EtherType. */
export function packetInfo(protocol: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt16BE(protocol, 2);
  return bytes;
}

/** The code of the error that `fn` throws; fails when it throws none. */
export function codeOf(fn: () => unknown): string | undefined {
  try {
    fn();
  } catch (error) {
    return (error as { code?: string }).code;
  }
  throw new Error('nothing was thrown');
}

/** The next `count` packets that a socket receives as 'message'. */
export async function packets(socket: MessageSocket, count: number): Promise<Buffer[]> {
  const received: Buffer[] = [];
  while (received.length < count) received.push(await socket.receive());
  return received;
}
