import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { kernelHas } from '../helpers/kernel';
import { KERNEL_DIFFERENCES } from '../helpers/kernel-differences';
import { Bundle } from './bundle';
import type { FileReport } from './file-report';
import {
  baseSystem,
  fetchedKernels,
  type GuestResult,
  type Kernel,
  missingForGuests,
  runGuest,
} from './guest';
import { guestTestFiles, missingPrograms, testSystem } from './test-system';

/** Ends a guest that hangs; one that does its work takes five minutes on a quiet machine. */
const BOUND_SECONDS = 1500;

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
async function testsIn(kernel: Kernel, tests: Bundle): Promise<FileReport[]> {
  const started = Date.now();
  const folder = mkdtempSync(join(tmpdir(), 'tunsock-vm-'));
  let result: GuestResult;
  try {
    const programs = { '/tunsock/ring_traffic': compileRingTraffic(folder) };
    const system = testSystem(kernel, tests, programs);
    const run = () => runGuest({ kernel, system, seconds: BOUND_SECONDS, memory: 1536 });
    result = await run();
    // A processor that is emulated may run code that the kernel has rewritten meanwhile: no fault of ours, nor of the kernel's.
    if (result.output.length === 0 && result.log.includes('Oops: int3')) {
      console.log(`guest with Linux ${kernel.release}: the emulator ended it; once more`);
      result = await run();
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  const { output, log, hung } = result;
  if (output.length === 0) {
    const what = hung ? `was ended after ${BOUND_SECONDS} s` : 'ended without results';
    throw new Error(`the guest ${what}; its log:\n${log}`);
  }
  const inSources = (_: string, value: unknown) =>
    typeof value === 'string' ? tests.inSources(value) : value;
  const lines = gunzipSync(output).toString().trim().split('\n');
  const reports = lines.map((line): FileReport => JSON.parse(line, inSources));
  const slowest = [...reports].sort((a, b) => b.seconds - a.seconds).slice(0, 5);
  console.log(
    `guest with Linux ${kernel.release}: ${Math.round((Date.now() - started) / 1000)} s, of which most in`,
    slowest.map(({ name, seconds }) => `${name} ${seconds.toFixed(0)} s`).join(', '),
  );
  // What takes long in a file, for whoever asked for some files alone.
  if (process.env.TUNSOCK_GUEST_TESTS !== undefined) {
    for (const { name, seconds } of reports.flatMap(({ tests }) => tests).filter((test) => test.seconds > 3))
      console.log(`${seconds.toFixed(1)} s ${name}`);
  }
  return reports;
}

const missing = missingForGuests();
/** Tests that skip themselves in a guest do so for the want of one of these, or are at fault. */
const lacking = missingPrograms();
if (missing !== undefined) console.log(`skipped: the tests in guests, because ${missing}`);

/** With TUNSOCK_GUEST_KERNEL only that series. */
const { TUNSOCK_GUEST_KERNEL: only } = process.env;
const newest = fetchedKernels().at(-1)?.series;
const kernels = fetchedKernels().filter(({ series }) => only === undefined || series === only);

for (const kernel of missing === undefined ? kernels : []) {
  describe(`in a guest with Linux ${kernel.series}`, async () => {
    const testFiles = guestTestFiles(kernel.series === newest);
    let files: FileReport[];
    try {
      files = await testsIn(kernel, new Bundle(testFiles));
    } catch (error) {
      it('brings results', () => {
        throw error;
      });
      return;
    }
    it('brings results of every file', () => {
      expect(files.map(({ name }) => name).sort()).toEqual(testFiles.map((file) => basename(file)).sort());
    });

    const differences = KERNEL_DIFFERENCES.filter(
      ({ from = [0, 0], since, file }) =>
        kernelHas(...from, kernel.release) &&
        !kernelHas(...since, kernel.release) &&
        files.some(({ name }) => name === file),
    );
    const met = new Set<unknown>();

    describe.each(files)('$name', ({ name: file, message, tests }) => {
      it('has tests', () => {
        expect(message).toBe('');
        expect(tests.length).toBeGreaterThan(0);
      });

      for (const { name, status, failure } of tests) {
        const difference = differences.find((each) => each.file === file && each.tests.test(name));
        met.add(difference);
        if (lacking.length > 0 && status === 'skipped') {
          it.skip(`${name}: of ${lacking.join(', ')}, which are missing, something is wanted`);
        } else if (difference === undefined) {
          it(name, () => {
            expect(failure).toBe('');
            expect(status).toBe('passed');
          });
        } else {
          it(`${name}: fails, because ${difference.because}`, () => {
            expect(status).toBe('failed');
            expect(failure).toMatch(difference.failure);
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
