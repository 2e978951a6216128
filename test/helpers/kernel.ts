import { release } from 'node:os';

/** Whether this kernel, or the one of that release, is of that version or a later one. */
export function kernelHas(major: number, minor: number, of = release()): boolean {
  const [ofMajor = 0, ofMinor = 0] = of.split('.').map(Number);
  return ofMajor > major || (ofMajor === major && ofMinor >= minor);
}

/** Whether this is a guest of test/vm, whose processors are emulated: a transfer takes ten times as long there. */
export const EMULATED = process.env.TUNSOCK_GUEST === 'true';
