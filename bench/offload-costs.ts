import { execFileSync } from 'node:child_process';
import { compiledWithOffload } from './lib/compiled';
import { median } from './lib/statistics';

/** What checksum, split and merge cost by themselves: nanoseconds, medians (bench/offload_costs.cc). */
export interface OffloadCosts {
  /** The checksum of 1448 bytes, and of 65536. */
  checksum1448: number;
  checksum65536: number;
  /** For each segment of 1448 bytes of a superpacket: cutting it out, and merging it again. */
  splitSegment: number;
  mergeSegment: number;
  /** A packet that has nothing to merge with. */
  mergeLonePacket: number;
}

const RUNS = 5;
const QUICK_RUNS = 1;

export function offloadCosts(quick: boolean): OffloadCosts {
  const program = compiledWithOffload('offload_costs');
  const runs = Array.from(
    { length: quick ? QUICK_RUNS : RUNS },
    () => JSON.parse(execFileSync(program, { encoding: 'utf8' })) as OffloadCosts,
  );
  const keys = Object.keys(runs[0] as OffloadCosts) as (keyof OffloadCosts)[];
  return Object.fromEntries(
    keys.map((key) => [key, median(runs.map((run) => run[key]))]),
  ) as unknown as OffloadCosts;
}
