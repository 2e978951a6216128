import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import type { Netns } from '../../dist';

/** Datagrams with numbers in them, from a process in a namespace to one in another, and back. */

/** Datagrams that the kernel cuts out of one superpacket, where it is let make them. */
export const SEGMENTS = 10;

/** What a host has seen. */
export interface Seen {
  /** Datagrams that the kernel took. */
  sent: number;
  /** Datagrams that came. */
  delivered: number;
  /** Those that came behind a later one of their flow, or again. */
  outOfOrder: number;
  /** Those that the kernel had for its UDP socket and dropped: InErrors and NoPorts of /proc/net/snmp. */
  dropped: number;
  /** Whether all has been sent. */
  done: boolean;
}

/** Who sends what, and from where. */
export interface NumberedOptions {
  netns: Netns;
  address: string;
  peer: string;
  /** Datagrams to send. */
  count: number;
  /** Whether it leaves the cutting to the kernel (UDP_SEGMENT). */
  gso: boolean;
  /** Frames, with all checksums as they should be, go out by a packet socket on this interface: hexadecimal Ethernet header. */
  frames?: { interface: string; header: string };
}

const FLOWS = 4;

/** Sends in turns with receiving. Each datagram has its flow's number in it; flows are ports. */
const HOST = `
  const { UdpSocket, PacketSocket, PacketBatch } = require(process.argv[1]);
  const { readFileSync } = require('node:fs');
  const { address, peer, count, gso, frames, flows, segments } = JSON.parse(process.argv[2]);
  const PORT = 4000;
  const SIZE = 1000;
  const expected = new Array(flows).fill(0);
  let [sent, delivered, outOfOrder] = [0, 0, 0];
  const take = (flow, data) => {
    const number = data.readUInt32BE(0);
    delivered += 1;
    if (number < expected[flow]) outOfOrder += 1;
    else expected[flow] = number + 1;
  };
  // Each datagram by itself, since the kernel counts what it has no room for by what the socket would have got.
  expected.forEach((_, flow) => {
    UdpSocket.open({ address, port: PORT + flow, receiveBuffer: 1 << 20 }).on('message', (data) => take(flow, data));
  });
  const senders = expected.map((_, flow) => {
    const socket = UdpSocket.open({ address, offload: gso ? 'raw' : 'none' });
    socket.connect(peer, PORT + flow);
    return socket;
  });
  const outside = frames && PacketSocket.open({ interface: frames.interface, protocol: 0, offload: 'none' });
  const batch = new PacketBatch({ capacity: 16, packetSize: SIZE * segments + 42 });

  /** RFC 768, RFC 791: a UDP checksum of 0 is none. */
  function frameOf(flow, data) {
    const headers = Buffer.alloc(28);
    headers.writeUInt16BE(0x4500, 0);
    headers.writeUInt16BE(28 + data.length, 2);
    headers.writeUInt16BE(0x4000, 6);
    headers.writeUInt16BE(0x4011, 8);
    headers.set([...address.split('.'), ...peer.split('.')].map(Number), 12);
    let sum = 0;
    for (let at = 0; at < 20; at += 2) sum += headers.readUInt16BE(at);
    while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
    headers.writeUInt16BE(~sum & 0xffff, 10);
    headers.writeUInt16BE(PORT + flow, 20);
    headers.writeUInt16BE(PORT + flow, 22);
    headers.writeUInt16BE(8 + data.length, 24);
    return Buffer.concat([Buffer.from(frames.header, 'hex'), headers, data]);
  }

  const numbers = new Array(flows).fill(0);
  const each = gso ? segments : 1;
  let turn = 0;
  function burst() {
    const flow = turn++ % flows;
    batch.clear();
    for (let planned = 0; batch.length < batch.capacity && sent + planned < count; planned += each) {
      const data = Buffer.alloc(SIZE * each, 0x5a);
      for (let segment = 0; segment < each; segment++) data.writeUInt32BE(numbers[flow]++, segment * SIZE);
      batch.push(frames ? frameOf(flow, data) : data, gso ? { segmentSize: SIZE } : {});
    }
    const out = outside ?? senders[flow];
    for (let next = 0; next < batch.length; ) {
      const took = out.sendmmsg(batch, 0, next);
      next += took;
      sent += took * each;
    }
    if (sent < count) setImmediate(burst);
  }
  const udp = () => {
    const [names, values] = readFileSync('/proc/self/net/snmp', 'utf8').split('\\n')
      .filter((line) => line.startsWith('Udp:')).map((line) => line.split(' '));
    const of = (name) => Number(values[names.indexOf(name)]);
    return of('InErrors') + of('NoPorts');
  };
  process.on('message', (ask) => {
    if (ask === 'start') burst();
    else process.send({ sent, delivered, outOfOrder, dropped: udp(), done: sent >= count });
  });
  process.on('disconnect', () => process.exit());
  process.send('ready');
`;

/** One of the processes. It stays on one processor, since the kernel may let packets of one that moves overtake each other. */
export class NumberedHost implements AsyncDisposable {
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  static async start({ netns, ...options }: NumberedOptions): Promise<NumberedHost> {
    const core = availableParallelism() > 1 ? '1' : '0';
    const given = JSON.stringify({ ...options, flows: FLOWS, segments: SEGMENTS });
    const command = [process.execPath, '-e', HOST, join(__dirname, '../../dist'), given];
    const child = netns.run(() =>
      spawn('taskset', ['-c', core, ...command], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] }),
    );
    await once(child, 'message');
    return new NumberedHost(child);
  }

  start(): void {
    this.#child.send('start');
  }

  async seen(): Promise<Seen> {
    this.#child.send('seen');
    const [seen] = await once(this.#child, 'message');
    return seen as Seen;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.disconnect();
    await once(this.#child, 'exit');
  }
}

/** Keeps this thread on the processor that the hosts of the traffic leave to it. */
export function keepToFirstProcessor(): void {
  execFileSync('taskset', ['-pc', '0', `${process.pid}`], { stdio: 'ignore' });
}
