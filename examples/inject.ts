/**
 * Builds ARP, ICMP, UDP and TCP packets, injects them into a host, and reads the answers. Whether the host is the one that this
 * runs on (tun, tap) or a neighbour on a cable (packet, dgram), is one line: the one that opens the socket.
 *
 *     node inject.js [tun | tap | packet | dgram]
 */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { Link, type MessageSocket, Netns, PacketSocket, TunSocket } from 'tunsock';
import * as packets from 'tunsock/packets';
import { runExample } from './stage';

const NETWORK = '10.0.0.1/24';
const HOST = { address: '10.0.0.1', mac: '02:00:00:00:00:01', port: 7 };
const PEER = { address: '10.0.0.2', mac: '02:00:00:00:00:02', port: 4000 };
const TIMEOUT_MS = 5000;
/** Of netdevice(7). */
const IFF_RUNNING = 0x40;

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
    open: () => TunSocket.open({ name: HOST_INTERFACE, address: NETWORK, mode: 'tap', mac: HOST.mac }),
  },
  packet: {
    ethernet: true,
    open: () => PacketSocket.open({ interface: 'wire0', netns: cable() }),
  },
  dgram: {
    ethernet: false,
    open: () => {
      const destination = { address: HOST.mac };
      return PacketSocket.open({
        interface: 'wire0',
        netns: cable(),
        type: 'dgram',
        protocol: 'ip',
        destination,
      });
    },
  },
};

/** Lays a cable from the host's interface to a namespace that has nothing else; returns that. */
function cable(): Netns {
  const beyond = Netns.create();
  const peer = { name: 'wire0', netns: beyond };
  const link = Link.create({
    type: 'veth',
    name: HOST_INTERFACE,
    peer,
    mac: HOST.mac,
    address: NETWORK,
    up: true,
  });
  const end = beyond.run(() => Link.get('wire0'));
  end.up();
  // The ends come to life a moment after they are brought up; what is sent before that is lost.
  const deadline = Date.now() + TIMEOUT_MS;
  while ((link.flags & end.flags & IFF_RUNNING) === 0) {
    if (Date.now() > deadline) throw new Error('the cable has no carrier');
  }
  link.addNeighbour(PEER.address, PEER.mac);
  return beyond;
}

export interface Exchange {
  what: 'ARP' | 'ICMP' | 'UDP' | 'TCP';
  sent: Buffer;
  answer: Buffer;
}

/** Has the host answer an ARP request, where there is ARP, a ping, a datagram and a SYN. */
export async function inject(socket: MessageSocket, ethernet: boolean): Promise<Exchange[]> {
  const exchanges: Exchange[] = [];
  const exchange = async (what: Exchange['what'], sent: Buffer) => {
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    socket.send(sent);
    let answer: Buffer;
    do answer = await socket.receive({ signal });
    while (!isAnswer(what, answer, ethernet));
    exchanges.push({ what, sent, answer });
  };
  if (ethernet) await exchange('ARP', packets.arpRequest(PEER, HOST.address));
  const framed = (packet: Buffer) =>
    ethernet ? packets.ethernetFrame({ destination: HOST.mac, source: PEER.mac }, packet) : packet;
  const echo = { id: 0, sequence: 1 };
  await exchange('ICMP', framed(packets.echoRequest(PEER.address, HOST.address, echo, Buffer.from('ping'))));
  await exchange('UDP', framed(packets.udpPacket(PEER, HOST, Buffer.from('datagram'))));
  await exchange('TCP', framed(packets.tcpPacket(PEER, HOST, { sequence: 1000, flags: packets.TCP_SYN })));
  // The host need not wait for the rest of a connection.
  socket.sendmsg(framed(packets.tcpPacket(PEER, HOST, { sequence: 1001, flags: packets.TCP_RST })));
  return exchanges;
}

function isAnswer(what: Exchange['what'], packet: Buffer, ethernet: boolean): boolean {
  const { protocol, source, destination } = packets.summarizePacket(packet, { ethernet });
  const isFrom = (end: typeof HOST, text: string) =>
    text === end.address || text === `${end.address}:${end.port}`;
  return protocol === what && isFrom(HOST, source) && isFrom(PEER, destination);
}

/** What the host offers: UDP and TCP echo, by ordinary sockets. Returns how to stop it. */
export async function startServers(): Promise<() => void> {
  const udp = createSocket('udp4').bind(HOST.port);
  udp.on('message', (message, { address, port }) => udp.send(message, port, address));
  const tcp = createServer((connection) => connection.pipe(connection)).listen(HOST.port);
  await Promise.all([once(udp, 'listening'), once(tcp, 'listening')]);
  return () => {
    udp.close();
    tcp.close();
  };
}

/** A tun device is gone with its socket; a cable is taken away. */
export function removeInterface(): void {
  for (const link of Link.list()) if (link.name === HOST_INTERFACE) link.delete();
}

async function main(): Promise<void> {
  const stop = await startServers();
  const names = process.argv.slice(2);
  for (const name of names.length > 0 ? names : Object.keys(media)) {
    const { open, ethernet } = media[name as keyof typeof media];
    const socket = open(); // the one line
    console.log(`${name}: ${socket.constructor.name} on ${socket.name}`);
    for (const { sent, answer } of await inject(socket, ethernet)) {
      console.log(`  sent   ${packets.describePacket(sent, { ethernet })}`);
      console.log(`  answer ${packets.describePacket(answer, { ethernet })}`);
    }
    socket.close();
    removeInterface();
  }
  stop();
}

runExample(module, main);
