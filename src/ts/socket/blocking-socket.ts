import { EventEmitter } from 'node:events';
import type { SocketHandle } from '../native';
import { META_BYTES, META_LINK, META_OFFLOAD, messageInfo } from '../packet/message-info';
import { type Offload, offloadHeader } from '../packet/offload';
import { checkBatch, type PacketBatch } from '../packet/packet-batch';
import { MAX_VIEWS, packetViews } from '../packet/packet-data';
import { MSG_DONTWAIT, MSG_ERRQUEUE, MSG_PEEK } from '../support/constants';
import { closedError, invalidArgValue } from '../support/errors';
import { EAGAIN, ioError } from '../support/io-errors';
import { flagBits, integer } from '../support/options';
import type {
  DirectionStats,
  OffloadFeature,
  OffloadMode,
  PacketData,
  ReceivedMessage,
  SendOptions,
  SocketStats,
} from '../support/types';
import { type OwnedPacket, scatter } from './flow/inbox';
import type { MessageSocketEvents } from './message-events';

/** A blocking call waits in slices, so that worker.terminate() and debuggers get a word in. */
const WAIT_SLICE_MS = 100;

/** The words of `details` before the PacketMeta: copied, size, flags, protocol. */
const DETAILS_WORDS = 4;
const DETAILS_BYTES = DETAILS_WORDS * Uint32Array.BYTES_PER_ELEMENT;

/** What a BlockingSocket is made of. */
export interface BlockingSocketSetup {
  handle: SocketHandle;
  /** Milliseconds that a blocking recvmsg waits; undefined is for ever. */
  receiveTimeout: number | undefined;
  /** Whether packets come with what the link layer knows of them. */
  linkLayer: boolean;
  offload: Offload;
}

/** The synchronous half of a MessageSocket: the four calls that sockets have, on one packet or a batch of them. */
export abstract class BlockingSocket extends EventEmitter<MessageSocketEvents> {
  readonly #handle: SocketHandle;
  readonly #receiveTimeout: number | undefined;
  readonly #details = new Uint32Array((DETAILS_BYTES + META_BYTES) / Uint32Array.BYTES_PER_ELEMENT);
  #finalStats: SocketStats | undefined;

  readonly #offload: Offload;

  /** @internal What comes with packets beside their bytes: META_LINK, META_OFFLOAD. */
  protected readonly metadata: number;

  /** @internal */
  protected constructor({ handle, receiveTimeout, linkLayer, offload }: BlockingSocketSetup) {
    super();
    this.metadata = (linkLayer ? META_LINK : 0) | (offload.mode === 'raw' ? META_OFFLOAD : 0);
    this.#handle = handle;
    this.#receiveTimeout = receiveTimeout;
    this.#offload = offload;
  }

  /** The interface's name, also after another program has renamed it; the last one known, once closed. */
  abstract get name(): string;

  /** The interface's index. */
  abstract get index(): number;

  /** The descriptor; -1 once closed. */
  get fd(): number {
    return this.#handle.fd;
  }

  /** Whether close() was called, or the device has gone. */
  abstract get closed(): boolean;

  /** What is in force of the option `offload`: 'none' too where the kernel has nothing of what it needs. */
  get offload(): OffloadMode {
    return this.#offload.mode;
  }

  /**
   * What the kernel and this socket leave to each other: as much of what `offload` asks for as the kernel has, without what it has refused
   * since. `undefined` for a descriptor that another program has set up.
   */
  get offloadFeatures(): readonly OffloadFeature[] | undefined {
    return this.#offload.features;
  }

  /**
   * Sends one packet, synchronously. Several views are gathered into one packet. Blocks while the kernel has no
   * room, unless MSG_DONTWAIT is in `flags`. `options.offload` says what is still to be done to the packet, on a socket with `offload`.
   *
   * @returns bytes sent.
   * @throws SystemError EAGAIN (MSG_DONTWAIT, and no room), EINVAL (no packet, or a flag other than MSG_DONTWAIT and
   * MSG_NOSIGNAL), EMSGSIZE (too long for a packet), EIO (the interface is down), EBADFD (the device is gone).
   * See sendmsg(2), tun_get_user() in drivers/net/tun.c.
   */
  sendmsg(data: PacketData, flags = 0, options?: SendOptions): number {
    const views = packetViews('data', data);
    flagBits('flags', flags);
    const header = this.virtioHeader(options);
    return this.sendOne(flags, (timeout) => this.#handle.send(single(views), flags, timeout, header));
  }

  /**
   * Receives one packet into one view, or scattered into several. Given the same memory twice, the later view's bytes
   * stand in it. Blocks until there is a packet, `receiveTimeout` at most, unless MSG_DONTWAIT is in `flags`. Into 0
   * bytes it returns 0 at once, and the packet stays queued.
   *
   * @throws SystemError EAGAIN (nothing queued, or nothing came in time), EINVAL (a flag other than MSG_DONTWAIT,
   * MSG_TRUNC and MSG_ERRQUEUE; with `packetInfo`, fewer than 4 bytes), EBADFD (the device is gone). See recvmsg(2),
   * tun_recvmsg() in drivers/net/tun.c. RangeError for more than 1023 views, or 1022 with `offload: 'raw'`, whose header takes the place of one.
   */
  recvmsg(data: PacketData, flags = 0): ReceivedMessage {
    const views = packetViews('data', data, this.#offload.mode === 'raw' ? MAX_VIEWS - 1 : MAX_VIEWS);
    flagBits('flags', flags);
    this.assertOpen();
    const kept = this.takeKept((flags & MSG_PEEK) !== 0);
    if (kept !== undefined) return scatter(kept, views, flags);
    const details = this.#details;
    const bytes = this.#blocking('recvmsg', flags, this.#receiveTimeout, (timeout) =>
      this.#handle.receive(single(views), flags, timeout, details),
    );
    this.tookPackets();
    const meta =
      this.metadata === 0
        ? undefined
        : { view: new DataView(details.buffer.slice(DETAILS_BYTES)), kinds: this.metadata };
    return messageInfo(details[1] as number, bytes, details[2] as number, details[3] as number, meta, 0);
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
    checkBatch('batch', batch);
    flagBits('flags', flags);
    integer('start', start, 0, batch.length);
    this.assertOpen();
    return this.#blocking('sendmmsg', flags, undefined, (timeout) => {
      if (!this.flushQueue(timeout)) return EAGAIN;
      return this.sendBatch(batch, flags, start, timeout);
    });
  }

  /**
   * Fills `batch`, from empty, with the packets that are queued. With none queued it blocks for the first,
   * `receiveTimeout` at most, unless MSG_DONTWAIT is in `flags`.
   *
   * @returns how many were received; 0 with MSG_DONTWAIT when none is queued.
   * @throws as recvmsg().
   */
  recvmmsg(batch: PacketBatch, flags = 0): number {
    checkBatch('batch', batch);
    flagBits('flags', flags);
    this.assertOpen();
    if (this.takeKeptBatch(batch) > 0) return batch.length;
    const received = this.#blocking('recvmmsg', flags, this.#receiveTimeout, (timeout) => {
      const { memory, capacity, slot } = batch;
      const result = this.#handle.receiveBatch(memory, capacity, slot, capacity, flags, timeout);
      return result === EAGAIN && (flags & MSG_DONTWAIT) !== 0 ? 0 : result;
    });
    batch.filled(received, this.metadata);
    this.tookPackets();
    return received;
  }

  /** What went in and out since the socket was opened; also once it is closed. */
  stats(): SocketStats {
    return this.#finalStats ?? this.#readStats();
  }

  /** @internal The native side, while the socket is open. */
  protected get handle(): SocketHandle {
    this.assertOpen();
    return this.#handle;
  }

  /** @internal */
  protected assertOpen(): void {
    if (this.closed) throw closedError('the socket');
  }

  /** @internal What a negative errno of a packet operation means to the user. */
  protected ioError(errno: number, syscall: string): Error {
    return ioError(errno, syscall, this.name);
  }

  /** @internal Sends one packet by `attempt`, behind those that send() has queued. */
  protected sendOne(flags: number, attempt: (timeoutMs: number) => number): number {
    this.assertOpen();
    return this.#blocking('sendmsg', flags, undefined, (timeout) =>
      this.flushQueue(timeout) ? attempt(timeout) : EAGAIN,
    );
  }

  /** @internal Sends packets of `batch` from `start` on: how many, or a negative errno. */
  protected sendBatch(batch: PacketBatch, flags: number, start: number, timeoutMs: number): number {
    const { memory, capacity, slot, length } = batch;
    const headers = (batch.metadata & META_OFFLOAD) !== 0;
    const result = this.#handle.sendBatch(memory, capacity, slot, start, length, flags, timeoutMs, headers);
    if (this.#offload.mode === 'split') this.#offload.noteRefused(this.#handle.refusedOffload, this);
    return result;
  }

  /** @internal The virtio header that the options of a call ask for. */
  protected virtioHeader(options: SendOptions | undefined): Uint8Array | undefined {
    const header = offloadHeader(options);
    if (header !== undefined && this.#offload.mode === 'none') {
      throw invalidArgValue(
        'options.offload',
        "given only on a socket with offload 'raw' or 'split'",
        options,
      );
    }
    return header;
  }

  /** @internal Closes the native side; the counters stay. */
  protected closeHandle(): void {
    this.#finalStats = this.#readStats();
    this.#handle.close();
  }

  /** @internal Sends what send() has queued, which comes first; false when there is still no room for all of it. */
  protected abstract flushQueue(timeoutMs: number): boolean;

  /** @internal A call has received packets. */
  protected abstract tookPackets(): void;

  /** @internal A packet that was read before and had no taker; it comes first, and with `peek` stays. */
  protected abstract takeKept(peek: boolean): OwnedPacket | undefined;

  /** @internal Moves such packets into `batch`; how many. */
  protected abstract takeKeptBatch(batch: PacketBatch): number;

  #blocking(
    syscall: string,
    flags: number,
    limit: number | undefined,
    attempt: (timeoutMs: number) => number,
  ): number {
    if ((flags & (MSG_DONTWAIT | MSG_ERRQUEUE)) !== 0) {
      const result = attempt(0);
      if (result < 0) throw this.ioError(result, syscall);
      return result;
    }
    const deadline = limit === undefined ? undefined : performance.now() + limit;
    for (;;) {
      const left = deadline === undefined ? Number.POSITIVE_INFINITY : deadline - performance.now();
      const result = attempt(Math.max(0, Math.min(WAIT_SLICE_MS, Math.ceil(left))));
      if (result >= 0) return result;
      if (result !== EAGAIN || left <= 0) throw this.ioError(result, syscall);
    }
  }

  #readStats(): SocketStats {
    const counters = new Float64Array(14);
    this.#handle.stats(counters);
    const direction = (at: number): DirectionStats => ({
      packets: counters[at] as number,
      bytes: counters[at + 1] as number,
      truncated: counters[at + 2] as number,
      wouldBlock: counters[at + 3] as number,
      errors: counters[at + 4] as number,
      dropped: counters[at + 5] as number,
    });
    const stats: SocketStats = { received: direction(0), sent: direction(6) };
    if (this.#offload.mode === 'split') {
      const [received, sent] = counters.subarray(12) as unknown as [number, number];
      stats.offload = { received, sent, refused: this.#offload.refused };
    }
    return stats;
  }
}

/** The addon takes one view without an array around it. */
export function single(views: readonly Uint8Array[]): Uint8Array | readonly Uint8Array[] {
  return views.length === 1 ? (views[0] as Uint8Array) : views;
}
