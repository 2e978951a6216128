import { type Counts, count } from './counts';
import type { Operation, Traffic } from './operation';
import type { Stage, StagedRound } from './stage';
import { median, quantile } from './statistics';

/** Rounds that nobody looks at: the compiler of JavaScript and the caches get warm. */
const WARM_UP_ROUNDS = 8;
const QUICK_ROUNDS = 10;

/** What one side reached: medians over the rounds. */
export interface Side {
  nanosecondsPerPacket: number;
  /** Parts of one core: user and system time of the side's own process, and of the traffic's; undefined without traffic. */
  coreShare: number;
  trafficCoreShare: number | undefined;
}

/** A row of the table. */
export interface Row {
  operation: string;
  size: number;
  traffic: Traffic;
  baselineName: string;
  /** The baseline is no program in C, but what else there is for Node. */
  rival: boolean;
  baseline: Side;
  tunsock: Side;
  /** The baseline's time by tunsock's, each round with its neighbour: the median, and the quartiles. */
  speed: { median: number; low: number; high: number };
  /** The same for the baseline in a process that has a second thread, as Node's has several: what can be reached. */
  ceiling: number | undefined;
  /** None in a flood, where the sender has a say as well, and none against other packages. */
  target: Operation['target'];
  met: boolean | undefined;
  counts: Counts | undefined;
  rounds: number;
}

/** Measures an operation against its baseline: a round of the one and a round of the other in turn. `quick`: few rounds, and nothing counted. */
export async function measure(
  stage: Stage,
  operation: Operation,
  traffic: Traffic,
  size: number,
  quick: boolean,
): Promise<Row> {
  const rounds = quick ? QUICK_ROUNDS : operation.rounds;
  await using baseline = stage.baseline(operation, size);
  await using contender = stage.contender(operation, size);
  const threads = size > 0 && typeof operation.baseline === 'string';
  await using threaded = threads ? stage.baseline(operation, size, true) : undefined;
  const peers = [baseline, contender, ...(threaded === undefined ? [] : [threaded])];
  const played: StagedRound[][] = peers.map(() => []);
  for (let index = -Math.min(WARM_UP_ROUNDS, rounds); index < rounds; index++) {
    for (const [at, peer] of peers.entries()) {
      const round = await stage.round(peer, traffic, operation, size);
      if (index >= 0) played[at]?.push(round);
    }
  }
  const [theirs = [], ours = [], limits = []] = played;
  const clock = traffic === 'flood' ? 'wall' : operation.clock;
  const cost = ({ round }: StagedRound) => (clock === 'cpu' ? round.cpu : round.nanoseconds) / round.packets;
  const speedsOf = (rounds: StagedRound[]) =>
    rounds.map((round, index) => cost(theirs[index] as StagedRound) / cost(round));
  const speeds = speedsOf(ours);
  const speed = { median: median(speeds), low: quantile(speeds, 0.25), high: quantile(speeds, 0.75) };
  const target = traffic === 'flood' ? undefined : operation.target;
  // In a flood it would depend on how often the reader finds nothing.
  const countable = size > 0 && traffic !== 'flood' && !quick;
  return {
    operation: operation.name,
    size,
    traffic,
    baselineName: operation.baselineName,
    rival: typeof operation.baseline === 'function',
    baseline: side(theirs, cost),
    tunsock: side(ours, cost),
    speed,
    ceiling: limits.length === 0 ? undefined : median(speedsOf(limits)),
    target,
    met: target && isMet(target, speed.median),
    counts: countable ? await count(stage, operation, traffic, size) : undefined,
    rounds,
  };
}

function isMet(target: NonNullable<Operation['target']>, speed: number): boolean {
  return 'speedAtLeast' in target ? speed >= target.speedAtLeast : 1 / speed <= target.timeAtMost;
}

function side(rounds: readonly StagedRound[], cost: (round: StagedRound) => number): Side {
  const traffic = rounds.flatMap(({ traffic }) => traffic ?? []);
  return {
    nanosecondsPerPacket: median(rounds.map(cost)),
    coreShare: median(rounds.map(({ round }) => round.cpu / round.nanoseconds)),
    trafficCoreShare:
      traffic.length === 0 ? undefined : median(traffic.map((round) => round.cpu / round.nanoseconds)),
  };
}
