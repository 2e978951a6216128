import { type ChildProcess, spawn } from 'node:child_process';
import { on } from 'node:events';
import type { Netns } from '../../dist';

/** Ends with whoever started it, and has `data`, what it was given, and tell(), which sends a message there. */
const PRELUDE = `
  const data = JSON.parse(process.argv[1]);
  const tell = (message) => process.send(message);
  process.on('disconnect', () => process.exit());
`;

/**
 * A program of Node's in another namespace, with which this one exchanges messages. It is a process since a Worker takes four times as long to
 * start where processors are emulated.
 */
export class Peer implements Disposable {
  readonly #process: ChildProcess;
  readonly #messages: AsyncIterator<[unknown]>;

  constructor(netns: Netns, code: string, data: unknown) {
    const args = ['-e', PRELUDE + code, JSON.stringify(data)];
    this.#process = netns.run(() =>
      spawn(process.execPath, args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] }),
    );
    this.#messages = on(this.#process, 'message', { close: ['close'] }) as AsyncIterator<[unknown]>;
  }

  /** The next message. Throws when the program has ended instead. */
  async next<T>(): Promise<T> {
    const { value, done } = await this.#messages.next();
    if (done === true) throw new Error(`a peer ended with ${this.#process.exitCode}`);
    return value[0] as T;
  }

  /** Gives the program a message: 'message' of its process. */
  tell(message: string): void {
    this.#process.send(message);
  }

  [Symbol.dispose](): void {
    this.#process.kill('SIGKILL');
  }
}
