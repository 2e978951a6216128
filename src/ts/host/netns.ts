import { types } from 'node:util';
import { type Failure, type NetnsHandle, native } from '../native';
import { closedError, invalidArgType, invalidArgValue, invalidState, systemError } from '../support/errors';
import { boolean, callback, integer, knownOptions, optionsObject } from '../support/options';

/**
 * A namespace as this thread goes in and out of it. `handle` is absent only for the one where the thread is while no
 * `run` is under way: whatever takes the thread out of there opens it first, so that there is a way back.
 */
export interface Place {
  handle: NetnsHandle | undefined;
}

let here: Place = { handle: undefined };

/** Where this thread is. @internal */
export function currentPlace(): Place {
  return here;
}

/** Calls `fn` in `place`; moves the thread only if it is elsewhere. @internal */
export function runAt<T>(place: Place, fn: () => T): T {
  if (place === here) return fn();
  const handle = openHandle(place);
  const previous = here;
  const opened = previous.handle === undefined;
  previous.handle ??= taken(native().NetnsHandle.current());
  let value: T | undefined;
  try {
    const failure = handle.run(() => {
      here = place;
      value = fn();
    });
    if (failure !== undefined) throw netnsError(failure);
    return value as T;
  } finally {
    here = previous;
    if (opened) {
      previous.handle.close();
      previous.handle = undefined;
    }
  }
}

/** @internal */
export function isSamePlace(a: Place, b: Place): boolean {
  return a === b || placeInode(a) === placeInode(b);
}

function placeInode(place: Place): number {
  if (place.handle !== undefined) return openHandle(place).inode;
  const handle = taken(native().NetnsHandle.current());
  const inode = handle.inode;
  handle.close();
  return inode;
}

function openHandle(place: Place): NetnsHandle {
  if (place.handle === undefined || place.handle.fd < 0) throw closedError('the network namespace');
  return place.handle;
}

function taken(result: NetnsHandle | Failure, path?: string): NetnsHandle {
  if ('error' in result) throw netnsError(result, path);
  return result;
}

function netnsError({ error, syscall }: Failure, path?: string): Error {
  return systemError(error, syscall, {
    path,
    hint: hints.get(`${syscall} ${error}`) ?? hints.get(`${error}`),
  });
}

const hints = new Map([
  ['-1', 'this needs CAP_SYS_ADMIN: run as root, or start under unshare -Urn'],
  ['open -2', 'no such process, namespace or file; a bare name is looked for in /run/netns'],
  ['open -13', "another user's process: run as root"],
  ['NS_GET_NSTYPE -22', 'this is no network namespace'],
]);

/** Options of {@link Netns.create}. */
export interface NetnsOptions {
  /** Whether the loopback interface is brought up. Default true. */
  loopback?: boolean;
}

/**
 * A network namespace (network_namespaces(7)): links, addresses, routes and ports of its own. It exists as long as a
 * descriptor, a process or a mount refers to it; this object is one descriptor, which the garbage collector closes
 * if nothing else did.
 *
 * Namespaces belong to threads. A child process, a Worker and a socket are in the namespace of the thread at the
 * moment that they are started or opened, and stay there. What Node does on its thread pool (`fs`, `dns.lookup`) is
 * always in the process's first namespace.
 */
export class Netns {
  readonly #place: { handle: NetnsHandle };

  private constructor(handle: NetnsHandle) {
    this.#place = { handle };
  }

  /**
   * Makes a new one. This thread stays where it is.
   *
   * @throws SystemError `EPERM` without CAP_SYS_ADMIN (unshare(2)); `ENOSPC` at the limit of
   * /proc/sys/user/max_net_namespaces
   */
  static create(options?: NetnsOptions): Netns {
    const checked = optionsObject('options', options);
    knownOptions('options', checked, ['loopback']);
    const loopback = boolean('options.loopback', checked.loopback ?? true);
    return new Netns(taken(native().NetnsHandle.create(loopback)));
  }

  /**
   * Opens one that exists.
   *
   * @param target - a process's id; a path (with a '/'); or a name, as `ip netns add` gives them (/run/netns/NAME)
   * @throws SystemError `ENOENT` where there is none; `EINVAL` for a file that is no network namespace; `EACCES` for
   * another user's process
   */
  static open(target: number | string): Netns {
    const path = namespacePath(target);
    return new Netns(taken(native().NetnsHandle.open(path), path));
  }

  /** Opens the one that this thread is in. */
  static current(): Netns {
    return new Netns(taken(native().NetnsHandle.current()));
  }

  /** The descriptor, which stays this object's; -1 when closed. */
  get fd(): number {
    return this.#place.handle.fd;
  }

  /** The number that tells it from all other namespaces that exist at the time: that of `ls -L -i /proc/PID/ns/net`. */
  get inode(): number {
    return openHandle(this.#place).inode;
  }

  /**
   * Calls a synchronous function with this thread in the namespace, and returns what it returns. The thread is back
   * where it was afterwards, also when the function throws; if it can't be brought back, the process ends (SIGABRT).
   * Calls may be nested.
   *
   * @throws TypeError `ERR_INVALID_ARG_VALUE` for an async function, which is not called, and for one that returns a
   * promise: what it does later would be done in another namespace
   * @throws SystemError `EPERM` without CAP_SYS_ADMIN (setns(2))
   */
  run<T>(fn: () => T): T {
    callback('fn', fn);
    if (types.isAsyncFunction(fn)) throw invalidArgValue('fn', 'a synchronous function', fn);
    const value = runAt(this.#place, fn);
    if (isThenable(value)) throw invalidArgValue('fn', 'a function that returns no promise', fn);
    return value;
  }

  /**
   * Moves this thread for good: so a Worker can live in a namespace of its own. A Link from before goes on working on
   * the namespace that it came from.
   *
   * @throws Error `ERR_INVALID_STATE` inside {@link run}
   * @throws SystemError `EPERM` without CAP_SYS_ADMIN (setns(2))
   */
  enter(): void {
    const handle = openHandle(this.#place);
    if (here.handle !== undefined)
      throw invalidState("enter() can't be called inside run(), which goes back");
    // Links from here need the way back: it is closed with the last of them, by the garbage collector.
    const back = taken(native().NetnsHandle.current());
    const error = handle.enter();
    if (error < 0) {
      back.close();
      throw netnsError({ error, syscall: 'setns' });
    }
    here.handle = back;
    // Not this.#place: close() must not take the way back to where the thread lives.
    here = { handle: undefined };
  }

  /** Closes the descriptor; a second call does nothing. The namespace goes away with the last that refers to it. */
  close(): void {
    this.#place.handle.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** For Link.moveTo and others that give the namespace to the kernel. @internal */
  get place(): Place {
    return this.#place;
  }
}

/**
 * A namespace's descriptor, of an argument that has to be an open {@link Netns}.
 *
 * @internal
 */
export function netnsDescriptor(name: string, value: unknown): number {
  if (!(value instanceof Netns)) throw invalidArgType(name, 'a Netns', value);
  return openHandle(value.place).fd;
}

function namespacePath(target: unknown): string {
  if (typeof target === 'number') return `/proc/${integer('target', target, 1, 2 ** 31 - 1)}/ns/net`;
  if (typeof target !== 'string') throw invalidArgType('target', 'a process id, a path or a name', target);
  const text = target;
  if (text === '' || text === '.' || text === '..' || text.includes('\0')) {
    throw invalidArgValue('target', 'a process id, a path or a name', text);
  }
  return text.includes('/') ? text : `/run/netns/${text}`;
}

function isThenable(value: unknown): boolean {
  return (
    ((typeof value === 'object' && value !== null) || typeof value === 'function') &&
    typeof (value as { then?: unknown }).then === 'function'
  );
}
