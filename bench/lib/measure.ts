import { type Counts, count } from './counts';
import type { Operation } from './operation';
import type { Peer } from './peer';
import type { Stage, StagedRound } from './stage';
import { median, quantile } from './statistics';

/** Rounds that nobody looks at: the compiler of JavaScript and the caches get warm. */
const WARM_UP_ROUNDS = 8;

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
  traffic: Operation['traffic'];
  baselineName: string;
  baseline: Side;
  tunsock: Side;
  /** The baseline's time by tunsock's, each round with its neighbour: the median, and the quartiles. */
  speed: { median: number; low: number; high: number };
  target: Operation['target'];
  met: boolean;
  counts: Counts | undefined;
  rounds: number;
}

/** Measures an operation against its baseline, a round of the one and a round of the other in turn. */
export async function measure(
  stage: Stage,
  operation: Operation,
  size: number,
  rounds: number,
): Promise<Row> {
  await using baseline = stage.baseline(operation, size);
  await using contender = stage.contender(operation, size);
  const play = (peer: Peer) => stage.round(peer, operation.traffic, operation.packets, size);
  const theirs: StagedRound[] = [];
  const ours: StagedRound[] = [];
  for (let index = -Math.min(WARM_UP_ROUNDS, rounds); index < rounds; index++) {
    const pair = [await play(baseline), await play(contender)] as const;
    if (index < 0) continue;
    theirs.push(pair[0]);
    ours.push(pair[1]);
  }
  const speeds = ours.map((own, index) => cost(theirs[index] as StagedRound) / cost(own));
  const speed = { median: median(speeds), low: quantile(speeds, 0.25), high: quantile(speeds, 0.75) };
  const { target } = operation;
  return {
    operation: operation.name,
    size,
    traffic: operation.traffic,
    baselineName: operation.baselineName,
    baseline: side(theirs),
    tunsock: side(ours),
    speed,
    target,
    met:
      'speedAtLeast' in target ? speed.median >= target.speedAtLeast : 1 / speed.median <= target.timeAtMost,
    counts: size === 0 ? undefined : await count(stage, operation, size),
    rounds,
  };
}

function cost({ round }: StagedRound): number {
  return round.nanoseconds / round.packets;
}

function side(rounds: readonly StagedRound[]): Side {
  const traffic = rounds.flatMap(({ traffic }) => traffic ?? []);
  return {
    nanosecondsPerPacket: median(rounds.map(cost)),
    coreShare: median(rounds.map(({ round }) => round.cpu / round.nanoseconds)),
    trafficCoreShare:
      traffic.length === 0 ? undefined : median(traffic.map((round) => round.cpu / round.nanoseconds)),
  };
}
