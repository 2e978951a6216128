import { EventEmitter } from 'node:events';
import type { Duplex } from 'node:stream';
import { inspect } from 'node:util';
import type { Place } from '../host/netns';
import type { SocketHandle } from '../native';
import { checkBatch, type PacketBatch } from '../packet/packet-batch';
import { byteLengthOf, packetViews } from '../packet/packet-data';
import type { SendMeta } from '../packet/packet-meta';
import { sendMeta } from '../packet/send-meta';
import { onAbort } from '../support/abort';
import { MSG_DONTWAIT } from '../support/constants';
import { Deferred } from '../support/deferred';
import {
  abortError,
  closedError,
  invalidArgType,
  invalidState,
  type SystemErrorContext,
} from '../support/errors';
import { EBADFD, EIO, EMSGSIZE, ENETDOWN, ENOBUFS, ENOMEM, ENXIO, ioError } from '../support/io-errors';
import {
  abortSignal,
  boolean,
  callback as checkCallback,
  knownOptions,
  optionsObject,
} from '../support/options';
import type {
  MessageInfo,
  OffloadFeature,
  OffloadMode,
  PacketData,
  PacketSendOptions,
  SocketStats,
} from '../support/types';
import { noteDescriptor } from './descriptors';
import type { OwnedPacket } from './flow/inbox';
import { LoopWatch } from './flow/loop-watch';
import { PacketIterator } from './flow/packet-iterator';
import { type PacketStreamSocket, type PacketWithInfo, packetStream } from './flow/packet-stream';
import { Receiver } from './flow/receiver';
import { type SendCallback, SendQueue } from './flow/send-queue';
import type { OffloadState } from './offload-state';
import { receivedKinds, SocketCalls, type SocketCallsOwner } from './socket-calls';
import { type LinkChange, SocketInterface } from './socket-interface';

/** No packet is longer (an IP packet, an Ethernet header with a VLAN tag, packet info); the device's limit is exact. */
const MAX_SEND = 65535 + 18 + 4;

/** Errors of a receive that may pass; so many in a row don't. */
const PASSING_ERRORS: ReadonlySet<number> = new Set([EIO, ENOMEM, ENOBUFS]);
const MAX_ERRORS_IN_A_ROW = 16;

/** What a send fails with while the link is down. */
const LINK_DOWN_ERRORS: ReadonlySet<number> = new Set([EIO, ENETDOWN, ENXIO]);

/** EventEmitter turns anything into a name, and fails with whatever that throws. */
function eventName<E>(event: E): E {
  if (typeof event !== 'string' && typeof event !== 'symbol')
    throw invalidArgType('event', 'a string', event);
  return event;
}

/** Not made where a socket is: it would know that one, and keep it alive. */
function dispose(socket: MessageSocket): void {
  socket[Symbol.dispose]();
}

/** Events of a MessageSocket, with what their listeners get. */
export interface MessageSocketEvents<Info extends MessageInfo = MessageInfo> {
  listening: [];
  message: [packet: Buffer, info: Info];
  batch: [batch: PacketBatch];
  drain: [];
  link: [change: LinkChange];
  error: [error: Error];
  close: [];
}

/** What the subclasses hand to MessageSocket. @internal */
export interface MessageSocketSetup {
  handle: SocketHandle;
  name: string;
  index: number;
  /** The namespace where the interface is; undefined where this process may not enter it. */
  place: Place | undefined;
  /** Closes what was opened for this socket only; called once, when it ends. */
  release?: (() => void) | undefined;
  /** Milliseconds that a blocking recvmsg waits; undefined is for ever. */
  receiveTimeout: number | undefined;
  /** Bytes that send() may queue. */
  sendQueueLimit: number;
  signal: AbortSignal | undefined;
  /** META_LINK where packets come with what the link layer knows of them, META_DATAGRAM with what the network does. */
  metadata: number;
  offload: OffloadState;
  /** Why a packet can't be sent as `meta` says; throws. */
  checkMeta?: (meta: SendMeta) => void;
  /** What to do about an error, where that is another thing than for all sockets. */
  hint?: (errno: number, syscall: string, flags: number | undefined) => string | undefined;
  /** The kernel counts what it drops for want of room in this socket's queue. */
  countsDrops?: boolean;
  /** It also counts what has come to this socket, dropped or not. */
  countsArrivals?: boolean;
  /**
   * Where `errno` is what the network says of something that was sent: all such errors that there are, with whose they are. They don't end
   * the socket, and are told only to who listens, since a remote host decides when they come.
   */
  networkErrors?: (errno: number, syscall: string) => Error[] | undefined;
  /** The interface's mtu bounds what packets are merged to. */
  followMtu?: boolean;
  /** The descriptor goes where the interface goes, and does not end when that moves to another namespace. */
  moves?: boolean;
}

/** What a subclass knows of its socket, and users don't. @internal */
export interface SocketInternals {
  /** The native side. @throws Error `ERR_SOCKET_CLOSED` */
  readonly handle: SocketHandle;
  readonly interface: SocketInterface;
  readonly errorContext: SystemErrorContext;
  readonly offload: OffloadState;
  /** Tries again what waits for room: the kernel does not say when a larger send buffer makes some. */
  roomChanged(): void;
  /** Packets that wait above go back below, to where calls look first. */
  settle(): void;
}

/** A socket's internals. @internal */
export let internalsOf: (socket: MessageSocket) => SocketInternals;

/** Options of receive() and receiveMessage(). */
export interface ReceiveOptions {
  /** Gives up when it is aborted. */
  signal?: AbortSignal | undefined;
}

/** Options of messages() and stream(). */
export interface PacketInfoOptions {
  /** Each item is `{ packet, info }` rather than the packet alone. Default false. */
  info?: boolean;
}

/**
 * A socket on which each message is one packet: what TunSocket, PacketSocket and UdpSocket share. It keeps the process alive while
 * somebody waits for packets (a 'message' or 'batch' listener, receive(), queued sends), unless unref() was called.
 *
 * Each packet has one taker, and all of them get packets in order: calls take the next one whoever listens, and also inside a listener;
 * receive() calls that wait come before 'message' listeners.
 *
 * @example
 * ```ts
 * const tun = TunSocket.open({ address: '10.0.0.1/24' });
 * tun.on('message', (packet) => console.log(packet.length));
 * ```
 */
export abstract class MessageSocket<Info extends MessageInfo = MessageInfo> extends EventEmitter<
  MessageSocketEvents<Info>
> {
  readonly #handle: SocketHandle;
  readonly #setup: MessageSocketSetup;
  readonly #interface: SocketInterface;
  readonly #calls: SocketCalls;
  readonly #callsOwner: SocketCallsOwner;
  readonly #queue: SendQueue;
  readonly #receiver: Receiver;
  readonly #watching: LoopWatch;
  readonly #flushing = new Deferred(process.nextTick, () => {
    if (!this.#closed && !this.#queue.blocked) this.#flush();
  });
  readonly #updating = new Deferred(process.nextTick, () => this.#watch());
  #closed = false;
  #endedWith: Error | null | undefined;
  #finalStats: SocketStats | undefined;
  #errorsInARow = 0;
  #takeBackAbort: (() => void) | undefined;

  static {
    internalsOf = (socket) => socket.#internals();
  }

  /** @internal */
  protected constructor(setup: MessageSocketSetup) {
    super();
    const { handle } = setup;
    this.#handle = handle;
    noteDescriptor(handle);
    this.#setup = setup;
    this.#interface = new SocketInterface(handle, setup, this, (change) => this.#onLink(change));
    this.#queue = new SendQueue(
      {
        sendBatch: (batch, start, timeout) =>
          this.#calls.sendBatch(batch, timeout === 0 ? MSG_DONTWAIT : 0, start, timeout),
        sendError: (errno) => this.#ioError(errno, 'send'),
        failed: (error) => this.#sendFailed(error),
        drained: () => process.nextTick(() => this.emit('drain')),
      },
      setup.sendQueueLimit,
    );
    const kinds = receivedKinds(setup.metadata, setup.offload);
    const socket = this;
    this.#receiver = new Receiver({
      handle,
      kinds,
      offload: setup.offload.mode,
      get closed() {
        return socket.#closed;
      },
      hears: (event) => this.listenerCount(event) > 0,
      emitBatch: (batch) => this.emit('batch', batch),
      emitMessage: (packet, info) => this.emit('message', packet, info as Info),
      changed: () => this.#watch(),
    });
    this.#callsOwner = {
      handle,
      receiveTimeout: setup.receiveTimeout,
      kinds,
      offload: setup.offload,
      countsDrops: setup.countsDrops ?? false,
      countsArrivals: setup.countsArrivals ?? false,
      socket: this,
      queue: this.#queue,
      watched: false,
      assertOpen: () => this.#assertOpen(),
      ioError: (errno, syscall, flags) => this.#ioError(errno, syscall, flags),
      flushQueue: (timeoutMs) => {
        if (this.#queue.count > 0) this.#flush(timeoutMs);
        return this.#queue.count === 0;
      },
      settle: () => this.#receiver.settle(),
      took: () => {
        if (this.#receiver.attention) this.#receiver.attend();
      },
      again: () => this.#receiver.attend(),
    };
    this.#calls = new SocketCalls(this.#callsOwner);
    this.#watching = new LoopWatch(handle, {
      onReadable: (count) => {
        this.#errorsInARow = 0;
        this.#receiver.deliver(count);
      },
      onWritable: () => this.#flush(),
      onError: (errno, stopped) => this.#onError(errno, stopped),
      onAgain: () => this.#receiver.attend(),
    });
    if (setup.signal !== undefined) {
      this.#takeBackAbort = onAbort(setup.signal, this as MessageSocket, dispose);
    }
    // What has an mtu to follow listens for it from the start.
    if (setup.followMtu) this.#updating.request();
    process.nextTick(() => {
      if (!this.#closed) this.emit('listening');
    });
  }

  /** The interface's name, also after another program has renamed it; the last one known, once closed. Empty where there is none. */
  get name(): string {
    return this.#interface.name;
  }

  /** The interface's index; 0 where there is none. */
  get index(): number {
    return this.#interface.index;
  }

  /** The descriptor; -1 once closed. */
  get fd(): number {
    return this.#handle.fd();
  }

  /** Whether close() was called, or the device has gone. */
  get closed(): boolean {
    return this.#closed;
  }

  /** Whether the kernel's vhost thread moves the packets (the option `vhost`). */
  get vhost(): boolean {
    return this.#handle.vhost();
  }

  /** What is in force of the option `offload`: 'none' too where the kernel has nothing of what it needs. */
  get offload(): OffloadMode {
    return this.#setup.offload.mode;
  }

  /**
   * What the kernel and this socket leave to each other: as much of what `offload` asks for as the kernel has, without what it has refused
   * since. `undefined` for a descriptor that another program has set up.
   */
  get offloadFeatures(): readonly OffloadFeature[] | undefined {
    return this.#setup.offload.features;
  }

  /**
   * Sends one packet, synchronously. Several views are gathered into one packet. Blocks while the kernel has no
   * room, unless MSG_DONTWAIT is in `flags`. `options` say what is still to be done to the packet (`offload`), on a socket with such a thing.
   *
   * @returns bytes sent.
   * @throws SystemError EAGAIN (MSG_DONTWAIT, and no room), EINVAL (no packet, or a flag other than MSG_DONTWAIT and
   * MSG_NOSIGNAL), EMSGSIZE (too long for a packet), EIO (the interface is down), EBADFD (the device is gone).
   * See sendmsg(2), tun_get_user() in drivers/net/tun.c.
   */
  sendmsg(data: PacketData, flags = 0, options?: PacketSendOptions): number {
    return this.#calls.sendmsg(data, flags, options === undefined ? undefined : this.#metaOf(options));
  }

  /**
   * Receives one packet into one view, or scattered into several. Given the same memory twice, the later view's bytes
   * stand in it. Blocks until there is a packet, `receiveTimeout` at most, unless MSG_DONTWAIT is in `flags`. Into 0
   * bytes it returns 0 at once, and the packet stays queued.
   *
   * While it blocks, nothing else of this thread runs: no timer, and no handler of SIGINT either. A program that has one gives
   * `receiveTimeout`, or waits with receive().
   *
   * @throws SystemError EAGAIN (nothing queued, or nothing came in time), EINVAL (a flag other than MSG_DONTWAIT,
   * MSG_TRUNC and MSG_ERRQUEUE; with `packetInfo`, fewer than 4 bytes), EBADFD (the device is gone). See recvmsg(2),
   * tun_recvmsg() in drivers/net/tun.c. RangeError for more than 1023 views, or 1022 with `offload: 'raw'`, whose header takes the place of one.
   */
  recvmsg(data: PacketData, flags = 0): Info {
    return this.#calls.recvmsg(data, flags) as Info;
  }

  /**
   * Sends the packets of `batch` from `start` on, in order, until one fails or would block. Blocks for the first,
   * unless MSG_DONTWAIT is in `flags`.
   *
   * With `offload: 'split'`, flows may overtake each other where their packets are merged; packets of one flow never do. Should the
   * call stop early, it leaves the batch in the order in which it was sent, so that what is left still starts at `start` and the result.
   *
   * @returns how many were sent; one of those after them failed, and says why when it comes first.
   * @throws as sendmsg(), when the first of them can't be sent.
   */
  sendmmsg(batch: PacketBatch, flags = 0, start = 0): number {
    return this.#calls.sendmmsg(batch, flags, start);
  }

  /**
   * Fills `batch`, from empty, with the packets that are queued. With none queued it blocks for the first,
   * `receiveTimeout` at most, unless MSG_DONTWAIT is in `flags`.
   *
   * @returns how many were received; 0 with MSG_DONTWAIT when none is queued.
   * @throws as recvmsg().
   */
  recvmmsg(batch: PacketBatch, flags = 0): number {
    return this.#calls.recvmmsg(batch, flags);
  }

  /**
   * Sends one packet, asynchronously and in order; the packet is copied, so that its memory is free again at once. What
   * was sent in one tick goes to the kernel together, and waits for room there.
   *
   * @param callback - called with the error, or null, and the bytes sent; never before send() returns. Without one an
   * error is an 'error' event, but for those of a link that is down (EIO, ENETDOWN): that is told as 'link', and stats() count the packets.
   * ENOBUFS: the queue is full (`sendQueueLimit`); wait for callbacks or 'drain' before sending more.
   */
  send(packet: PacketData, callback?: SendCallback): void;
  /** The same, with `options` for what is still to be done to the packet (`offload`), on a socket with such a thing. */
  send(packet: PacketData, options: PacketSendOptions, callback?: SendCallback): void;
  send(packet: PacketData, options?: PacketSendOptions | SendCallback, callback?: SendCallback): void {
    if (typeof options === 'number' || typeof callback === 'number') {
      throw invalidArgType(
        'options',
        'an object or a function: there is no offset, length, port and address here as with dgram; where a packet goes is in its header, so send(packet, callback)',
        options,
      );
    }
    const given = typeof options === 'function' ? undefined : options;
    // First what may run code of the caller's: it could take memory away.
    const meta = given === undefined ? undefined : this.#metaOf(given);
    this.#send(packetViews('packet', packet), meta, typeof options === 'function' ? options : callback);
  }

  /**
   * Sends a whole batch without blocking the loop, after what send() has queued. The batch belongs to the socket until the promise is
   * settled.
   *
   * @returns how many packets were sent: all of them.
   * @throws SystemError as sendmsg(), with how many were sent before in its `sent`; `ERR_SOCKET_CLOSED` when the socket is closed first.
   */
  async sendBatch(batch: PacketBatch): Promise<number> {
    checkBatch('batch', batch);
    this.#assertOpen();
    return new Promise((resolve, reject) => {
      this.#queue.pushBatch(batch, (error, sent) => {
        if (error === null) resolve(sent);
        else reject(Object.assign(error, { sent }));
      });
      if (!this.#queue.blocked) this.#flushing.request();
    });
  }

  /** Bytes that send() took and the kernel has not. */
  getSendQueueSize(): number {
    return this.#queue.size;
  }

  /** Packets that send() took and the kernel has not. */
  getSendQueueCount(): number {
    return this.#queue.count;
  }

  /**
   * The next packet, which is the caller's to keep. Calls wait in line; a waiting call comes before 'message' listeners.
   *
   * @throws AbortError when `signal` is aborted first; what the 'error' event has, when the socket fails;
   * `ERR_SOCKET_CLOSED` when it is closed first.
   */
  async receive(options?: ReceiveOptions): Promise<Buffer> {
    return (await this.#receive(options)).packet;
  }

  /** The same, with what is known of the packet. */
  async receiveMessage(options?: ReceiveOptions): Promise<PacketWithInfo<Info>> {
    return (await this.#receive(options)) as PacketWithInfo<Info>;
  }

  /** Packets one by one, as receive() gives them; ends when the socket is closed, throws when it fails. */
  [Symbol.asyncIterator](): AsyncIterableIterator<Buffer, undefined> {
    return new PacketIterator(this.#streamed(), ({ packet }) => packet);
  }

  /** The same with what is known of each: `for await (const { packet, info } of socket.messages())`. */
  messages(): AsyncIterableIterator<PacketWithInfo<Info>, undefined> {
    return new PacketIterator(this.#streamed(), (owned) => owned as PacketWithInfo<Info>);
  }

  /**
   * An object-mode Duplex in which each chunk is one packet, or with `info: true` one `{ packet, info }`, with back-pressure both ways.
   * Destroying it closes the socket.
   *
   * @throws Error `ERR_INVALID_STATE` on a socket with `offload: 'raw'` without `info`: a chunk has no place for what is still to be done to a
   * packet.
   */
  stream(options?: PacketInfoOptions): Duplex {
    const given = optionsObject('options', options);
    knownOptions('options', given, ['info']);
    const info = given.info === undefined ? false : boolean('options.info', given.info);
    this.#assertOpen();
    if (this.offload === 'raw' && !info) {
      throw invalidState(
        "a stream carries whole packets: open the socket with offload 'split', or give stream() info: true",
      );
    }
    return packetStream(this.#streamed(), info);
  }

  /** Stops 'message' and 'batch': packets wait in the kernel, which drops what its queue has no room for. */
  pause(): this {
    this.#receiver.paused = true;
    return this;
  }

  /** Goes on after pause(). */
  resume(): this {
    this.#receiver.paused = false;
    return this;
  }

  /** Lets the socket keep the process alive while it waits for packets, as it does from the start. */
  ref(): this {
    if (!this.#closed) this.#watching.setRef(true);
    return this;
  }

  /** Lets the process end while the socket waits for packets. */
  unref(): this {
    if (!this.#closed) this.#watching.setRef(false);
    return this;
  }

  /** What went in and out since the socket was opened; also once it is closed. */
  stats(): SocketStats {
    return this.#finalStats ?? this.#calls.stats();
  }

  /**
   * Closes the socket: its descriptor is free, and a device that is not persistent is gone, when this returns. Queued
   * sends have one last try; those that fail are told as ever. 'close' follows on a later tick.
   *
   * @throws Error `ERR_SOCKET_CLOSED` when it is closed already, as dgram has it.
   */
  close(callback?: () => void): this {
    if (callback !== undefined) checkCallback('callback', callback);
    this.#assertOpen();
    if (callback !== undefined) this.once('close', callback);
    this.#queue.flush();
    this.#end(null);
    return this;
  }

  /**
   * Gives the descriptor up: the socket closes, as with close(), and the device lives on. The number is the caller's from here on, who closes
   * it, makes a socket of it (`socketFromFd()`), or leaves it to another program. It is close-on-exec and O_NONBLOCK as it was. Packets that
   * nobody took and that stood in this socket are lost, as with close().
   *
   * @returns the descriptor's number.
   * @throws Error `ERR_SOCKET_CLOSED` when it is closed already.
   */
  detach(): number {
    this.#assertOpen();
    this.#queue.flush();
    let fd = -1;
    this.#end(null, () => {
      fd = this.#handle.release();
    });
    return fd;
  }

  /** Closes the socket, unless it is closed. */
  [Symbol.dispose](): void {
    if (!this.#closed) this.close();
  }

  /** Closes the socket, unless it is closed; waits for 'close'. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#closed) await new Promise<void>((resolve) => this.close(resolve));
  }

  /** On the tick after the socket was opened. */
  override on(event: 'listening', listener: () => void): this;
  /** A packet; the Buffer is the listener's to keep. Up to 128 bytes have memory of their own, larger ones share pieces of 16 KiB that can't be transferred. */
  override on(event: 'message', listener: (packet: Buffer, info: Info) => void): this;
  /** All packets of one wake-up. The batch is valid only during the call, since no copy is made: what is to stay must be copied. */
  override on(event: 'batch', listener: (batch: PacketBatch) => void): this;
  /** All that send() had to queue for want of room has gone. */
  override on(event: 'drain', listener: () => void): this;
  /** The interface went up or down, got or lost its carrier, another name, mtu or address, or moved. A state of the link is no error. */
  override on(event: 'link', listener: (change: LinkChange) => void): this;
  /** EBADFD: the device is gone; 'close' follows. ENOMEM, ENOBUFS, EIO of a receive: it may pass, and the socket lives on. Also what failed in a send() without a callback. */
  override on(event: 'error', listener: (error: Error) => void): this;
  /** The socket is closed, by close() or because the device is gone. */
  override on(event: 'close', listener: () => void): this;
  override on<E extends keyof MessageSocketEvents>(
    event: E,
    listener: (...args: MessageSocketEvents<Info>[E]) => void,
  ): this;
  override on(event: keyof MessageSocketEvents, listener: (...args: never[]) => void): this {
    return this.#heard(super.on(eventName(event), listener as never));
  }

  override addListener<E extends keyof MessageSocketEvents>(
    event: E,
    listener: (...args: MessageSocketEvents<Info>[E]) => void,
  ): this {
    return this.#heard(super.addListener(eventName(event), listener as never));
  }

  override prependListener<E extends keyof MessageSocketEvents>(
    event: E,
    listener: (...args: MessageSocketEvents<Info>[E]) => void,
  ): this {
    return this.#heard(super.prependListener(eventName(event), listener as never));
  }

  override off<E extends keyof MessageSocketEvents>(
    event: E,
    listener: (...args: MessageSocketEvents<Info>[E]) => void,
  ): this {
    return this.#heard(super.off(eventName(event), listener as never));
  }

  override removeListener<E extends keyof MessageSocketEvents>(
    event: E,
    listener: (...args: MessageSocketEvents<Info>[E]) => void,
  ): this {
    return this.#heard(super.removeListener(eventName(event), listener as never));
  }

  override removeAllListeners(event?: keyof MessageSocketEvents): this {
    return this.#heard(event === undefined ? super.removeAllListeners() : super.removeAllListeners(event));
  }

  /** @internal */
  [inspect.custom](): string {
    const state = this.#closed ? 'closed' : `fd: ${this.fd}`;
    return `${this.constructor.name} { name: '${this.name}', index: ${this.index}, ${state}, offload: '${this.offload}' }`;
  }

  /** What the loop waits for follows from who listens. */
  #heard(self: this): this {
    this.#updating.request();
    return self;
  }

  #internals(): SocketInternals {
    const socket = this;
    return {
      get handle() {
        socket.#assertOpen();
        return socket.#handle;
      },
      interface: this.#interface,
      offload: this.#setup.offload,
      get errorContext() {
        return { interface: socket.name };
      },
      roomChanged: () => {
        if (this.#queue.blocked) this.#flush();
      },
      settle: () => this.#receiver.settle(),
    };
  }

  #assertOpen(): void {
    if (this.#closed) throw closedError('the socket');
  }

  #ioError(errno: number, syscall: string, flags?: number): Error {
    return ioError(errno, syscall, this.name, this.#setup.hint?.(errno, syscall, flags));
  }

  #metaOf(options: PacketSendOptions): SendMeta | undefined {
    const meta = sendMeta(options);
    if (meta !== undefined) this.#setup.checkMeta?.(meta);
    return meta;
  }

  #send(views: readonly Uint8Array[], meta: SendMeta | undefined, callback: SendCallback | undefined): void {
    if (callback !== undefined) checkCallback('callback', callback);
    this.#assertOpen();
    let size = 0;
    for (const view of views) size += byteLengthOf(view);
    const refusal =
      size > MAX_SEND ? EMSGSIZE : this.#queue.push(views, size, meta, callback) ? undefined : ENOBUFS;
    if (refusal !== undefined) {
      const error = this.#ioError(refusal, 'send');
      if (callback !== undefined) process.nextTick(callback, error, 0);
      else this.#sendFailed(error);
      return;
    }
    if (!this.#queue.blocked) this.#flushing.request();
  }

  #sendFailed(error: Error): void {
    if (this.index !== 0 && LINK_DOWN_ERRORS.has((error as { errno?: number }).errno ?? 0)) return;
    process.nextTick(() => this.emit('error', error));
  }

  #flush(timeoutMs = 0): void {
    const wasBlocked = this.#queue.blocked;
    this.#queue.flush(timeoutMs);
    if (this.#queue.blocked !== wasBlocked) this.#watch();
  }

  async #receive(options: ReceiveOptions | undefined): Promise<OwnedPacket> {
    const given = optionsObject('options', options);
    knownOptions('options', given, ['signal']);
    const signal = abortSignal('options.signal', given.signal);
    this.#assertOpen();
    if (signal?.aborted) throw abortError(signal);
    return this.#receiver.take() ?? this.#wait(signal);
  }

  #wait(signal: AbortSignal | undefined): Promise<OwnedPacket> {
    return new Promise((resolve, reject) => {
      if (signal === undefined) {
        this.#receiver.wait({ resolve, reject });
        return;
      }
      const takeBackAbort = onAbort(signal, this as MessageSocket, () => {
        takeBack();
        reject(abortError(signal));
      });
      const takeBack = this.#receiver.wait({
        resolve: (owned) => {
          takeBackAbort();
          resolve(owned);
        },
        reject: (error) => {
          takeBackAbort();
          reject(error);
        },
      });
    });
  }

  #streamed(): PacketStreamSocket & { ended(): Error | null | undefined } {
    return {
      take: () => (this.#closed ? undefined : this.#receiver.take()),
      next: async () => {
        this.#assertOpen();
        return this.#wait(undefined);
      },
      send: (packet, callback) => this.send(packet, callback),
      dispose: () => this[Symbol.dispose](),
      ended: () => this.#endedWith,
    };
  }

  /** Tells the loop what to wait for: the one place where that follows from who waits. */
  #watch(): void {
    if (this.#closed) return;
    const receiver = this.#receiver;
    // Listeners get packets in order too.
    if (receiver.flowing) receiver.settle();
    this.#callsOwner.watched = receiver.reading;
    const result = this.#watching.update(receiver.reading, receiver.limit, this.#queue.blocked);
    if (result < 0) this.#end(this.#ioError(result, 'poll'));
    this.#interface.listen(this.#setup.followMtu === true || this.#minds());
  }

  /** Whether anybody would hear what becomes of the interface. Calls find it out themselves. */
  #minds(): boolean {
    return (
      this.#receiver.reading ||
      this.#queue.blocked ||
      this.listenerCount('link') > 0 ||
      this.listenerCount('error') > 0 ||
      this.listenerCount('close') > 0
    );
  }

  #onLink(change: LinkChange): void {
    if (this.#closed) return;
    if (change.kind === 'mtu' && this.#setup.followMtu) this.#handle.setMtu(change.link.mtu);
    if (change.kind === 'up' || change.kind === 'down') this.#flush();
    this.emit('link', change);
    const gone = change.kind === 'removed' || (change.kind === 'moved' && !this.#setup.moves);
    if (gone && !this.#closed && this.#minds()) this.#end(this.#ioError(EBADFD, 'poll'));
  }

  #onError(errno: number, stopped: boolean): void {
    // ENETDOWN is told as 'link'; 0 is an error that is past.
    if (errno === ENETDOWN || errno === 0) {
      if (stopped) this.#watch();
      return;
    }
    const syscall = stopped ? 'poll' : 'recvmsg';
    const told = this.#setup.networkErrors?.(errno, syscall);
    if (told !== undefined) {
      if (stopped) this.#watch();
      for (const error of told)
        if (!this.#closed && this.listenerCount('error') > 0) this.emit('error', error);
      return;
    }
    const passing = PASSING_ERRORS.has(errno) && ++this.#errorsInARow < MAX_ERRORS_IN_A_ROW;
    const error = this.#ioError(errno, syscall);
    if (!passing) {
      this.#end(error);
      return;
    }
    if (stopped) this.#watch();
    this.emit('error', error);
  }

  /** `error`: why, or null where the user wants it so. */
  #end(error: Error | null, letGo: () => void = () => this.#handle.close()): void {
    if (this.#closed) return;
    this.#interface.close();
    this.#finalStats = this.#calls.stats();
    this.#receiver.settle();
    letGo();
    this.#closed = true;
    this.#endedWith = error;
    this.#setup.release?.();
    this.#takeBackAbort?.();
    const reason = error ?? closedError('the socket');
    // Who waits in receive() gets the error there, and need not listen for it too.
    const silent = error === null || (this.#receiver.waiting > 0 && this.listenerCount('error') === 0);
    this.#queue.abandon(reason);
    this.#receiver.abandon(reason);
    if (!silent) process.nextTick(() => this.emit('error', error));
    process.nextTick(() => this.emit('close'));
  }
}
