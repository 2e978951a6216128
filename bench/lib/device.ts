import { writeFileSync } from 'node:fs';
import { Link, type MessageSocket, PacketSocket, type TunOptions, TunSocket } from 'tunsock';

/** Kinds of devices that an operation can run on. */
export type DeviceKind = 'tun' | 'veth';

/** A device in this namespace: what all sides use in turn, and what is on the other side of it. */
export interface Device extends Disposable {
  /** The sides inherit its descriptor, so that their sockets are equal in all that the kernel knows of them. */
  readonly socket: MessageSocket;
  /** The program of bench/baseline that sends to the socket and answers, and its arguments. */
  readonly traffic: readonly [program: string, ...args: string[]];
  /** What is the traffic's descriptor 3. */
  readonly trafficFd: number;
  /** What a side sends: `size` bytes that are dropped where they arrive. */
  packetOf(size: number): Buffer;
}

/** Longer than any round that is queued beforehand. */
const QUEUE_PACKETS = 16_384;
/** The same for a packet socket, whose bound counts 2304 bytes for a frame of 1400 bytes (skb->truesize). */
const QUEUE_BYTES = 16 * 1024 * 1024;
const LONGEST_FRAME = 1400;
/** The EtherType for experiments (ETH_P_802_EX1): no protocol handler takes it. */
const EXPERIMENTAL = 0x88b5;

/** Makes the device that `kind` names. */
export function openDevice(kind: DeviceKind): Device {
  // No router solicitations between our packets.
  writeFileSync('/proc/sys/net/ipv6/conf/default/disable_ipv6', '1');
  return kind === 'tun' ? openTun() : openVeth();
}

/** A tun device whose host is 10.7.0.1. */
export const tunDevice: TunOptions = { name: 'bench0', address: '10.7.0.1/24', txQueueLength: QUEUE_PACKETS };

/** A tun device, with UDP from the host's stack as its traffic. */
function openTun(): Device {
  const socket = TunSocket.open(tunDevice);
  return {
    socket,
    traffic: ['traffic'],
    trafficFd: socket.fd,
    packetOf: udpPacket,
    [Symbol.dispose]: () => void socket.close(),
  };
}

/** A packet socket on one end of a veth pair, with frames from the other end as its traffic. */
function openVeth(): Device {
  const link = Link.create({ type: 'veth', name: 'bench1', peer: { name: 'bench2' }, up: true });
  Link.get('bench2').up();
  // It would receive what other sockets send, at their cost.
  const socket = PacketSocket.open({
    interface: 'bench1',
    receiveBuffer: QUEUE_BYTES,
    ignoreOutgoing: true,
    // What the C loop beside it reads.
    offload: 'none',
  });
  // Protocol 0: it receives nothing, and so costs the sides nothing.
  const sender = PacketSocket.open({ interface: 'bench2', protocol: 0, offload: 'none' });
  return {
    socket,
    traffic: ['frame_traffic', experimentalFrame(LONGEST_FRAME).toString('hex')],
    trafficFd: sender.fd,
    packetOf: experimentalFrame,
    [Symbol.dispose]() {
      socket.close();
      sender.close();
      link.delete();
    },
  };
}

/** A UDP packet of `size` bytes from behind the device to a port of the host that nobody reads. */
export function udpPacket(size: number): Buffer {
  const packet = Buffer.alloc(size);
  if (size === 0) return packet;
  packet.set([0x45, 0, size >> 8, size & 0xff, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 7, 0, 2, 10, 7, 0, 1]);
  let sum = 0;
  for (let at = 0; at < 20; at += 2) sum += packet.readUInt16BE(at);
  packet.writeUInt16BE(~(sum + (sum >> 16)) & 0xffff, 10);
  packet.writeUInt16BE(7, 20);
  packet.writeUInt16BE(9, 22);
  packet.writeUInt16BE(size - 20, 24); // its checksum stays 0: none
  return packet;
}

/** An Ethernet frame of `size` bytes, header included, to everybody. */
function experimentalFrame(size: number): Buffer {
  const frame = Buffer.alloc(size);
  frame.fill(0xff, 0, 6);
  frame.set([2, 0, 0, 0, 0, 1], 6);
  frame.writeUInt16BE(EXPERIMENTAL, 12);
  return frame;
}
