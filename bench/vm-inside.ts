/**
 * What `npm run bench -- --vm` runs in a guest: `node vm-inside.js [quick]` writes its rows as JSON to standard output. The C programs are there
 * already (lib/compiled.ts).
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Netns, TunSocket } from 'tunsock';
import { compiled } from './lib/compiled';
import { systemCalls } from './lib/counts';
import { tunDevice, udpPacket } from './lib/device';
import { type Forwarder, type ForwardRound, ForwardStage } from './lib/forward-stage';
import type { Round } from './lib/operation';
import { Peer } from './lib/peer';
import { median, quantile } from './lib/statistics';
import type { VmForwardRow, VmRow, VmRows, VmSide } from './lib/vm-report';

const CONTENDER_CORE = 0;
const TRAFFIC_CORE = 1;
const PACKETS = 8192;
const COUNTED_PACKETS = 4096;

const works = [
  { name: 'sendmmsg', baseline: 'write_loop', receives: false },
  { name: 'recvmmsg', baseline: 'read_loop', receives: true },
  { name: "'batch'", baseline: 'poll_read_loop', receives: true },
  { name: "'message'", baseline: 'poll_read_loop', receives: true },
] as const;
type Work = (typeof works)[number];

/** One way to do a work: a process in a namespace of its own, and who sends to its device there. */
class Lane implements AsyncDisposable {
  readonly rounds: Round[] = [];
  readonly #netns: Netns;
  readonly #peer: Peer;
  readonly #traffic: Peer | undefined;

  private constructor(netns: Netns, peer: Peer, traffic: Peer | undefined) {
    this.#netns = netns;
    this.#peer = peer;
    this.#traffic = traffic;
  }

  static async open(by: VmSide, { name, baseline, receives }: Work, size: number): Promise<Lane> {
    const netns = Netns.create();
    // No router solicitations between our packets.
    netns.run(() => writeFileSync('/proc/sys/net/ipv6/conf/default/disable_ipv6', '1'));
    const packet = udpPacket(size).toString('hex');
    let peer: Peer;
    if (by === 'C') {
      using socket = TunSocket.open({ ...tunDevice, netns });
      peer = new Peer([compiled(baseline), packet, 'threaded'], [socket.fd], CONTENDER_CORE);
    } else {
      const script = join(__dirname, 'lib', 'vm-peer.js');
      const command = [process.execPath, script, name, `${by === 'vhost'}`, packet];
      peer = netns.run(() => new Peer(command, [], CONTENDER_CORE));
      await peer.answer();
    }
    const traffic = receives ? netns.run(() => new Peer([compiled('traffic')], [], TRAFFIC_CORE)) : undefined;
    return new Lane(netns, peer, traffic);
  }

  async round(packets: number, size: number): Promise<Round> {
    await this.#traffic?.ask(`burst ${packets} ${size}`);
    return this.#peer.ask(`${packets}`);
  }

  /** System calls for each packet, in a round that is not timed. */
  async calls(size: number): Promise<number | undefined> {
    await this.#traffic?.ask(`burst ${COUNTED_PACKETS} ${size}`);
    const calls = await systemCalls(this.#peer, () => this.#peer.ask(`${COUNTED_PACKETS}`));
    return calls === undefined ? undefined : calls / COUNTED_PACKETS;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const peer of [this.#peer, this.#traffic]) await peer?.[Symbol.asyncDispose]();
    this.#netns.close();
  }
}

const sides = ['C', 'tunsock', 'vhost'] as const;

async function measure(work: Work, size: number, rounds: number): Promise<VmRow> {
  await using c = await Lane.open('C', work, size);
  await using plain = await Lane.open('tunsock', work, size);
  await using vhost = await Lane.open('vhost', work, size);
  const lanes = [c, plain, vhost];
  // As many to warm up.
  for (let index = -rounds; index < rounds; index++) {
    for (const lane of lanes) {
      const round = await lane.round(PACKETS, size);
      if (index >= 0) lane.rounds.push(round);
    }
  }
  const cost = ({ cpu, packets }: Round) => cpu / packets;
  const results: VmRow['results'] = [];
  for (const [at, lane] of lanes.entries()) {
    const ratios = lane.rounds.map((round, index) => cost(round) / cost(c.rounds[index] as Round));
    results.push({
      side: sides[at] as VmSide,
      packetsPerSecond: median(lane.rounds.map(({ packets, nanoseconds }) => (packets * 1e9) / nanoseconds)),
      threadNanoseconds: median(lane.rounds.map(cost)),
      ratio: { median: median(ratios), low: quantile(ratios, 0.25), high: quantile(ratios, 0.75) },
      systemCalls: await lane.calls(size),
    });
  }
  return { work: work.name, size, results };
}

const forwarders: readonly Forwarder[] = [
  { name: 'C, no offload', by: 'C', offload: 'none' },
  { name: "'none'", by: 'tunsock', offload: 'none' },
  { name: "'none', vhost", by: 'tunsock', offload: 'none', vhost: true },
  { name: 'C, superpackets', by: 'C', offload: 'raw' },
  { name: "'raw'", by: 'tunsock', offload: 'raw' },
  { name: "'raw', vhost", by: 'tunsock', offload: 'raw', vhost: true },
  { name: "'split'", by: 'tunsock', offload: 'split' },
  { name: "'split', vhost", by: 'tunsock', offload: 'split', vhost: true },
];
const FORWARD_BYTES = { none: 5_000_000, split: 50_000_000, raw: 50_000_000 };

async function forward(rounds: number, progress: (text: string) => void): Promise<VmForwardRow[]> {
  const stages: ForwardStage[] = [];
  const results = forwarders.map((): ForwardRound[] => []);
  try {
    for (const forwarder of forwarders) stages.push(await ForwardStage.open(forwarder));
    // The first one warms up.
    for (let round = 0; round <= rounds; round++) {
      for (const [index, stage] of stages.entries()) {
        const { name, offload } = forwarders[index] as Forwarder;
        progress(`round ${round}: TCP, ${name}`);
        const result = await stage.round(FORWARD_BYTES[offload]);
        if (round > 0) results[index]?.push(result);
      }
    }
  } finally {
    for (const stage of stages) await stage[Symbol.asyncDispose]();
  }
  return forwarders.map(({ name }, index) => {
    const rounds = results[index] as ForwardRound[];
    return {
      name,
      megabitsPerSecond: median(rounds.map(({ gigabitsPerSecond }) => gigabitsPerSecond * 1000)),
      threadMillisecondsPerMegabyte: median(rounds.map(({ threadPerGigabyte }) => threadPerGigabyte / 1000)),
    };
  });
}

async function main([quick]: string[]): Promise<void> {
  const rounds = quick === undefined ? 15 : 5;
  const progress = (text: string) => console.error(`${process.uptime().toFixed(0)} s  ${text}`);
  const rows: VmRow[] = [];
  for (const work of works) {
    for (const size of [64, 1400]) {
      rows.push(await measure(work, size, rounds));
      progress(`${work.name} ${size} B: ${JSON.stringify(rows.at(-1)?.results)}`);
    }
  }
  const result: VmRows = { rows, forward: await forward(quick === undefined ? 5 : 2, progress) };
  process.stdout.write(JSON.stringify(result));
}

void main(process.argv.slice(2));
