import { release } from 'node:os';

/** Whether the kernel is of that version or a later one. */
export function kernelHas(major: number, minor: number): boolean {
  const [ofMajor = 0, ofMinor = 0] = release().split('.').map(Number);
  return ofMajor > major || (ofMajor === major && ofMinor >= minor);
}
