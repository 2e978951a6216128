import { readdirSync } from 'node:fs';
import { inspect } from 'node:util';
import { Link, Netns } from '../../dist';
import { SCENARIOS } from './fault-scenarios';
import { assertTyped } from './fault-traffic';
import { FAULTS, type Fault, FaultControl } from './faults';

/**
 * Runs one scenario again and again, each time with another system call of the addon failing: fault-program CONTROL SCENARIO EVERY.
 * It ends with a line of JSON, a Report. Of the faults each call has each `EVERY`th, by turns.
 */
export interface Report {
  /** System calls of the run in which none failed. */
  calls: number;
  runs: number;
  /** Runs in which the fault was told, and those which went well nevertheless. */
  told: number;
  succeeded: number;
  violations: string[];
  /** FaultControl.sites(). */
  sites: number[];
}

const [path, name, every] = process.argv.slice(2) as [string, string, string];
const control = new FaultControl(path);
const scenario = SCENARIOS[name] as (typeof SCENARIOS)[string];
const report: Report = { calls: 0, runs: 0, told: 0, succeeded: 0, violations: [], sites: [] };

/** What a run must leave as it was. */
function belongings(): string {
  const links = Link.list().map((link) => link.name);
  const mounts = process.getuid?.() === 0 ? readdirSync('/run').filter((each) => each === 'netns') : [];
  return JSON.stringify({ descriptors: readdirSync('/proc/self/fd').length, links, mounts });
}

/** What closes does so at the loop's next turns: until all is as `expected`, or without that as it stays. */
async function settled(expected?: string): Promise<string> {
  let now = belongings();
  for (let turn = 0, still = 0; turn < 200 && now !== expected && still < 20; turn++) {
    await new Promise((resolve) => setTimeout(resolve, turn < 50 ? 0 : 5));
    const before = now;
    now = belongings();
    still = expected === undefined && now === before ? still + 1 : 0;
  }
  return now;
}

/** What the scenario threw in the last run. */
let error: unknown;

async function run(at: number, fault: Fault): Promise<{ calls: number; failed: boolean }> {
  error = undefined;
  control.arm(at, fault);
  try {
    await scenario.run();
  } catch (thrown) {
    error = thrown;
  }
  // What closes later, closes under the fault too.
  await new Promise(setImmediate);
  const outcome = control.disarm();
  if (error !== undefined) assertTyped(error);
  if (error !== undefined && !outcome.failed) throw error;
  if (error !== undefined) report.told++;
  else report.succeeded++;
  await scenario.check?.(fault);
  return outcome;
}

async function main(): Promise<void> {
  Netns.create({ loopback: true }).enter();
  let late: unknown;
  const onLate = (error: unknown) => {
    late ??= error;
  };
  process.on('uncaughtException', onLate).on('unhandledRejection', onLate);
  await scenario.prepare?.();
  // Twice, so that what is made on first use is there; so is stderr.
  process.stderr.write(name);
  await run(0, 'EPERM');
  report.calls = (await run(0, 'EPERM')).calls;
  let before = await settled();
  const faults = Object.keys(FAULTS) as Fault[];
  // What is made in each run is undone where a call fails: that all fails from then on has its turn with each call.
  const undoes = scenario.prepare === undefined;
  for (let at = 1, most = report.calls; at <= most && report.violations.length < 20; at++) {
    for (const [n, fault] of faults.entries()) {
      if ((at + n) % Number(every) !== 0 && !(undoes && fault === 'lasting')) continue;
      // Who watches over this sees where it was, should it end here.
      process.stderr.write(`\r${name}: call ${at}, ${fault}`);
      report.runs++;
      try {
        const { calls } = await run(at, fault);
        // After a fault there may be more to do.
        most = Math.max(most, Math.min(calls, 2 * report.calls));
        if (late !== undefined) assertTyped(late);
        const after = await settled(before);
        if (after !== before)
          throw new Error(`left behind: ${after} rather than ${before}`, { cause: error });
      } catch (thrown) {
        report.violations.push(`call ${at}, ${fault}: ${inspect(thrown)}`);
        control.disarm();
        before = await settled();
      }
      late = undefined;
    }
  }
  report.sites = control.sites();
  console.log(JSON.stringify(report));
  process.exit();
}

main().catch((cause) => {
  console.error(`\n${inspect(cause)}`);
  process.exit(1);
});
