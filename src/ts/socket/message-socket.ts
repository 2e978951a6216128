import type { EventEmitter } from 'node:events';
import type { Duplex } from 'node:stream';
import type { Netns } from '../host/netns';
import { LINK_PRESENT, LINK_UP, NativeEvent, READABLE, WRITABLE } from '../native';
import type { PacketBatch } from '../packet/packet-batch';
import { packetViews } from '../packet/packet-data';
import { MSG_DONTWAIT } from '../support/constants';
import { Deferred } from '../support/deferred';
import { abortError, closedError, invalidState } from '../support/errors';
import { EBADFD, EINVAL, EMSGSIZE, ENETDOWN, ENOBUFS } from '../support/io-errors';
import { abortSignal, callback as checkCallback } from '../support/options';
import type { PacketData, SendOptions } from '../support/types';
import { BlockingSocket, type BlockingSocketSetup } from './blocking-socket';
import { directInbox, type OwnedPacket, ownPackets, sharedInbox, wakeUpLimit } from './flow/inbox';
import { packetStream } from './flow/packet-stream';
import { ReceiveQueue } from './flow/receive-queue';
import { type SendCallback, SendQueue } from './flow/send-queue';
import type { MessageSocketEvents } from './message-events';

/** Packets that receive() may take straight from the kernel before other work of the loop has its turn. */
const MAX_DIRECT_RECEIVES = 64;
/** No packet is longer (an IP packet, an Ethernet header with a VLAN tag, packet info); the device's limit is exact. */
const MAX_SEND = 65535 + 18 + 4;

/** What the subclasses hand to MessageSocket. */
export interface MessageSocketSetup extends BlockingSocketSetup {
  /** The interface's namespace, if it was opened for this socket: it is closed with it. */
  netns: Netns | undefined;
  /** Bytes that send() may queue. */
  sendQueueLimit: number;
  signal: AbortSignal | undefined;
}

/**
 * A socket on which each message is one packet: what TunSocket and PacketSocket share. It keeps the process alive while
 * somebody waits for packets (a 'message' or 'batch' listener, receive(), queued sends), unless unref() was called.
 */
export abstract class MessageSocket extends BlockingSocket {
  readonly #queue: SendQueue;
  readonly #received: ReceiveQueue;
  /** The handle holds it weakly, lest it keep a socket alive that nobody uses. */
  readonly #listener = (kind: NativeEvent, value: number) => this.#onEvent(kind, value);
  #directReceives = 0;
  readonly #flushing = new Deferred(process.nextTick, () => {
    if (!this.#closed && !this.#queue.blocked) this.#flush();
  });
  readonly #watching = new Deferred(process.nextTick, () => this.#watch());
  /** What is left of a superpacket shows in no poll. */
  readonly #deliveringHeld = new Deferred(setImmediate, () => {
    if (!this.#closed) this.handle.deliverHeld();
  });
  #paused = false;
  #inbox: PacketBatch | undefined;
  #closed = false;
  readonly #netns: Netns | undefined;
  #removeAbortListener: (() => void) | undefined;

  /** @internal */
  protected constructor(setup: MessageSocketSetup) {
    super(setup);
    this.#netns = setup.netns;
    this.#queue = new SendQueue(
      {
        sendBatch: (batch, start, timeout) =>
          this.sendBatch(batch, timeout === 0 ? MSG_DONTWAIT : 0, start, timeout),
        sendError: (errno) => this.ioError(errno, 'send'),
        failed: (error) => process.nextTick(() => this.emit('error', error)),
      },
      setup.sendQueueLimit,
    );
    const socket = this;
    this.#received = new ReceiveQueue({
      get closed() {
        return socket.#closed;
      },
      get flowing() {
        return !socket.#paused && socket.listenerCount('message') > 0;
      },
      emitMessage: (packet, info) => this.emit('message', packet, info),
      changed: () => this.#watch(),
    });
    this.#hearListeners();
    this.#listen();
    this.#closeOnAbort(setup.signal);
    process.nextTick(() => {
      if (!this.#closed) this.emit('listening');
    });
  }

  override get closed(): boolean {
    return this.#closed;
  }

  /**
   * Sends one packet, asynchronously and in order; the packet is copied, so that its memory is free again at once. What
   * was sent in one tick goes to the kernel together, and waits for room there.
   *
   * @param callback - called with the error, or null, and the bytes sent; never before send() returns. Without one an
   * error is an 'error' event. ENOBUFS: the queue is full (`sendQueueLimit`); wait for callbacks before sending more.
   */
  send(packet: PacketData, callback?: SendCallback): void;
  /** The same, with `options.offload` for what is still to be done to the packet, on a socket with `offload`. */
  send(packet: PacketData, options: SendOptions, callback?: SendCallback): void;
  send(packet: PacketData, options?: SendOptions | SendCallback, callback?: SendCallback): void {
    const views = packetViews('packet', packet);
    if (typeof options === 'function') this.#send(views, undefined, options);
    else this.#send(views, options, callback);
  }

  #send(views: readonly Uint8Array[], options: SendOptions | undefined, callback?: SendCallback): void {
    const header = options === undefined ? undefined : this.virtioHeader(options);
    if (callback !== undefined) checkCallback('callback', callback);
    this.assertOpen();
    let size = 0;
    for (const view of views) size += view.byteLength;
    const refusal = this.#sendRefusal(views, size, header, callback);
    if (refusal !== undefined) {
      if (callback !== undefined) process.nextTick(callback, refusal, 0);
      else process.nextTick(() => this.emit('error', refusal));
      return;
    }
    if (!this.#queue.blocked) this.#flushing.request();
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
   * The next packet, which is the caller's to keep; of a socket with `offload: 'raw'` only its bytes: 'message' and recvmsg() say what
   * is still to be done to it. Calls wait in line; a waiting call comes before 'message' listeners.
   *
   * @throws AbortError when `signal` is aborted first; what the 'error' event has, when the socket fails;
   * `ERR_SOCKET_CLOSED` when it is closed first.
   */
  async receive(options: { signal?: AbortSignal } = {}): Promise<Buffer> {
    const signal = abortSignal('options.signal', options.signal);
    this.assertOpen();
    if (signal?.aborted) throw abortError(signal);
    return this.#receiveNow() ?? this.#received.wait(signal);
  }

  /** Packets one by one, as receive() gives them; ends when the socket is closed, throws when it fails. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer, void, undefined> {
    while (!this.#closed) {
      let packet: Buffer;
      try {
        packet = await this.receive();
      } catch (error) {
        if ((error as { code?: string }).code === 'ERR_SOCKET_CLOSED') return;
        throw error;
      }
      yield packet;
    }
  }

  /**
   * An object-mode Duplex in which each chunk is one packet, with back-pressure both ways. Destroying it closes the socket.
   *
   * @throws Error `ERR_INVALID_STATE` on a socket with `offload: 'raw'`: a chunk has no place for what is still to be done to a packet.
   */
  stream(): Duplex {
    this.assertOpen();
    if (this.offload === 'raw') {
      throw invalidState(
        "a stream carries whole packets: open the socket with offload 'split', or use 'message'",
      );
    }
    return packetStream(this);
  }

  /** Stops 'message' and 'batch': packets wait in the kernel, which drops what its queue has no room for. */
  pause(): this {
    this.#paused = true;
    this.#watch();
    return this;
  }

  /** Goes on after pause(). */
  resume(): this {
    this.#paused = false;
    this.#received.deliverKept();
    this.#watch();
    return this;
  }

  /** Lets the socket keep the process alive while it waits for packets, as it does from the start. */
  ref(): this {
    if (!this.#closed) this.handle.setRef(true);
    return this;
  }

  /** Lets the process end while the socket waits for packets. */
  unref(): this {
    if (!this.#closed) this.handle.setRef(false);
    return this;
  }

  /**
   * Closes the socket: its descriptor is free, and a device that is not persistent is gone, when this returns. Queued
   * sends have one last try. 'close' follows on a later tick.
   *
   * @throws Error `ERR_SOCKET_CLOSED` when it is closed already, as dgram has it.
   */
  close(callback?: () => void): this {
    if (callback !== undefined) checkCallback('callback', callback);
    this.assertOpen();
    if (callback !== undefined) this.once('close', callback);
    this.#queue.flush();
    this.#end(undefined);
    return this;
  }

  /** Closes the socket, unless it is closed. */
  [Symbol.dispose](): void {
    if (!this.#closed) this.close();
  }

  /** Closes the socket, unless it is closed; waits for 'close'. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#closed) await new Promise<void>((resolve) => this.close(resolve));
  }

  override removeAllListeners(event?: keyof MessageSocketEvents): this {
    super.removeAllListeners(event);
    if (event === undefined) this.#hearListeners();
    return this.#listenersChanged();
  }

  /** @internal The name of the interface is asked for last when the socket ends. */
  protected abstract rememberName(): void;

  /** @internal */
  protected override takeKept(peek: boolean): OwnedPacket | undefined {
    return this.#received.take(peek);
  }

  /** @internal */
  protected override takeKeptBatch(batch: PacketBatch): number {
    return this.#received.takeBatch(batch);
  }

  /** @internal Tries again what waits for room: the kernel does not say when a larger send buffer makes some. */
  protected roomChanged(): void {
    if (this.#queue.blocked) this.#flush();
  }

  /** @internal Order among send(), sendmsg() and sendmmsg() is that of the calls. */
  protected override flushQueue(timeoutMs: number): boolean {
    if (this.#queue.count > 0) this.#flush(timeoutMs);
    return this.#queue.count === 0;
  }

  #flush(timeoutMs = 0): void {
    const wasBlocked = this.#queue.blocked;
    this.#queue.flush(timeoutMs);
    if (this.#queue.blocked !== wasBlocked) this.#watch();
  }

  #sendRefusal(
    views: readonly Uint8Array[],
    size: number,
    header: Uint8Array | undefined,
    callback: SendCallback | undefined,
  ): Error | undefined {
    if (size > MAX_SEND) return this.ioError(EMSGSIZE, 'send');
    return this.#queue.push(views, size, header, callback) ? undefined : this.ioError(ENOBUFS, 'send');
  }

  /** A packet that is there already, without waiting for the loop; not for ever, so that other work has its turn. */
  #receiveNow(): Buffer | undefined {
    if (this.#received.waiting > 0) return undefined;
    const kept = this.#received.take();
    if (kept !== undefined) return kept.packet;
    if (this.#directReceives >= MAX_DIRECT_RECEIVES) return undefined;
    this.#directReceives += 1;
    const inbox = directInbox();
    const received = this.handle.receiveBatch(inbox.memory, inbox.capacity, inbox.slot, 1, MSG_DONTWAIT, 0);
    this.tookPackets();
    // An error shows at the wake-up too.
    return received > 0 ? this.#own(inbox, received)[0]?.packet : undefined;
  }

  /** @internal What is left of a superpacket of which a call took the head shows in no poll. */
  protected override tookPackets(): void {
    if (this.offload === 'split' && this.#reading && this.handle.held > 0) this.#deliveringHeld.request();
  }

  #own(inbox: PacketBatch, received: number): OwnedPacket[] {
    inbox.filled(received, this.metadata);
    return ownPackets(inbox);
  }

  /** What the loop waits for follows from who listens. */
  #hearListeners(): void {
    const changed = () => this.#listenersChanged();
    (this as EventEmitter).on('newListener', changed);
    (this as EventEmitter).on('removeListener', changed);
  }

  #listenersChanged(): this {
    this.#watching.request();
    return this;
  }

  /** Whether packets go to listeners. */
  get #flowing(): boolean {
    return !this.#paused && (this.listenerCount('message') > 0 || this.listenerCount('batch') > 0);
  }

  /** Whether anybody waits for packets. */
  get #reading(): boolean {
    return this.#flowing || this.#received.waiting > 0;
  }

  /** Tells the loop what to wait for: the one place where that follows from who waits. */
  #watch(): void {
    if (this.#closed) return;
    const reading = this.#reading;
    const events = (reading ? READABLE : 0) | (this.#queue.blocked ? WRITABLE : 0);
    const link = events !== 0 || this.listenerCount('error') > 0 || this.listenerCount('close') > 0;
    const limit = this.#flowing ? wakeUpLimit(this.offload) : this.#received.waiting;
    const result = this.handle.watch(events, limit, link);
    if (result < 0) this.#end(this.ioError(result, 'poll'));
    else if (reading && this.handle.held > 0) this.#deliveringHeld.request();
  }

  #onEvent(kind: NativeEvent, value: number): void {
    this.#directReceives = 0;
    switch (kind) {
      case NativeEvent.Readable:
        if (value >= 0) this.#onPackets(value);
        else if (value !== EINVAL || !this.#listen()) this.#onError(value, 'recvmsg');
        break;
      case NativeEvent.Writable:
        this.#flush();
        break;
      case NativeEvent.Error:
        this.#onError(value, 'poll');
        break;
      case NativeEvent.Link:
        this.#onLink(value);
        break;
    }
  }

  /** Says where packets of a wake-up go. A listener can have transferred the memory of the inbox away: then there is a new one. */
  #listen(): boolean {
    const inbox = sharedInbox();
    if (inbox === this.#inbox) return false;
    this.#inbox = inbox;
    return this.handle.listen(this.#listener, inbox.memory, inbox.capacity) === 0;
  }

  #onPackets(count: number): void {
    const inbox = this.#inbox as PacketBatch;
    // Packets that nobody waits for any more are kept: the last listener may have gone since the loop was told.
    const wanted =
      this.listenerCount('message') > 0 || this.#received.waiting > 0 || this.listenerCount('batch') === 0;
    const waited = this.#received.waiting > 0;
    const owned = wanted ? this.#own(inbox, count) : [];
    inbox.filled(count, this.metadata);
    try {
      if (!this.#paused) this.emit('batch', inbox);
    } finally {
      this.#received.deliver(owned);
      if (waited) this.#watch();
    }
  }

  #onLink(state: number): void {
    if ((state & LINK_PRESENT) === 0) {
      this.#onError(EBADFD, 'poll');
    } else if ((state & LINK_UP) === 0) {
      this.#queue.flush(); // what waits for room fails now, rather than wait for a link that may never return
      this.#watch();
      this.emit('error', this.ioError(ENETDOWN, 'poll'));
    } else {
      this.#flush();
    }
  }

  #onError(errno: number, syscall: string): void {
    // A packet socket has ENETDOWN of its own, which the watch of the interface tells; 0 is an error that is past.
    if (errno === ENETDOWN || errno === 0) this.#watch();
    else this.#end(this.ioError(errno, syscall));
  }

  #end(error: Error | undefined): void {
    if (this.#closed) return;
    this.rememberName();
    this.closeHandle();
    this.#closed = true;
    this.#netns?.close();
    this.#removeAbortListener?.();
    const reason = error ?? closedError('the socket');
    // Who waits in receive() gets the error there, and need not listen for it too.
    const silent = error === undefined || (this.#received.waiting > 0 && this.listenerCount('error') === 0);
    this.#queue.abandon(reason);
    this.#received.abandon(reason);
    if (!silent) process.nextTick(() => this.emit('error', error));
    process.nextTick(() => this.emit('close'));
  }

  #closeOnAbort(signal: AbortSignal | undefined): void {
    if (signal === undefined) return;
    const onAbort = () => {
      if (!this.#closed) this.close();
    };
    signal.addEventListener('abort', onAbort, { once: true });
    this.#removeAbortListener = () => signal.removeEventListener('abort', onAbort);
  }
}
