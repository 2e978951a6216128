import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Operation, Traffic } from './operation';
import type { Peer } from './peer';
import type { Stage, StagedRound } from './stage';
import { median } from './statistics';

/** What does not depend on the machine's mood, for each packet. */
export interface Counts {
  /** System calls of tunsock's main thread; undefined where strace is missing or may not attach. */
  systemCalls: number | undefined;
  /** Those of the baseline. */
  baselineSystemCalls: number | undefined;
  /** Bytes that tunsock allocated, on the heap and beside it. */
  allocatedBytes: number | undefined;
}

const WARM_UP_ROUNDS = 6;
const COUNTED_ROUNDS = 20;
const COUNTED_PACKETS = 4096;
/**
 * A heap in which a whole round fits, so that no collection hides what it allocated. The collections before each round
 * make system calls, so these are counted in another process.
 */
const COUNTING_FLAGS = ['--expose-gc', '--min-semi-space-size=128', '--max-semi-space-size=128'];

/** Runs a few rounds more, which are not timed, and counts. */
export async function count(
  stage: Stage,
  operation: Operation,
  traffic: Traffic,
  size: number,
): Promise<Counts> {
  await using contender = stage.contender(operation, size);
  await using collected = stage.contender(operation, size, COUNTING_FLAGS);
  await using baseline = stage.baseline(operation, size);
  const counted = { ...operation, packets: COUNTED_PACKETS };
  const play = (peer: Peer) => stage.round(peer, traffic, counted, size);
  for (let warmUp = 0; warmUp < WARM_UP_ROUNDS; warmUp++) {
    await play(contender);
    await play(collected);
  }
  return {
    allocatedBytes: await allocatedBytes(collected, play),
    systemCalls: await perPacket(systemCalls(contender, () => play(contender))),
    baselineSystemCalls: await perPacket(systemCalls(baseline, () => play(baseline))),
  };
}

/** Bytes allocated for each packet. The median: now and then the compiler needs some for itself. */
async function allocatedBytes(
  peer: Peer,
  play: (peer: Peer) => Promise<StagedRound>,
): Promise<number | undefined> {
  const rounds: number[] = [];
  for (let index = 0; index < COUNTED_ROUNDS; index++) {
    const { allocated } = (await play(peer)).round;
    if (allocated !== undefined && allocated >= 0) rounds.push(allocated / COUNTED_PACKETS);
  }
  return rounds.length === 0 ? undefined : median(rounds);
}

async function perPacket(calls: Promise<number | undefined>): Promise<number | undefined> {
  const count = await calls;
  return count === undefined ? undefined : count / COUNTED_PACKETS;
}

/** System calls that a process's main thread makes while it plays, as strace sees them; undefined where that is missing or may not attach. */
export async function systemCalls(peer: Peer, play: () => Promise<unknown>): Promise<number | undefined> {
  const tracer = spawn('strace', ['-c', '-p', `${peer.pid}`], { stdio: ['ignore', 'ignore', 'pipe'] });
  const report = attachedTo(tracer);
  if (!(await report.attached)) return undefined;
  await play();
  tracer.kill('SIGINT');
  await once(tracer, 'close');
  // % time, seconds, usecs/call, calls, errors, "total"
  const total = /^\s*100\.00\s+\S+\s+\S+\s+(\d+).*total$/m.exec(report.text());
  return total === null ? undefined : Number(total[1]);
}

/** What strace says, and whether it could attach. */
function attachedTo(tracer: ChildProcess): { attached: Promise<boolean>; text(): string } {
  let text = '';
  const attached = new Promise<boolean>((resolve) => {
    tracer.stderr?.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
      if (text.includes('attached')) resolve(true);
    });
    tracer.once('error', () => resolve(false));
    tracer.once('exit', () => resolve(false));
  });
  return { attached, text: () => text };
}
