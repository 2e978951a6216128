import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { kernelHas } from '../helpers/kernel';
import { KERNEL_DIFFERENCES } from '../helpers/kernel-differences';
import {
  baseSystem,
  fetchedKernels,
  type GuestResult,
  type Kernel,
  missingForGuests,
  runGuest,
} from './guest';
import { guestTestFiles, testSystem } from './test-system';

/** What vitest reports of a file and of a test, as far as it is used here. */
interface GuestFile {
  name: string;
  status: string;
  message: string;
  assertionResults: GuestTest[];
}
interface GuestTest {
  fullName: string;
  status: 'passed' | 'failed' | 'skipped' | 'pending';
  failureMessages: string[];
}

/** Ends a guest that hangs; one that does its work takes two minutes. */
const BOUND_SECONDS = 900;

/** The program with which test/vm/guest/vhost-rings.test.ts drives core/vhost, under sanitizers. */
function compileRingTraffic(folder: string): string {
  const native = join(__dirname, '../../src/native');
  const program = join(folder, 'ring_traffic');
  const vhost = readdirSync(join(native, 'core/vhost')).filter((name) => name.endsWith('.cc'));
  const io = join(native, 'core/io/vhost_io.cc');
  execFileSync(process.env.CXX ?? 'c++', [
    ...['-std=c++17', '-O1', '-g1', '-Wall', '-Wextra', '-Wshadow', '-Werror', `-I${native}`],
    ...['-fsanitize=address,undefined', '-fno-sanitize-recover=all', '-o', program],
    join(__dirname, 'guest/ring_traffic.cc'),
    io,
    ...vhost.map((name) => join(native, 'core/vhost', name)),
  ]);
  return program;
}

/** Runs the tests in a guest; throws with the guest's log when it brought no results back. */
async function testsIn(kernel: Kernel): Promise<GuestFile[]> {
  const started = Date.now();
  const folder = mkdtempSync(join(tmpdir(), 'tunsock-vm-'));
  let result: GuestResult;
  try {
    const programs = { '/tunsock/ring_traffic': compileRingTraffic(folder) };
    const system = testSystem(kernel, guestTestFiles(), programs);
    result = await runGuest({ kernel, system, seconds: BOUND_SECONDS, memory: 1536 });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  const { output, log, hung } = result;
  console.log(`guest with Linux ${kernel.release}: ${Math.round((Date.now() - started) / 1000)} s`);
  if (output.length === 0) {
    const what = hung ? `was ended after ${BOUND_SECONDS} s` : 'ended without results';
    throw new Error(`the guest ${what}; its log:\n${log}`);
  }
  return (JSON.parse(gunzipSync(output).toString()) as { testResults: GuestFile[] }).testResults;
}

const missing = missingForGuests();
if (missing !== undefined) console.log(`skipped: the tests in guests, because ${missing}`);

for (const kernel of missing === undefined ? fetchedKernels() : []) {
  describe(`in a guest with Linux ${kernel.series}`, async () => {
    let files: GuestFile[];
    try {
      files = await testsIn(kernel);
    } catch (error) {
      it('brings results', () => {
        throw error;
      });
      return;
    }
    const differences = KERNEL_DIFFERENCES.filter(({ since }) => !kernelHas(...since, kernel.release));
    const met = new Set<unknown>();

    describe.each(files)('$name', ({ name, message, assertionResults }) => {
      it('has tests', () => {
        expect(message).toBe('');
        expect(assertionResults.length).toBeGreaterThan(0);
      });

      for (const { fullName, status, failureMessages } of assertionResults) {
        const difference = differences.find(
          ({ file, tests }) => file === basename(name) && tests.test(fullName),
        );
        met.add(difference);
        if (difference === undefined) {
          it(fullName, () => {
            expect(failureMessages.join('\n')).toBe('');
            expect(status).toBe('passed');
          });
        } else {
          it(`${fullName}: fails, because ${difference.because}`, () => {
            expect(status).toBe('failed');
            expect(failureMessages.join('\n')).toMatch(difference.failure);
          });
        }
      }
    });

    it('differs in all that the table of expectations has', () => {
      expect(differences.filter((difference) => !met.has(difference))).toEqual([]);
    });
  });
}

it.skipIf(missing !== undefined)(
  missing === undefined ? 'a guest that hangs is ended' : `tests in guests are skipped, because ${missing}`,
  async () => {
    const [kernel] = fetchedKernels() as [Kernel];
    const system = baseSystem(kernel, 'echo waiting; sleep 1000');
    const { log, hung } = await runGuest({ kernel, system, seconds: 10, memory: 512 });
    expect(hung).toBe(true);
    expect(log).toContain('waiting');
  },
  60_000,
);
