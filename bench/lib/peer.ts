import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import { createInterface } from 'node:readline';
import type { Footprint } from './contender';
import type { Round } from './operation';

/** A process of the bench: it gets a line, does a round, and answers with a line. */
export class Peer implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  /** Starts `command` with `fds` as its descriptors 3 and up, its main thread on core `core` where one is named. */
  constructor(command: readonly string[], fds: readonly number[] = [], core?: number) {
    const [program, ...args] = command as [string, ...string[]];
    this.#child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit', ...fds] });
    if (this.#child.stdout === null) throw new Error(`${program} did not start`);
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
    if (core !== undefined && availableParallelism() > 1)
      execFileSync('taskset', ['-pc', `${core}`, `${this.pid}`], { stdio: 'ignore' });
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  /** Sends a line that has no answer of its own. */
  tell(line: string): void {
    this.#child.stdin?.write(`${line}\n`);
  }

  /** Asks for a round. */
  async ask(line: string): Promise<Round & Partial<Footprint>> {
    this.tell(line);
    return this.answer();
  }

  /** What it says next. */
  async answer(): Promise<Round & Partial<Footprint>> {
    const answer = await this.#lines.next();
    if (answer.done) throw new Error(`${this.#child.spawnargs.join(' ').slice(0, 200)} ended early`);
    return JSON.parse(answer.value);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exit = once(this.#child, 'exit');
    this.#child.stdin?.end();
    await exit;
  }
}
