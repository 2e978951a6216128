/** UdpSocket with UDP_SEGMENT and UDP_GRO against C with the same calls, and against node:dgram, over loopback. */
import { join } from 'node:path';
import { Link, UdpSocket } from 'tunsock';
import { compiled } from './lib/compiled';
import { markdownTable } from './lib/markdown';
import { Peer } from './lib/peer';
import { median } from './lib/statistics';

const BYTES = 1400;
/** Packets in a batch; C takes as many messages in one call. */
const BATCH = '64';
/** As many datagrams as C takes in one call, when each of its messages is the 32 that are sent together here. */
const LARGE_BATCH = '2048';
/** Enough that what a round costs by itself, such as waking up, is small beside them. */
const PACKETS = 40960;
const FIRST_PORT = 6100;
const SINK_PORT = 6099;
/** The least speed, as a multiple of C's, and of dgram's (design, section 4). */
const TARGETS = { C: 0.95, dgram: 5 };

interface Contender {
  name: string;
  direction: 'send' | 'receive';
  port: number;
  peer: Peer;
  /** Nanoseconds of CPU time for each datagram. */
  rounds: number[];
}

export interface UdpRow {
  name: string;
  direction: 'send' | 'receive';
  nanoseconds: number;
}

/**
 * CPU time of each process for each datagram. What is sent goes to a socket that nobody reads, whose queue is full; what is received is queued before
 * the clock starts.
 */
export async function udp(quick: boolean): Promise<UdpRow[]> {
  Link.get('lo').up();
  using sink = UdpSocket.open({ address: '127.0.0.1', port: SINK_PORT, receiveBuffer: 2304 });
  using feeder = UdpSocket.open({ address: '127.0.0.1', offload: 'raw' });
  // Inherited by dgram, which can't have so large a queue of its own. Its datagrams are queued one by one.
  using inherited = UdpSocket.open({ address: '127.0.0.1', port: FIRST_PORT, receiveBuffer: 128 << 20 });
  const node = (side: string, ...args: string[]) => [
    process.execPath,
    join(__dirname, 'lib', 'udp-peer.js'),
    side,
    ...args,
  ];
  const loop = compiled('udp_loop');
  const contenders: Contender[] = [];
  const add = (
    name: string,
    direction: 'send' | 'receive',
    port: number,
    command: string[],
    fds: number[] = [],
  ) => {
    contenders.push({ name, direction, port, peer: new Peer(command, fds), rounds: [] });
  };
  const to = [String(sink.address().port), String(BYTES)];
  add('C', 'send', SINK_PORT, [loop, 'send', ...to]);
  add("tunsock, 'split'", 'send', SINK_PORT, node('tunsock', 'send', ...to, BATCH));
  add('dgram', 'send', SINK_PORT, node('dgram', 'send', ...to));
  const receivers: [string, string[], string][] = [
    ['C', [loop, 'receive'], ''],
    ["tunsock, 'split'", node('tunsock', 'receive'), BATCH],
    [`tunsock, 'split', ${LARGE_BATCH} datagrams a call`, node('tunsock', 'receive'), LARGE_BATCH],
    ["tunsock, 'raw'", node('tunsock-raw', 'receive'), BATCH],
  ];
  receivers.forEach(([name, command, capacity], index) => {
    const port = FIRST_PORT + 1 + index;
    add(name, 'receive', port, [...command, String(port), String(BYTES), capacity]);
  });
  add('dgram', 'receive', FIRST_PORT, node('dgram', 'receive'), [inherited.fd]);
  try {
    for (const { peer } of contenders) await peer.answer();
    for (let round = 0; round < (quick ? 10 : 40); round++) {
      for (const contender of contenders) contender.rounds.push(await measured(contender, feeder));
    }
  } finally {
    for (const { peer } of contenders) await peer[Symbol.asyncDispose]();
  }
  return contenders.map(({ name, direction, rounds }) => ({ name, direction, nanoseconds: median(rounds) }));
}

async function measured({ name, direction, port, peer }: Contender, feeder: UdpSocket): Promise<number> {
  if (direction === 'receive') {
    // A program that reads whatever comes must not see it come.
    if (name === 'dgram') process.kill(peer.pid, 'SIGSTOP');
    const run = Buffer.alloc(32 * BYTES);
    const to = { address: '127.0.0.1', port };
    for (let left = PACKETS; left > 0; left -= 32) feeder.sendmsg(run, 0, { to, segmentSize: BYTES });
  }
  const asked = peer.ask(String(PACKETS));
  // Its line waits for it then, before the datagrams.
  await new Promise((resolve) => setTimeout(resolve, 20));
  if (name === 'dgram') process.kill(peer.pid, 'SIGCONT');
  const { packets, cpu } = await asked;
  if (packets !== PACKETS) throw new Error(`${name}: ${PACKETS - packets} datagrams are missing`);
  return cpu / PACKETS;
}

export function udpTable(rows: readonly UdpRow[]): string {
  const of = (name: string, direction: string) =>
    rows.find((row) => row.name === name && row.direction === direction)?.nanoseconds ?? Number.NaN;
  return markdownTable([
    [
      `UDP, ${BYTES} B`,
      'ns CPU a datagram',
      `times C (at least ${TARGETS.C})`,
      `times dgram (at least ${TARGETS.dgram})`,
    ],
    ...rows.map(({ name, direction, nanoseconds }) => [
      `${direction}, ${name}`,
      nanoseconds.toFixed(0),
      (of('C', direction) / nanoseconds).toFixed(2),
      (of('dgram', direction) / nanoseconds).toFixed(1),
    ]),
  ]);
}
