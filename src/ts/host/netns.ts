import type { ChildProcess, SpawnOptions } from 'node:child_process';
import type { Socket as DatagramSocket } from 'node:dgram';
import type { Server, Socket } from 'node:net';
import { inspect, types } from 'node:util';
import type { Worker, WorkerOptions } from 'node:worker_threads';
import { type NetnsHandle, native } from '../native';
import { childProcess, workerThreads } from '../support/builtins';
import { invalidArgType, invalidArgValue, invalidState } from '../support/errors';
import { boolean, callback, integer, knownOptions, optionsObject, string } from '../support/options';
import { currentPlace, netnsError, openHandle, type Place, runAt, settle, taken } from './netns-place';
import {
  type BindArguments,
  bindAt,
  type ConnectArguments,
  connectAt,
  type ListenArguments,
  listenAt,
} from './netns-sockets';

export { currentPlace, type Place } from './netns-place';

/** Where `ip netns` keeps names (ip-netns(8)). */
const DIRECTORY = '/run/netns';

/** Options of {@link Netns.create}. */
export interface NetnsOptions {
  /** Whether the loopback interface is brought up. Default true. */
  loopback?: boolean | undefined;
  /**
   * A name that `ip netns` and {@link Netns.open} know it by: a mount in /run/netns, with which the namespace outlives this
   * process, until {@link Netns.remove}. Default: none.
   */
  name?: string | undefined;
}

/**
 * A network namespace (network_namespaces(7)): links, addresses, routes and ports of its own. It exists as long as a
 * descriptor, a process or a mount refers to it; this object is one descriptor, which the garbage collector closes
 * if nothing else did.
 *
 * Namespaces belong to threads. A child process, a Worker and a socket are in the namespace of the thread at the
 * moment that they are started or opened, and stay there. Node opens many a socket later than the call that asks for it, so use
 * {@link listen}, {@link connect}, {@link bind}, {@link spawn} and {@link worker} for those. What Node does on its thread pool
 * (`fs`, `dns.lookup`) is always in the process's first namespace.
 */
export class Netns {
  readonly #place: { handle: NetnsHandle };
  readonly #name: string | undefined;

  private constructor(handle: NetnsHandle, name?: string) {
    this.#place = { handle };
    this.#name = name;
  }

  /**
   * Makes a new one. This thread stays where it is.
   *
   * @throws SystemError `EPERM` without CAP_SYS_ADMIN (unshare(2), mount(2)); `ENOSPC` at the limit of
   * /proc/sys/user/max_net_namespaces; `EEXIST` for a name that is taken
   */
  static create(options?: NetnsOptions): Netns {
    const checked = optionsObject('options', options);
    knownOptions('options', checked, ['loopback', 'name']);
    const loopback = boolean('options.loopback', checked.loopback ?? true);
    const name = checked.name === undefined ? undefined : namespaceName('options.name', checked.name);
    const handle = taken(native().NetnsHandle.create(loopback));
    const failure = name === undefined ? undefined : handle.setName(DIRECTORY, name);
    if (failure !== undefined) {
      handle.close();
      throw netnsError(failure, `${DIRECTORY}/${name}`);
    }
    return new Netns(handle, name);
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
    const name = path.startsWith(`${DIRECTORY}/`) ? path.slice(DIRECTORY.length + 1) : undefined;
    return new Netns(taken(native().NetnsHandle.open(path), path), name);
  }

  /** Opens the one that this thread is in. */
  static current(): Netns {
    return new Netns(taken(native().NetnsHandle.current()));
  }

  /** The name in /run/netns that it was made or opened by; undefined for others. */
  get name(): string | undefined {
    return this.#name;
  }

  /** The descriptor, which stays this object's; -1 when closed. */
  get fd(): number {
    return this.#place.handle.fd;
  }

  /** The number that tells it from all other namespaces that exist at the time: that of `ls -L -i /proc/PID/ns/net`. */
  get inode(): number {
    const { inode } = openHandle(this.#place);
    if (inode < 0) throw netnsError({ error: inode, syscall: 'fstat' });
    return inode;
  }

  /**
   * Covers what a synchronous function does before it returns, and nothing that it merely begins: `http`, `fetch`, `net.connect`,
   * `dgram` and `server.listen(port, host)` open their sockets on a later tick, in the thread's own namespace.
   *
   * Calls `fn` with this thread in the namespace, and returns what it returns. The thread is back where it was afterwards, also when
   * the function throws; if it can't be brought back, the process ends (SIGABRT). Calls may be nested.
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
    if (currentPlace().handle !== undefined)
      throw invalidState("enter() can't be called inside run(), which goes back");
    // Links from here need the way back: it is closed with the last of them, by the garbage collector.
    const back = taken(native().NetnsHandle.current());
    const error = handle.enter();
    if (error < 0) {
      back.close();
      throw netnsError({ error, syscall: 'setns' });
    }
    settle(back);
  }

  /**
   * Starts a program that lives in the namespace: child_process.spawn(), with its arguments and its result.
   *
   * @example
   * ```ts
   * ns.spawn('ping', ['-c', '1', '192.0.2.1'], { stdio: 'inherit' });
   * ```
   * @throws SystemError `EPERM` without CAP_SYS_ADMIN (setns(2))
   */
  spawn(command: string, args?: readonly string[], options?: SpawnOptions): ChildProcess;
  spawn(command: string, options?: SpawnOptions): ChildProcess;
  spawn(command: string, args?: readonly string[] | SpawnOptions, options?: SpawnOptions): ChildProcess {
    const { spawn } = childProcess();
    return runAt(this.#place, () => spawn(command, args as readonly string[], options as SpawnOptions));
  }

  /**
   * Starts a Worker that lives in the namespace from its first line: whatever it opens at any time is there.
   *
   * @param file - as `new Worker()` takes it
   * @throws SystemError `EPERM` without CAP_SYS_ADMIN (setns(2))
   */
  worker(file: string | URL, options?: WorkerOptions): Worker {
    const { Worker } = workerThreads();
    return runAt(this.#place, () => new Worker(file, options));
  }

  /**
   * Lets a server (net, http, https, tls, http2) listen in the namespace; resolves to the server when it does.
   *
   * @example
   * ```ts
   * const server = await ns.listen(http.createServer(handler), 8080, '192.0.2.1');
   * ```
   * @param args - those of server.listen(): a port, host and backlog; a path, which is abstract where it begins with NUL; or its
   * options. A host is an IP address (of a link-local one, with its zone: `'fe80::1%eth0'`) or 'localhost', 127.0.0.1.
   * Where Node knows the name of a zone it is by {@link run}: `ns.run(() => server.address())`.
   * @throws TypeError `ERR_INVALID_ARG_VALUE` for a host name, which would be looked up outside of the namespace
   * @throws SystemError `EADDRINUSE`, `EADDRNOTAVAIL` ... of bind(2); `EPERM` without CAP_SYS_ADMIN (setns(2))
   */
  async listen<S extends Server>(server: S, ...args: ListenArguments): Promise<S> {
    return listenAt(this.#place, server, args);
  }

  /**
   * Connects a new net.Socket in the namespace, which emits 'connect' or 'error' as one of net.connect() does.
   *
   * @example
   * ```ts
   * http.get({ host: '192.0.2.1', createConnection: ({ host, port }) => ns.connect({ host, port }) });
   * ```
   * @param args - those of net.connect(): a port and host, a path, or its options; hosts as {@link listen} takes them
   * @throws TypeError `ERR_INVALID_ARG_VALUE` for a host name, which would be looked up outside of the namespace
   * @throws SystemError `EPERM` without CAP_SYS_ADMIN (setns(2))
   */
  connect(...args: ConnectArguments): Socket {
    return connectAt(this.#place, args);
  }

  /**
   * Binds a dgram socket in the namespace, where it also sends from; resolves to the socket when it listens.
   *
   * @param args - those of its bind(): a port and address, or its options, beside which `reuseAddr`, `reusePort` and `ipv6Only` stand
   * here: those that the socket was made with are not known outside of it
   * @throws SystemError `EADDRINUSE`, `EADDRNOTAVAIL` ... of bind(2); `EPERM` without CAP_SYS_ADMIN (setns(2))
   */
  async bind(socket: DatagramSocket, ...args: BindArguments): Promise<DatagramSocket> {
    return bindAt(this.#place, socket, args);
  }

  /**
   * Takes its name away, as `ip netns delete` does. The namespace goes away with the last that refers to it; this object still does.
   *
   * @throws Error `ERR_INVALID_STATE` for one that has no name
   * @throws SystemError `ENOENT` when the name is gone already; `EPERM` without CAP_SYS_ADMIN
   */
  remove(): void {
    if (this.#name === undefined)
      throw invalidState('this network namespace has no name that could be removed');
    const path = `${DIRECTORY}/${this.#name}`;
    const failure = native().NetnsHandle.removeName(path);
    if (failure !== undefined) throw netnsError(failure, path);
  }

  /** Closes the descriptor; a second call does nothing. The namespace goes away with the last that refers to it. */
  close(): void {
    this.#place.handle.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  [inspect.custom](_depth: number, options: object): string {
    const { fd } = this;
    return `Netns ${inspect({ name: this.#name, fd, inode: fd < 0 ? undefined : this.inode }, options)}`;
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
  if (target.includes('/') && !target.includes('\0')) return target;
  return `${DIRECTORY}/${namespaceName('target', target)}`;
}

function namespaceName(name: string, value: unknown): string {
  const text = string(name, value);
  if (text === '' || text === '.' || text === '..' || /[/\0]/.test(text) || Buffer.byteLength(text) > 255) {
    throw invalidArgValue(name, "a name without '/' and NUL, of 255 bytes at most", text);
  }
  return text;
}

function isThenable(value: unknown): boolean {
  return (
    ((typeof value === 'object' && value !== null) || typeof value === 'function') &&
    typeof (value as { then?: unknown }).then === 'function'
  );
}
