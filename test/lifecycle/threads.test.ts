import { execFileSync } from 'node:child_process';
import { expect, it } from 'vitest';
import { compiled } from '../helpers/compiled';
import { SCENARIOS } from '../helpers/fault-scenarios';
import type { ThreadReport } from '../helpers/thread-program';

const THREADS = 4;
/** Under sanitizers all takes ten times as long. */
const ROUNDS = process.env.TUNSOCK_SANITIZERS === undefined ? 3 : 1;

it('all that the library does works in four Workers at once, and leaves nothing behind', () => {
  // A /run of its own has the names of namespaces.
  const inside = 'mount -t tmpfs none /run && exec "$@"';
  const command = [process.execPath, compiled('thread-program'), `${THREADS}`, `${ROUNDS}`];
  const output = execFileSync('unshare', ['-m', 'sh', '-c', inside, 'sh', ...command], {
    encoding: 'utf8',
    timeout: 300_000,
  });
  const { runs, descriptors } = JSON.parse(output) as ThreadReport;
  expect(runs).toEqual(Array(THREADS).fill(ROUNDS * Object.keys(SCENARIOS).length));
  expect(descriptors[1]).toBeLessThanOrEqual(descriptors[0]);
}, 310_000);
