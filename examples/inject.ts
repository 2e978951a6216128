/**
 * Builds ARP, ICMP, UDP and TCP packets by hand, injects them into a host, and reads the answers. Whether the host is the one
 * that this runs on (tun, tap) or a neighbour on a cable (packet, dgram), is one line: the one that opens the socket.
 *
 *     node inject.js [tun | tap | packet | dgram]
 */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { Link, type MessageSocket, Netns, PacketSocket, TunSocket } from 'tunsock';
import { enterOwnNamespace } from './own-namespace';
import {
  ACK,
  arpRequest,
  describePacket,
  type Endpoint,
  ETHERNET_HEADER,
  ETHERTYPE_ARP,
  ETHERTYPE_IPV4,
  echoRequest,
  ethernetFrame,
  ICMP,
  layoutOf,
  macBytes,
  RST,
  SYN,
  TCP,
  tcpPacket,
  UDP,
  udpPacket,
} from './packets';

const NETWORK = '10.0.0.1/24';
const HOST = Buffer.from([10, 0, 0, 1]);
const PEER = Buffer.from([10, 0, 0, 2]);
const HOST_MAC = '02:00:00:00:00:01';
const PEER_MAC = '02:00:00:00:00:02';
/** Of the host's servers. */
const PORT = 7;
const TIMEOUT_MS = 5000;
/** Of netdevice(7). */
const IFF_RUNNING = 0x40;

/** The interface of the host. */
export const HOST_INTERFACE = 'host0';

/**
 * What can be injected into. `ethernet`: packets have an Ethernet header, and so there is ARP; a tun device has neither, and for
 * a packet socket of type 'dgram' the kernel does both.
 */
export const media = {
  tun: {
    ethernet: false,
    open: () => TunSocket.open({ name: HOST_INTERFACE, address: NETWORK }),
  },
  tap: {
    ethernet: true,
    open: () => TunSocket.open({ name: HOST_INTERFACE, address: NETWORK, mode: 'tap', mac: HOST_MAC }),
  },
  packet: {
    ethernet: true,
    open: () => PacketSocket.open({ interface: 'wire0', netns: cable() }),
  },
  dgram: {
    ethernet: false,
    open: () =>
      PacketSocket.open({
        interface: 'wire0',
        netns: cable(),
        type: 'dgram',
        protocol: 'ip',
        destination: { address: HOST_MAC },
      }),
  },
};

/** Lays a cable from the host's interface to a namespace that has nothing else; returns that. */
function cable(): Netns {
  const beyond = Netns.create();
  const link = Link.create({
    type: 'veth',
    name: HOST_INTERFACE,
    peer: { name: 'wire0', netns: beyond },
    mac: HOST_MAC,
    address: NETWORK,
    up: true,
  });
  const end = beyond.run(() => Link.get('wire0'));
  end.up();
  waitUntilRunning(link);
  waitUntilRunning(end);
  link.addNeighbour('10.0.0.2', PEER_MAC);
  return beyond;
}

/** The ends of a cable come to life a moment after they are brought up; what is sent before that is lost. */
function waitUntilRunning(link: Link): void {
  const deadline = Date.now() + TIMEOUT_MS;
  while ((link.flags & IFF_RUNNING) === 0) {
    if (Date.now() > deadline) throw new Error(`${link.name} has no carrier`);
  }
}

/** A packet that was injected, and what came back. */
export interface Exchange {
  what: 'ARP' | 'ICMP' | 'UDP' | 'TCP';
  sent: Buffer;
  answer: Buffer;
}

/** Has the host answer an ARP request, where there is ARP, a ping, a datagram and a SYN. */
export async function inject(socket: MessageSocket, ethernet: boolean): Promise<Exchange[]> {
  const exchanges: Exchange[] = [];
  const exchange = async (what: Exchange['what'], sent: Buffer, isAnswer: (packet: Buffer) => boolean) => {
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    socket.send(sent);
    let answer: Buffer;
    do answer = await socket.receive({ signal });
    while (!isAnswer(answer));
    exchanges.push({ what, sent, answer });
    return answer;
  };

  let framed = (packet: Buffer) => packet;
  if (ethernet) {
    const own = macBytes(PEER_MAC);
    const reply = await exchange('ARP', arpRequest(own, PEER, HOST), isArpReply);
    const hostMac = reply.subarray(6, 12);
    framed = (packet) => ethernetFrame(hostMac, own, ETHERTYPE_IPV4, packet);
  }
  const isFromHost = (protocol: number) => (packet: Buffer) => {
    const ip = ethernet ? packet.subarray(ETHERNET_HEADER) : packet;
    const layout = layoutOf(ip);
    return layout?.protocol === protocol && layout.source.equals(HOST) && layout.destination.equals(PEER);
  };
  const from: Endpoint = { address: PEER, port: 4000 };
  const to: Endpoint = { address: HOST, port: PORT };

  await exchange('ICMP', framed(echoRequest(PEER, HOST, 1, Buffer.from('ping'))), isFromHost(ICMP));
  await exchange('UDP', framed(udpPacket(from, to, Buffer.from('datagram'))), isFromHost(UDP));
  await exchange('TCP', framed(tcpPacket(from, to, SYN, 1000)), isFromHost(TCP));
  // The host need not wait for the rest of a connection.
  socket.sendmsg(framed(tcpPacket(from, to, RST, 1001)));
  return exchanges;
}

function isArpReply(frame: Buffer): boolean {
  return (
    frame.readUInt16BE(12) === ETHERTYPE_ARP &&
    frame.readUInt16BE(ETHERNET_HEADER + 6) === 2 &&
    frame.subarray(ETHERNET_HEADER + 14, ETHERNET_HEADER + 18).equals(HOST)
  );
}

/** The flags of a TCP segment in an IPv4 packet. */
export function tcpFlags(ip: Buffer): number {
  return ip.readUInt8((layoutOf(ip)?.header ?? 0) + 13);
}

/** What the host offers: UDP and TCP echo, by ordinary sockets. Returns how to stop it. */
export async function startServers(): Promise<() => void> {
  const udp = createSocket('udp4');
  udp.on('message', (message, { address, port }) => udp.send(message, port, address));
  udp.bind(PORT);
  const tcp = createServer((connection) => connection.pipe(connection));
  tcp.listen(PORT);
  await Promise.all([once(udp, 'listening'), once(tcp, 'listening')]);
  return () => {
    udp.close();
    tcp.close();
  };
}

async function main(names: string[]): Promise<void> {
  const stop = await startServers();
  for (const name of names.length > 0 ? names : Object.keys(media)) {
    const { open, ethernet } = media[name as keyof typeof media];
    const socket = open(); // the one line
    console.log(`${name}: ${socket.constructor.name} on ${socket.name}`);
    for (const { what, sent, answer } of await inject(socket, ethernet)) {
      const text = (packet: Buffer) =>
        what === 'ARP'
          ? `${packet.length} bytes`
          : describePacket(ethernet ? packet.subarray(ETHERNET_HEADER) : packet);
      console.log(`  ${what}: sent ${text(sent)}; answer ${text(answer)}`);
      if (what !== 'TCP') continue;
      const flags = tcpFlags(ethernet ? answer.subarray(ETHERNET_HEADER) : answer);
      console.log(`  the port is ${flags === (SYN | ACK) ? 'open' : 'closed'}`);
    }
    socket.close();
    removeInterface();
  }
  stop();
}

/** A tun device is gone with its socket; a cable is taken away. */
export function removeInterface(): void {
  for (const link of Link.list()) if (link.name === HOST_INTERFACE) link.delete();
}

if (require.main === module) {
  enterOwnNamespace();
  main(process.argv.slice(2)).catch((error) => {
    console.error(error);
    process.exitCode = 1;
  });
}
