import { spawnSync } from 'node:child_process';
import { expect, it } from 'vitest';
import type { Report } from '../helpers/api-fuzz';
import { compiled } from '../helpers/compiled';

it('calls in any order, with anything, crash nothing, leave nothing behind, and fail with a code', () => {
  const seed = Number(process.env.TUNSOCK_FUZZ_SEED ?? 20260101);
  const steps = Number(process.env.TUNSOCK_FUZZ_STEPS ?? 6000);
  const { status, signal, stdout, stderr } = spawnSync(
    process.execPath,
    ['--expose-gc', '--no-warnings', compiled('api-fuzz'), `${seed}`, `${steps}`],
    { encoding: 'utf8', timeout: 30_000 + steps * 20, maxBuffer: 1 << 26 },
  );
  expect({ seed, status, signal, stderr }).toEqual({ seed, status: 0, signal: null, stderr: '' });
  const { violations, succeeded, failed, ...report } = JSON.parse(stdout) as Report;
  expect(violations).toEqual([]);
  expect(report.steps).toBe(steps);
  // The random calls are neither all refused nor all fine.
  expect(Math.min(succeeded, failed)).toBeGreaterThan(steps / 10);
}, 10_000_000);
