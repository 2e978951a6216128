import { type Forwarder, type ForwardRound, ForwardStage } from './lib/forward-stage';
import { median, quantile } from './lib/statistics';

/** In the order of the table; C with superpackets is what the others are compared with. */
const forwarders: readonly (Forwarder & { target?: number })[] = [
  { name: 'C, no offload', by: 'C', offload: 'none' },
  { name: "tunsock, 'none'", by: 'tunsock', offload: 'none' },
  { name: 'C, superpackets', by: 'C', offload: 'raw' },
  { name: "tunsock, 'raw'", by: 'tunsock', offload: 'raw', target: 0.97 },
  { name: "tunsock, 'split'", by: 'tunsock', offload: 'split', target: 0.9 },
];
const REFERENCE = 'C, superpackets';

const BYTES = 1_000_000_000;
const BYTES_WITHOUT_OFFLOAD = 100_000_000;
const ROUNDS = 15;
const QUICK_ROUNDS = 3;
/** How much shorter a stream of a quick run is. */
const QUICK_PART = 4;

/** What one forwarder reached: medians over the rounds. */
export interface ForwardRow {
  name: string;
  gigabitsPerSecond: number;
  cpuPerGigabyte: number;
  /** Throughput by that of the C forwarder with superpackets in the neighbouring round: the median, and the quartiles. */
  ratio: { median: number; low: number; high: number };
  target: number | undefined;
  rounds: number;
}

/** TCP between two tun devices, through forwarders in C and in JavaScript, with and without offload: a stream through each in turn. */
export async function forward(quick: boolean, progress: (text: string) => void): Promise<ForwardRow[]> {
  const stages: ForwardStage[] = [];
  const rounds = forwarders.map((): ForwardRound[] => []);
  try {
    for (const forwarder of forwarders) stages.push(await ForwardStage.open(forwarder));
    const count = quick ? QUICK_ROUNDS : ROUNDS;
    // The first one warms up.
    for (let round = 0; round <= count; round++) {
      for (const [index, stage] of stages.entries()) {
        const bytes = forwarders[index]?.offload === 'none' ? BYTES_WITHOUT_OFFLOAD : BYTES;
        const result = await stage.round(quick ? bytes / QUICK_PART : bytes);
        if (round > 0) rounds[index]?.push(result);
      }
    }
  } finally {
    for (const stage of stages) await stage[Symbol.asyncDispose]();
  }
  const reference = rounds[forwarders.findIndex(({ name }) => name === REFERENCE)] as ForwardRound[];
  return forwarders.map(({ name, target }, index) => {
    const row = rowOf(name, rounds[index] as ForwardRound[], reference, target);
    progress(`forward, ${name}: ${row.gigabitsPerSecond.toFixed(1)} Gb/s`);
    return row;
  });
}

function rowOf(
  name: string,
  rounds: readonly ForwardRound[],
  reference: readonly ForwardRound[],
  target: number | undefined,
): ForwardRow {
  const speeds = rounds.map(({ gigabitsPerSecond }) => gigabitsPerSecond);
  const ratios = speeds.map((speed, index) => speed / (reference[index] as ForwardRound).gigabitsPerSecond);
  return {
    name,
    gigabitsPerSecond: median(speeds),
    cpuPerGigabyte: median(rounds.map(({ cpuPerGigabyte }) => cpuPerGigabyte)),
    ratio: { median: median(ratios), low: quantile(ratios, 0.25), high: quantile(ratios, 0.75) },
    target,
    rounds: rounds.length,
  };
}
