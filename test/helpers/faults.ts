import { closeSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs';

/** Words of the file that the preloaded library and the program share: `Control` in faults.cc. */
const ARMED = 0;
const CALLS = 3;
const FAILED_SITE = 5;
const SITES = 6;
const FIRST_SITE = 7;
const WORDS = FIRST_SITE + 4096;
const WORD = 4;

/** What a call is made to do: fail, or do half of what was asked for; or fail as all behind it do. */
export const FAULTS = {
  EINTR: 4,
  EAGAIN: 11,
  ENOBUFS: 105,
  ENOMEM: 12,
  EMFILE: 24,
  EIO: 5,
  EPERM: 1,
  short: -1,
  lasting: -2,
};
export type Fault = keyof typeof FAULTS;

/** The file through which the addon's system calls are made to fail. */
export class FaultControl {
  readonly #fd: number;

  constructor(path: string) {
    this.#fd = openSync(path, 'r+');
  }

  static make(path: string): void {
    const fd = openSync(path, 'wx');
    ftruncateSync(fd, WORDS * WORD);
    closeSync(fd);
  }

  /** The `at`th call from now on is to fail; with 0 none, and calls are counted only. */
  arm(at: number, fault: Fault): void {
    this.#write(ARMED, [1, at, FAULTS[fault], 0, 0, 0]);
  }

  /** Calls that were made since arm(), and whether one of them was made to fail. */
  disarm(): { calls: number; failed: boolean } {
    this.#write(ARMED, [0]);
    const words = this.#read(CALLS, FAILED_SITE - CALLS + 1);
    return { calls: words[0] as number, failed: words[FAILED_SITE - CALLS] !== 0 };
  }

  /** Where in the addon calls were made to fail, as offsets of what follows them. */
  sites(): number[] {
    const [count] = this.#read(SITES, 1) as [number];
    return this.#read(FIRST_SITE, count);
  }

  #write(at: number, words: number[]): void {
    writeSync(this.#fd, new Uint8Array(Int32Array.from(words).buffer), 0, words.length * WORD, at * WORD);
  }

  #read(at: number, count: number): number[] {
    const words = new Int32Array(count);
    readSync(this.#fd, new Uint8Array(words.buffer), 0, count * WORD, at * WORD);
    return [...words];
  }
}
