import { readdirSync } from 'node:fs';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { Netns } from '../../dist';
import { SCENARIOS } from './fault-scenarios';

/**
 * All scenarios in several threads at once, each thread in a namespace of its own and at another place in their list:
 * thread-program THREADS ROUNDS. It ends with a line of JSON, a ThreadReport.
 */
export interface ThreadReport {
  /** Scenarios that each thread has run, of which each ended well. */
  runs: number[];
  /** Descriptors that the process had before and after all Workers. */
  descriptors: [before: number, after: number];
}

async function work(thread: number, threads: number, rounds: number): Promise<number> {
  Netns.create({ loopback: true }).enter();
  const all = Object.entries(SCENARIOS);
  const first = Math.floor((thread * all.length) / threads);
  const turned = [...all.slice(first), ...all.slice(0, first)];
  let runs = 0;
  for (const [name, scenario] of turned) {
    try {
      await scenario.prepare?.();
      for (let round = 0; round < rounds; round++) {
        await scenario.run();
        await scenario.check?.('EPERM');
        runs++;
      }
      // One of them ends with what it has.
      if (thread % 2 === 0 || runs < rounds * all.length) await scenario.end?.();
    } catch (cause) {
      throw new Error(`thread ${thread}, ${name}`, { cause });
    }
  }
  return runs;
}

/** A Worker ends with its sockets open. */
function runInWorker(data: { thread: number; threads: number; rounds: number }): Promise<number> {
  return new Promise((resolve, reject) => {
    let runs = 0;
    // Descriptors that the addon has opened may be closed by node:fs.
    new Worker(__filename, { workerData: data, trackUnmanagedFds: false })
      .on('message', (told) => {
        runs = told;
      })
      .on('error', reject)
      .on('exit', () => resolve(runs));
  });
}

async function main(): Promise<void> {
  const [threads, rounds] = process.argv.slice(2).map(Number) as [number, number];
  const open = () => readdirSync('/proc/self/fd').length;
  // What a first Worker makes once for all is not left behind.
  await runInWorker({ thread: 0, threads: 1, rounds: 0 });
  const before = open();
  const runs = await Promise.all(
    Array.from({ length: threads }, (_, thread) => runInWorker({ thread, threads, rounds })),
  );
  console.log(JSON.stringify({ runs, descriptors: [before, open()] } satisfies ThreadReport));
}

if (isMainThread) {
  void main();
} else {
  const { thread, threads, rounds } = workerData;
  void work(thread, threads, rounds).then((runs) => {
    parentPort?.postMessage(runs);
    process.exit();
  });
}
