import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { constants } from 'node:os';
import { CommandError } from './command';

/** What a shell says of a command that can't be started (POSIX, 2.8.2). */
const STATUS_NOT_FOUND = 127;
const STATUS_NOT_EXECUTABLE = 126;

const FORWARDED = ['SIGTERM', 'SIGHUP', 'SIGUSR1', 'SIGUSR2'] as const;
/** The terminal sends these to the child itself: this process only has to outlive them. */
const OUTLIVED = ['SIGINT', 'SIGQUIT'] as const;

/**
 * Runs a command to its end; returns its exit status, 128 and the signal's number where a signal ended it, 127 or 126 where it
 * can't be started. Signals that this process gets go on to it.
 *
 * @param started - called when it runs, or throws.
 */
export async function runCommand(
  command: string,
  args: readonly string[],
  options: SpawnOptions,
  started: () => void = () => {},
): Promise<number> {
  let child: ChildProcess;
  try {
    child = spawn(command, args, { stdio: 'inherit', ...options });
  } catch (error) {
    throw startError(command, error as NodeJS.ErrnoException);
  }
  const forward = (signal: NodeJS.Signals) => void child.kill(signal);
  const outlive = (signal: NodeJS.Signals) => {
    if (!process.stdin.isTTY) child.kill(signal);
  };
  for (const signal of FORWARDED) process.on(signal, forward);
  for (const signal of OUTLIVED) process.on(signal, outlive);
  try {
    return await new Promise<number>((resolve, reject) => {
      child.once('spawn', started);
      child.once('error', (error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT' || error.code === 'EACCES') {
          process.stderr.write(
            `tunsock: ${command}: ${error.code === 'ENOENT' ? 'not found' : 'may not be executed'}\n`,
          );
          resolve(error.code === 'ENOENT' ? STATUS_NOT_FOUND : STATUS_NOT_EXECUTABLE);
        } else {
          reject(startError(command, error));
        }
      });
      child.once('exit', (code, signal) =>
        resolve(code ?? 128 + constants.signals[signal as NodeJS.Signals]),
      );
    });
  } finally {
    for (const signal of FORWARDED) process.off(signal, forward);
    for (const signal of OUTLIVED) process.off(signal, outlive);
  }
}

function startError(command: string, error: NodeJS.ErrnoException): Error {
  const hint =
    error.code === 'EPERM' || error.code === 'EINVAL' ? ': this process may not become that user' : '';
  return new CommandError(`${command} can't be started: ${error.message}${hint}`, { cause: error });
}
