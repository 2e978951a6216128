import { type ChildProcess, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { compiled } from '../helpers/compiled';
import { missingForGuests } from './guest';

const ROOT = join(__dirname, '../..');

/** The processes that one has started. */
const children = (pid: number) =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').trim().split(' ').filter(Boolean).map(Number);
const nameOf = (pid: number) => {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'latin1').trim();
  } catch {
    return undefined;
  }
};

let started: ChildProcess | undefined;
afterEach(() => {
  started?.kill('SIGKILL');
});

it.each(['SIGTERM', 'SIGINT', 'SIGKILL'] as const)(
  'what test/run.mjs runs is ended when that gets %s',
  async (signal) => {
    const command = [process.execPath, '-e', 'console.log(process.pid); setInterval(() => {}, 1000)'];
    started = spawn(process.execPath, [join(ROOT, 'test/run.mjs'), ...command], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [pid] = await once(started.stdout as NodeJS.ReadableStream, 'data');
    expect(existsSync(`/proc/${Number(pid)}`)).toBe(true);
    started.kill(signal);
    await expect.poll(() => existsSync(`/proc/${Number(pid)}`), { timeout: 10_000 }).toBe(false);
  },
);

const missing = missingForGuests();

describe.skipIf(missing !== undefined)('a guest is ended', () => {
  it.each([
    ['ends', (child: ChildProcess) => child.kill('SIGKILL')],
    ['hears no more from the one that started it', (child: ChildProcess) => child.disconnect()],
  ])('when the process that runs it %s', async (_, end) => {
    started = fork(compiled('hanging-guest'));
    const { pid } = started as { pid: number };
    let guest: number | undefined;
    await expect
      .poll(
        () => {
          guest = children(pid).find((child) => nameOf(child)?.startsWith('qemu'));
          return guest;
        },
        { timeout: 30_000 },
      )
      .toBeDefined();
    end(started);
    await expect.poll(() => nameOf(guest as number), { timeout: 10_000 }).toBeUndefined();
  });
});
