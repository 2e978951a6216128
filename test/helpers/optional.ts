import { spawnSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { TestRunner } from 'vitest';

const missing = new Map<string, boolean>();

/** Ends the running test as skipped; the summary says for the want of what. */
function skip(what: string): never {
  const test = TestRunner.getCurrentTest();
  if (test === undefined) throw new Error(`${what}, and all tests of this file take it`);
  return test.context.skip(what);
}

/** The name of a program that this machine may lack, to start it by; without it the running test is skipped. CI has them all. */
export function program(name: string): string {
  const isMissing =
    missing.get(name) ?? spawnSync(name, ['--version'], { stdio: 'ignore' }).error !== undefined;
  missing.set(name, isMissing);
  return isMissing ? skip(`no ${name}`) : name;
}

/** The path of a device file; where its mode keeps this user from it, the running test is skipped. Root may open all. */
export function deviceFile(path: string): string {
  try {
    accessSync(path, constants.R_OK | constants.W_OK);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EACCES') throw error;
    return skip('a device file whose mode keeps this user from it');
  }
  return path;
}
