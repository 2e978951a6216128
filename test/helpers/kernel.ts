import { readFileSync } from 'node:fs';
import { release } from 'node:os';

/** Whether this kernel, or the one of that release, is of that version or a later one. */
export function kernelHas(major: number, minor: number, of = release()): boolean {
  const [ofMajor = 0, ofMinor = 0] = of.split('.').map(Number);
  return ofMajor > major || (ofMajor === major && ofMinor >= minor);
}

/** Whether this is a guest of test/vm, whose processors are emulated: a transfer takes ten times as long there. */
export const EMULATED = process.env.TUNSOCK_GUEST === 'true';

/** Whether this is root of the machine, and not of a user namespace only, where other ids, mounts in /run and bpf(2) are not to be had. */
export const IS_REAL_ROOT = /^\s*0\s+0\s+4294967295/.test(readFileSync('/proc/self/uid_map', 'utf8'));
