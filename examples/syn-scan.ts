/**
 * Which TCP ports of a host are open? A SYN to each; SYN and ACK back: open, RST: closed. The host is a namespace of this program
 * alone: scan nobody who has not asked for it.
 *
 *     node syn-scan.js
 */
import { setTimeout } from 'node:timers/promises';
import { type MessageSocket, Netns, PacketBatch, TunSocket } from 'tunsock';
import { PROTOCOL_TCP, readIp, readTcp, TCP_ACK, TCP_RST, TCP_SYN, tcpPacket } from 'tunsock/packets';
import { posted, runExample, runIn } from './stage';

const SOURCE = { address: '10.0.0.2', port: 40_000 };
const BURST = 256;
/** A packet may get lost: who has not answered is asked again. */
const ROUNDS = 10;
const QUIET_MS = 500;

export interface Scan {
  open: number[];
  closed: number;
  /** Ports from which nothing came. */
  silent: number;
}

/** Scans the first `ports` ports of a host, through a socket that carries IP packets to it. */
export async function scan(socket: MessageSocket, target: string, ports: number): Promise<Scan> {
  const open = new Set<number>();
  const closed = new Set<number>();
  let last = performance.now();
  const listener = (packet: Buffer) => {
    const ip = readIp(packet);
    if (ip?.source !== target || ip.protocol !== PROTOCOL_TCP) return;
    const segment = readTcp(ip.payload);
    // The acknowledgement shows that it is an answer to us (RFC 9293, 3.10.7).
    if (segment?.destinationPort !== SOURCE.port || segment.acknowledgement !== segment.sourcePort + 1)
      return;
    last = performance.now();
    if ((segment.flags & TCP_RST) !== 0) closed.add(segment.sourcePort);
    else if (segment.flags === (TCP_SYN | TCP_ACK)) open.add(segment.sourcePort);
  };
  socket.on('message', listener);
  const batch = new PacketBatch({ capacity: BURST, packetSize: 64 });
  for (let round = 0; round < ROUNDS && open.size + closed.size < ports; round++) {
    for (let port = 1; port <= ports; ) {
      batch.clear();
      for (; port <= ports && batch.length < BURST; port++) {
        if (open.has(port) || closed.has(port)) continue;
        batch.push(tcpPacket(SOURCE, { address: target, port }, { sequence: port, flags: TCP_SYN }));
      }
      for (let sent = 0; sent < batch.length; ) sent += socket.sendmmsg(batch, 0, sent);
      // The answers have their turn before the device's queue is full.
      await setTimeout(1);
    }
    last = performance.now();
    while (performance.now() - last < QUIET_MS && open.size + closed.size < ports) await setTimeout(10);
  }
  socket.off('message', listener);
  // The host need not wait for the rest of these connections.
  for (const port of open) {
    socket.sendmsg(tcpPacket(SOURCE, { address: target, port }, { sequence: port + 1, flags: TCP_RST }));
  }
  return {
    open: [...open].sort((a, b) => a - b),
    closed: closed.size,
    silent: ports - open.size - closed.size,
  };
}

const SERVERS = `
  const { createServer } = require('node:net');
  const { once } = require('node:events');
  Promise.all([22, 80, 443, 8080].map((port) => once(createServer().listen(port), 'listening')))
    .then(() => require('node:worker_threads').parentPort.postMessage('ready'));
`;

async function main(): Promise<void> {
  const netns = Netns.create();
  const tun = TunSocket.open({ netns, address: '10.0.0.1/24', txQueueLength: 1000 });
  const servers = runIn(netns, SERVERS);
  await posted(servers);
  const start = performance.now();
  const { open, closed, silent } = await scan(tun, '10.0.0.1', 10_000);
  console.log(`open: ${open.join(', ')}; ${closed} closed, ${silent} silent`);
  console.log(`10000 ports in ${(performance.now() - start).toFixed(0)} ms`);
  await servers.terminate();
  tun.close();
  netns.close();
}

runExample(module, main);
