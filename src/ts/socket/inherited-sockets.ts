import { native } from '../native';
import { workerThreads } from '../support/builtins';
import { invalidArgValue, invalidState, type SystemError, systemError } from '../support/errors';
import type { MessageSocket } from './message-socket';
import { socketFromFd } from './socket-from-fd';

/** SD_LISTEN_FDS_START. */
const FIRST = 3;
const VARIABLES = ['LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES', 'LISTEN_PIDFDID'];

/**
 * The sockets that a service manager or `tunsock open` handed to this process, by name: descriptors from 3 on, as LISTEN_FDS, LISTEN_PID and
 * LISTEN_FDNAMES say. They become close-on-exec, and the variables are removed, so that no child takes them for its own: a second call gives
 * nothing. Without names all are called 'unknown'; of several with one name, the second is 'name:2', and so on, in their order.
 *
 * Empty where nothing was handed over, or to another process (LISTEN_PID). See sd_listen_fds(3).
 *
 * @throws TypeError `ERR_INVALID_ARG_VALUE` for variables that make no sense; SystemError ENOTSOCK (one of them is nothing that socketFromFd()
 * takes), EBADF (one is not open): all are then still open, and close-on-exec. Error `ERR_INVALID_STATE` in a Worker: descriptors are
 * handed to the process, whose main thread passes them on by detach().
 */
export function inheritedSockets(): Map<string, MessageSocket> {
  if (!workerThreads().isMainThread)
    throw invalidState('inheritedSockets() is for the main thread: hand socket.detach() to the Worker');
  const { LISTEN_PID: pid, LISTEN_FDS: count, LISTEN_FDNAMES: names } = process.env;
  for (const variable of VARIABLES) delete process.env[variable];
  const sockets = new Map<string, MessageSocket>();
  if (pid === undefined || count === undefined) return sockets;
  if (whole('LISTEN_PID', pid) !== process.pid) return sockets;
  const named = descriptorNames(whole('LISTEN_FDS', count), names);
  named.forEach((name, index) => {
    closeOnExec(FIRST + index, name);
  });
  try {
    named.forEach((name, index) => {
      sockets.set(unused(name, sockets), inherited(FIRST + index, name));
    });
  } catch (error) {
    for (const socket of sockets.values()) socket.detach();
    throw error;
  }
  return sockets;
}

function whole(variable: string, text: string): number {
  const value = /^\d+$/.test(text) ? Number(text) : 0;
  if (value < 1 || value > 0x7fffffff - FIRST)
    throw invalidArgValue(`the environment variable ${variable}`, 'a whole number above 0', text);
  return value;
}

function descriptorNames(count: number, names: string | undefined): string[] {
  // No process has as many descriptors as a number can say.
  if (count > MAX_COUNT)
    throw invalidArgValue('the environment variable LISTEN_FDS', `at most ${MAX_COUNT}`, `${count}`);
  const named = names === undefined ? new Array<string>(count).fill('unknown') : names.split(':');
  if (named.length === count) return named;
  throw invalidArgValue(
    'the environment variable LISTEN_FDNAMES',
    `${count} names, as LISTEN_FDS says`,
    names,
  );
}

/** fs.nr_open, as the kernel starts. */
const MAX_COUNT = 1_048_576;

function closeOnExec(fd: number, name: string): void {
  const result = native().setCloseOnExec(fd);
  if (result < 0)
    throw systemError(result, 'fcntl', { hint: `descriptor ${fd}, '${name}', was not handed over` });
}

function inherited(fd: number, name: string): MessageSocket {
  try {
    return socketFromFd(fd);
  } catch (error) {
    if ((error as SystemError).code !== 'ENOTSOCK') throw error;
    const { errno, syscall } = error as SystemError;
    throw systemError(errno, syscall, {
      hint: `descriptor ${fd}, '${name}', is neither a tun device nor a packet or UDP socket`,
    });
  }
}

function unused(name: string, taken: ReadonlyMap<string, unknown>): string {
  if (!taken.has(name)) return name;
  let number = 2;
  while (taken.has(`${name}:${number}`)) number++;
  return `${name}:${number}`;
}
