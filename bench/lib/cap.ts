import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** The npm package `cap`, which captures and sends frames by libpcap. Not a dependency: the bench installs it when asked to. */
const PACKAGE = 'cap@0.2.1';
/** Tells the processes of the bench where it is; empty where it could not be installed. */
const FOLDER = 'TUNSOCK_BENCH_CAP';

/** As much of it as is compared. */
export interface Cap {
  open(device: string, filter: string, bufferBytes: number, buffer: Buffer): string;
  on(event: 'packet', listener: (bytes: number, truncated: boolean) => void): void;
  send(frame: Buffer, bytes: number): void;
  close(): boolean;
}

/** The attempt to install it in a temporary folder, which disposing removes. */
export class CapInstallation implements Disposable {
  /** What the bench's processes need in their environment. */
  readonly env: { [name: string]: string };
  /** Why it is not installed. */
  readonly problem: string | undefined;
  readonly #folder = mkdtempSync(join(tmpdir(), 'tunsock-bench-'));

  constructor() {
    const npm = ['install', '--no-audit', '--no-fund', '--prefix', this.#folder, PACKAGE];
    const { status, stderr, error } = spawnSync('npm', npm, { encoding: 'utf8' });
    this.env = { [FOLDER]: status === 0 ? this.#folder : '' };
    if (status === 0) return;
    const reason = error?.message ?? /fatal error.*|npm error (?!.*gyp).*/.exec(stderr)?.[0];
    this.problem = `${PACKAGE}, which needs libpcap-dev: it could not be installed (${reason})`;
  }

  [Symbol.dispose](): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** Whether this run compares with what else there is for Node. */
export const comparing = process.env[FOLDER] !== undefined;
/** Whether it is installed for this run. */
export const capInstalled = comparing && process.env[FOLDER] !== '';

/** A new Cap, which captures nothing yet. */
export function newCap(): Cap {
  const load = createRequire(join(process.env[FOLDER] as string, 'package.json'));
  return new (load('cap').Cap)();
}
