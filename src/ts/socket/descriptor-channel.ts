import { EventEmitter } from 'node:events';
import { unlinkSync } from 'node:fs';
import { inspect } from 'node:util';
import { type ChannelData, type ChannelHandle, type Failure, native, READABLE, WRITABLE } from '../native';
import { byteLengthOf, packetViews } from '../packet/packet-data';
import { onAbort } from '../support/abort';
import {
  abortError,
  closedError,
  invalidArgType,
  invalidArgValue,
  outOfRange,
  systemError,
} from '../support/errors';
import { EAGAIN } from '../support/io-errors';
import { abortSignal, callback, integer, knownOptions, optionsObject, string } from '../support/options';
import { assertNotOurs, noteDescriptor } from './descriptors';
import { MessageSocket } from './message-socket';
import { closeDescriptors, sortDescriptors } from './received-descriptors';

/** SCM_MAX_FD in include/net/scm.h. */
const MAX_DESCRIPTORS = 253;
/** Bytes of a message. The kernel takes what the send buffer has room for, some 200 KiB. */
const MAX_DATA = 65_536;
/** Connections that are accepted in one turn of the loop. */
const MAX_ACCEPTED = 32;
/** sizeof sun_path, where a path has a NUL at its end, too (unix(7)). */
const MAX_PATH = 108;
const ECONNRESET = -104;
const EPIPE = -32;

const hints = new Map<string, string>([
  ['connect -2', 'nobody has made a socket of that name'],
  ['connect -111', 'nobody listens there: the socket of a program that has ended'],
  ['connect -11', 'the listener has not accepted those who came before'],
  ['connect -13', 'the file may not be written to: its owner can chmod it'],
  ['connect -91', 'the socket of that name is no SOCK_SEQPACKET'],
  ['bind -98', 'the name is taken; a file of a program that has ended can be removed'],
  ['getsockopt -91', 'a channel is an AF_UNIX socket of the type SOCK_SEQPACKET'],
  ['getpeername -107', 'the socket is not connected'],
  ['sendmsg -9', 'one of the descriptors is not open'],
  ['sendmsg -11', "the peer has not received what was sent before: wait for 'drain'"],
  ['sendmsg -32', 'the peer has closed its end'],
  ['sendmsg -109', 'more descriptors are under way than this user may have open (RLIMIT_NOFILE)'],
  [
    'recvmsg -24',
    'this process may have no more open (ulimit -n): the message is lost, all its descriptors are closed',
  ],
  ['recvmsg -90', `a message has at most ${MAX_DATA} bytes: it is lost, and its descriptors are closed`],
  ['recvmsg -104', 'the peer has closed its end without receiving all'],
]);

/** Who is at the other end, as it was when the connection was made (SO_PEERCRED in unix(7)). */
export interface PeerCredentials {
  /** 0 for a process of another pid namespace that has none here. */
  pid: number;
  uid: number;
  gid: number;
}

/** What DescriptorChannel.receive() gives. All descriptors are the receiver's to close, and close-on-exec. */
export interface DescriptorMessage {
  /** Those that socketFromFd() knows, in the order in which they were sent. */
  sockets: MessageSocket[];
  /** The numbers of the others, in the order in which they were sent. */
  descriptors: number[];
  /** The bytes that came with them. */
  data: Buffer;
  credentials: PeerCredentials;
  /** Descriptors beyond `maxDescriptors`, which were closed. */
  dropped: number;
}

/** Options of DescriptorChannel.receive(). */
export interface DescriptorReceiveOptions {
  /** Gives up when it is aborted; no message is lost by that. */
  signal?: AbortSignal | undefined;
  /** How many descriptors are expected; those beyond are closed, and counted in `dropped`. 0 to 253, default 253. */
  maxDescriptors?: number | undefined;
}

/** Events of a DescriptorChannel, with what their listeners get. */
export interface DescriptorChannelEvents {
  /** There is room again after a send() that failed with EAGAIN. */
  drain: [];
  /** Follows close(), and the end of the connection, which receive() and send() find. */
  close: [];
}

/** Events of a DescriptorListener, with what their listeners get. */
export interface DescriptorListenerEvents {
  /** Connections can't be accepted (EMFILE ...); it has closed. */
  error: [error: Error];
  close: [];
}

interface Waiting {
  max: number;
  resolve(message: DescriptorMessage | undefined): void;
  reject(error: Error): void;
}

/** Bytes are received here, and copied at their length. */
let memory: Buffer | undefined;

/**
 * One end of a connection (AF_UNIX, SOCK_SEQPACKET) on which messages carry descriptors: how a privileged program hands a device to another
 * one. The kernel keeps what nobody has received yet, bounded by the send buffer, and closes its descriptors when the receiving end is closed.
 *
 * It keeps the process alive while a receive() waits, unless unref() was called.
 *
 * @example
 * ```ts
 * // The opener, as root:
 * DescriptorChannel.listen('/run/opener', (channel) => {
 *   using tun = TunSocket.open({ address: '10.0.0.1/24' });
 *   channel.send(tun);
 *   channel.close();
 * });
 * // The user of the device:
 * const { sockets } = await DescriptorChannel.connect('/run/opener').receive();
 * ```
 */
export class DescriptorChannel extends EventEmitter<DescriptorChannelEvents> {
  readonly #handle: ChannelHandle;
  readonly #waiting: Waiting[] = [];
  #awaitsRoom = false;
  #closed = false;
  #ended: Error | null = null;
  /** The peer has closed without receiving all: told when all of its own messages are received. */
  #reset: Error | undefined;

  private constructor(handle: ChannelHandle) {
    super();
    this.#handle = handle;
    noteDescriptor(handle);
  }

  /**
   * Connects to a listener.
   *
   * @param path - a path, or NUL and an abstract name (`'\0opener'`), of 1 to 107 bytes.
   * @throws SystemError ENOENT (no such socket), ECONNREFUSED (nobody listens), EACCES (its file may not be written to), EPROTOTYPE (another
   * kind of socket), EAGAIN (too many wait to be accepted). See unix(7).
   */
  static connect(path: string): DescriptorChannel {
    const name = socketPath(path);
    return DescriptorChannel.#made((handle) => handle.connect(name), name);
  }

  /**
   * Waits for connections, and hands each to `listener`. The file of a path is made with what umask leaves of 0777, and removed by close():
   * who may write to it may connect. An abstract name is open to all of the network namespace: look at `channel.credentials`.
   *
   * @param path - as of connect(); of an abstract name all users of the network namespace can connect.
   * @throws SystemError EADDRINUSE (the name is taken), EACCES, ENOENT (the folder). See unix(7).
   */
  static listen(path: string, listener: (channel: DescriptorChannel) => void): DescriptorListener {
    const name = socketPath(path);
    callback('listener', listener);
    const handle = new (native().ChannelHandle)();
    opened(handle.listen(name), name);
    return new DescriptorListener(handle, name, (accepted) => listener(new DescriptorChannel(accepted)));
  }

  /** The two ends of a connection: one for this program, one for a child, which inherits its `fd` by stdio, or for a Worker. See socketpair(2). */
  static pair(): [DescriptorChannel, DescriptorChannel] {
    const { ChannelHandle } = native();
    const other = new ChannelHandle();
    const one = DescriptorChannel.#made((handle) => handle.pair(other));
    return [one, new DescriptorChannel(other)];
  }

  /**
   * Takes over a connected socket that something else made, such as an inherited one. It becomes close-on-exec.
   *
   * @throws SystemError EPROTOTYPE (not AF_UNIX and SOCK_SEQPACKET), ENOTCONN, ENOTSOCK, EBADF, EEXIST (a channel of this thread has it); the descriptor is then still the caller's.
   */
  static fromFd(fd: number): DescriptorChannel {
    const number = integer('fd', fd, 0, 0x7fffffff);
    assertNotOurs(number);
    return DescriptorChannel.#made((handle) => handle.adopt(number));
  }

  static #made(open: (handle: ChannelHandle) => Failure | undefined, path?: string): DescriptorChannel {
    const handle = new (native().ChannelHandle)();
    opened(open(handle), path);
    return new DescriptorChannel(handle);
  }

  /** The descriptor of this end; -1 once closed. */
  get fd(): number {
    return this.#handle.fd();
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Who is at the other end. @throws Error `ERR_SOCKET_CLOSED` */
  get credentials(): PeerCredentials {
    this.#assertOpen();
    const credentials = this.#handle.credentials();
    if (typeof credentials === 'number') throw systemError(credentials, 'getsockopt');
    return credentials;
  }

  /**
   * Sends descriptors in one message, with bytes if there are any; never waits. They stay open here as well: when this returns the message has
   * its own, so that a socket can be closed (the device lives on), or used on.
   *
   * @param what - up to 253 sockets or numbers of descriptors; with an empty array, only `data`.
   * @param data - up to 65536 bytes.
   * @throws SystemError EAGAIN (no room: 'drain' says when there is), EPIPE (the peer is gone; 'close' follows), EBADF (one of them is not
   * open), ETOOMANYREFS. TypeError and RangeError, also for a message with nothing in it. Error `ERR_SOCKET_CLOSED`, of a socket in `what` too.
   */
  send(
    what: MessageSocket | number | readonly (MessageSocket | number)[],
    data: ArrayBufferView = new Uint8Array(0),
  ): void {
    const descriptors = descriptorNumbers(what);
    if (!ArrayBuffer.isView(data)) throw invalidArgType('data', 'an ArrayBufferView', data);
    const [bytes] = packetViews('data', data as Uint8Array) as [Uint8Array];
    const size = byteLengthOf(bytes);
    if (size > MAX_DATA) throw outOfRange('data', `of at most ${MAX_DATA} bytes`, size);
    if (descriptors.length === 0 && size === 0)
      throw invalidArgValue('data', 'at least a byte where no descriptor is sent', data);
    this.#assertOpen();
    const result = this.#handle.send(bytes, descriptors);
    if (result >= 0) return;
    if (result === EAGAIN) {
      this.#awaitsRoom = true;
      this.#watch();
    }
    const error = ioError(result, 'sendmsg');
    // What the peer has sent before is still to be received.
    if (result === EPIPE && this.#waiting.length > 0) this.#turn();
    throw error;
  }

  /**
   * The next message. Calls wait in line. Descriptors that are not asked for are closed; where a message is lost, all of its are.
   *
   * @throws AbortError when `signal` is aborted first; Error `ERR_SOCKET_CLOSED` when either end is closed first. SystemError ECONNRESET (the
   * peer has closed without receiving all), EMFILE (this process may have no more descriptors open) and EMSGSIZE (more than 65536 bytes),
   * by which one message is lost, and the channel lives on.
   */
  async receive(options?: DescriptorReceiveOptions): Promise<DescriptorMessage> {
    const given = optionsObject('options', options);
    knownOptions('options', given, ['signal', 'maxDescriptors']);
    const signal = abortSignal('options.signal', given.signal);
    const max =
      given.maxDescriptors === undefined
        ? MAX_DESCRIPTORS
        : integer('options.maxDescriptors', given.maxDescriptors, 0, MAX_DESCRIPTORS);
    this.#assertOpen();
    if (signal?.aborted) throw abortError(signal);
    const message = await this.#wait(max, signal);
    if (message === undefined) throw this.#ended ?? closedError('the channel');
    return message;
  }

  /** Messages one by one, as receive() gives them; ends when either end is closed, throws what receive() throws otherwise. */
  [Symbol.asyncIterator](): AsyncIterableIterator<DescriptorMessage, undefined> {
    return {
      next: async () => {
        const message = this.#closed ? undefined : await this.#wait(MAX_DESCRIPTORS, undefined);
        if (message !== undefined) return { done: false, value: message };
        if (this.#ended !== null) throw this.#ended;
        return { done: true, value: undefined };
      },
      return: async () => ({ done: true, value: undefined }),
      [Symbol.asyncIterator]() {
        return this;
      },
    };
  }

  /** Closes this end: what was sent can still be received, what was not received is closed. A second call does nothing. 'close' follows. */
  close(): void {
    this.#end(null);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  /** Lets it keep the process alive while it waits, as it does from the start. */
  ref(): this {
    this.#handle.setRef(true);
    return this;
  }

  /** Lets the process end while it waits. */
  unref(): this {
    this.#handle.setRef(false);
    return this;
  }

  /** @internal */
  [inspect.custom](): string {
    return `DescriptorChannel { ${this.#closed ? 'closed' : `fd: ${this.fd}`} }`;
  }

  #assertOpen(): void {
    if (this.#closed) throw this.#ended ?? closedError('the channel');
  }

  /** undefined: the connection has ended. */
  #wait(max: number, signal: AbortSignal | undefined): Promise<DescriptorMessage | undefined> {
    return new Promise((resolve, reject) => {
      let takeBackAbort: (() => void) | undefined;
      const waiting: Waiting = {
        max,
        resolve: (message) => {
          takeBackAbort?.();
          resolve(message);
        },
        reject: (error) => {
          takeBackAbort?.();
          reject(error);
        },
      };
      this.#waiting.push(waiting);
      this.#turn();
      if (signal === undefined || !this.#waiting.includes(waiting)) return;
      takeBackAbort = onAbort(signal, this as DescriptorChannel, () => {
        const index = this.#waiting.indexOf(waiting);
        if (index >= 0) this.#waiting.splice(index, 1);
        this.#watch();
        reject(abortError(signal));
      });
    });
  }

  /** Receives for those who wait, and for nobody else: what is not received stays in the kernel. */
  #turn(): void {
    memory ??= Buffer.allocUnsafeSlow(MAX_DATA);
    while (this.#waiting.length > 0 && !this.#closed) {
      const data = this.#handle.receive(memory);
      if (data === EAGAIN) break;
      if (data === ECONNRESET) {
        // Of the socket, once: its messages are still to be received.
        this.#reset = ioError(data, 'recvmsg');
        continue;
      }
      if (typeof data !== 'number' && data.ended) {
        this.#end(this.#reset ?? null);
        return;
      }
      const waiting = this.#waiting.shift() as Waiting;
      if (typeof data === 'number') {
        waiting.reject(ioError(data, 'recvmsg'));
        continue;
      }
      try {
        waiting.resolve(this.#message(data, waiting.max, memory));
      } catch (error) {
        waiting.reject(error as Error);
      }
    }
    this.#watch();
  }

  #message({ size, descriptors }: ChannelData, max: number, bytes: Buffer): DescriptorMessage {
    const numbers = [...descriptors];
    const surplus = numbers.splice(max);
    closeDescriptors(surplus);
    const data = Buffer.from(bytes.subarray(0, size));
    const credentials = this.#handle.credentials();
    if (typeof credentials === 'number') {
      closeDescriptors(numbers);
      throw systemError(credentials, 'getsockopt');
    }
    return { ...sortDescriptors(numbers), data, credentials, dropped: surplus.length };
  }

  /** Tells the loop what to wait for. */
  #watch(): void {
    if (this.#closed) return;
    const events = (this.#waiting.length > 0 ? READABLE : 0) | (this.#awaitsRoom ? WRITABLE : 0);
    const result = this.#handle.watch(events, (ready) => this.#onEvent(ready));
    if (result < 0) this.#end(systemError(result, 'poll'));
  }

  #onEvent(ready: number): void {
    const room = (ready & WRITABLE) !== 0 && this.#awaitsRoom;
    if (room) this.#awaitsRoom = false;
    this.#turn();
    if (room && !this.#closed) this.emit('drain');
  }

  /** `error`: why, where it is neither the user's wish nor the peer's. */
  #end(error: Error | null): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#ended = error;
    this.#handle.close();
    for (const waiting of this.#waiting.splice(0)) {
      if (error === null) waiting.resolve(undefined);
      else waiting.reject(error);
    }
    process.nextTick(() => this.emit('close'));
  }
}

/** Waits for connections; made by DescriptorChannel.listen(). It keeps the process alive until it is closed, unless unref() was called. */
export class DescriptorListener extends EventEmitter<DescriptorListenerEvents> {
  readonly #handle: ChannelHandle;
  readonly #path: string;
  readonly #accepted: (handle: ChannelHandle) => void;
  #closed = false;

  /** @internal */
  constructor(handle: ChannelHandle, path: string, accepted: (handle: ChannelHandle) => void) {
    super();
    this.#handle = handle;
    this.#path = path;
    this.#accepted = accepted;
    const result = handle.watch(READABLE, () => this.#onReadable());
    if (result >= 0) return;
    this.close();
    throw systemError(result, 'poll');
  }

  /** What it was made with. */
  get path(): string {
    return this.#path;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Ends it, and removes its file; channels that were made live on. A second call does nothing. 'close' follows. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#handle.close();
    if (!this.#path.startsWith('\0')) {
      try {
        unlinkSync(this.#path);
      } catch {
        // Somebody else has removed it.
      }
    }
    process.nextTick(() => this.emit('close'));
  }

  [Symbol.dispose](): void {
    this.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  /** Lets it keep the process alive, as it does from the start. */
  ref(): this {
    this.#handle.setRef(true);
    return this;
  }

  /** Lets the process end while it is open. */
  unref(): this {
    this.#handle.setRef(false);
    return this;
  }

  #onReadable(): void {
    for (let count = 0; count < MAX_ACCEPTED && !this.#closed; count++) {
      const handle = new (native().ChannelHandle)();
      const failure = this.#handle.accept(handle);
      if (failure === undefined) {
        this.#accepted(handle);
        continue;
      }
      if (failure.error === EAGAIN) return;
      // One that was given up before it was accepted: ECONNABORTED.
      if (failure.error === -103) continue;
      this.close();
      process.nextTick(() => this.emit('error', ioError(failure.error, failure.syscall)));
      return;
    }
  }
}

function opened(failure: Failure | undefined, path?: string): void {
  if (failure !== undefined) throw ioError(failure.error, failure.syscall, path);
}

function ioError(errno: number, syscall: string, path?: string): Error {
  const known = hints.get(`${syscall} ${errno}`);
  return systemError(errno, syscall, {
    path: path?.replace(/^\0/, '@'),
    hint: known ?? (errno === -1 ? 'the file or its folder may not be used so' : undefined),
  });
}

function socketPath(value: unknown): string {
  const text = string('path', value);
  const abstract = text.startsWith('\0');
  const size = Buffer.byteLength(text) + (abstract ? 0 : 1);
  if (text.length < (abstract ? 2 : 1) || text.indexOf('\0', 1) > 0)
    throw invalidArgValue('path', 'a path, or NUL and an abstract name', text);
  if (size > MAX_PATH) throw outOfRange('path', `of at most ${MAX_PATH - 1} bytes`, text);
  return text;
}

function descriptorNumbers(what: unknown): Int32Array {
  const all: readonly unknown[] = Array.isArray(what) ? what : [what];
  if (all.length > MAX_DESCRIPTORS)
    throw outOfRange('what', `at most ${MAX_DESCRIPTORS} descriptors`, all.length);
  return Int32Array.from(all, (one, index) => {
    const name = Array.isArray(what) ? `what[${index}]` : 'what';
    if (typeof one === 'number') return integer(name, one, 0, 0x7fffffff);
    if (!(one instanceof MessageSocket)) throw invalidArgType(name, 'a socket or a descriptor', one);
    if (one.closed) throw closedError(name);
    return one.fd;
  });
}
