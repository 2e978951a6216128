import { types } from 'node:util';
import type { SocketHandle } from '../native';
import { messageInfo } from '../packet/message-info';
import { checkBatch, filled, type PacketBatch, storeOf } from '../packet/packet-batch';
import { MAX_VIEWS, packetViews } from '../packet/packet-data';
import { META_DATAGRAM, META_OFFLOAD, type SendMeta } from '../packet/packet-meta';
import { MSG_DONTWAIT, MSG_ERRQUEUE } from '../support/constants';
import { EAGAIN } from '../support/io-errors';
import { flagBits, integer } from '../support/options';
import type { DirectionStats, MessageInfo, PacketData, SocketStats } from '../support/types';
import type { OffloadState } from './offload-state';

/** A blocking call waits in slices, so that worker.terminate() and debuggers get a word in. */
const WAIT_SLICE_MS = 100;

/** The words of struct PacketDetails (src/native/core/io/batch.h) before the PacketMeta: copied, size, flags, protocol. */
const DETAILS_WORDS = 4;

const MAX_FLAGS = 0x7fffffff;

/** What the calls need of their socket. */
export interface SocketCallsOwner {
  readonly handle: SocketHandle;
  /** Milliseconds that a blocking receive call waits; undefined is for ever. */
  readonly receiveTimeout: number | undefined;
  /** What of the metadata of received packets means anything. */
  readonly kinds: number;
  readonly offload: OffloadState;
  /** Whether the kernel counts what it drops for this socket. */
  readonly countsDrops: boolean;
  readonly countsArrivals: boolean;
  assertOpen(): void;
  /** What a negative errno means to the user. */
  ioError(errno: number, syscall: string, flags?: number): Error;
  /** Sends what send() has queued, which comes first; false when there is still no room for all of it. */
  flushQueue(timeoutMs: number): boolean;
  /** What send() has queued. */
  readonly queue: { readonly count: number };
  /** Puts back what waits above for its takers, before a call looks for a packet. */
  settle(): void;
  /** Whether somebody waits for packets beside the calls. */
  watched: boolean;
  /** A call has received packets, while somebody waits. */
  took(): void;
  /** Something has come for who waits that no poll shows. */
  again(): void;
  /** Who hears of what the kernel has refused. */
  readonly socket: object;
}

/** The calls that sockets have, on one packet or a batch of them. */
export class SocketCalls {
  readonly #owner: SocketCallsOwner;
  /** The path of one packet in one Buffer goes through these, and makes nothing. */
  readonly #handle: SocketHandle;
  readonly #kinds: number;
  readonly #datagrams: boolean;
  /** Superpackets are made below, or may be refused there. */
  readonly #merges: boolean;
  readonly #firstSlice: number;
  /** Whoever waits for packets or for room hears of both by one event. */
  readonly #oneEvent: boolean;
  readonly #details: Uint32Array;
  readonly #meta: DataView;

  constructor(owner: SocketCallsOwner) {
    this.#owner = owner;
    this.#handle = owner.handle;
    this.#kinds = owner.kinds;
    this.#datagrams = (owner.kinds & META_DATAGRAM) !== 0;
    const { mode } = owner.offload;
    this.#merges = mode === 'split' || (mode === 'raw' && this.#datagrams);
    this.#firstSlice = Math.min(owner.receiveTimeout ?? WAIT_SLICE_MS, WAIT_SLICE_MS);
    this.#oneEvent = owner.handle.vhost();
    this.#details = new Uint32Array(owner.handle.details, 0, DETAILS_WORDS);
    this.#meta = new DataView(owner.handle.details, this.#details.byteLength);
  }

  sendmsg(data: PacketData, flags: number, meta: SendMeta | undefined): number {
    const owner = this.#owner;
    let first: number | undefined;
    // One Uint8Array and nothing else: nothing is made. Not of no bytes: its memory may be gone, and some sockets send empty packets.
    if (meta === undefined && owner.queue.count === 0 && isOneView(data) && areFlags(flags)) {
      first = this.#handle.send(data, flags, WAIT_SLICE_MS);
      if (first >= 0) {
        if (this.#oneEvent) this.#passOn(flags);
        return first;
      }
    }
    const views = packetViews('data', data);
    flagBits('flags', flags);
    owner.assertOpen();
    const sent = this.#sendViews(views, flags, meta, first);
    if (meta === undefined || !this.#datagrams) return sent;
    owner.offload.noteRefused(owner.handle.refusedOffload(), owner.socket);
    return (flags & MSG_DONTWAIT) === 0 ? this.#sendRest(views, flags, meta, sent) : sent;
  }

  #sendViews(
    views: readonly Uint8Array[],
    flags: number,
    meta: SendMeta | undefined,
    first?: number | undefined,
  ): number {
    const { handle } = this.#owner;
    return this.#blocking('sendmsg', flags, undefined, first, (timeout) =>
      this.#owner.flushQueue(timeout) ? handle.send(single(views), flags, timeout, meta?.bytes) : EAGAIN,
    );
  }

  /** Of a run that the kernel takes only one by one there may have been room for the first datagrams. */
  #sendRest(views: readonly Uint8Array[], flags: number, meta: SendMeta, sent: number): number {
    const total = views.reduce((sum, view) => sum + view.length, 0);
    let all = sent;
    while (all < total) all += this.#sendViews(viewsFrom(views, all), flags, meta);
    return all;
  }

  recvmsg(data: PacketData, flags: number): MessageInfo {
    const owner = this.#owner;
    owner.settle();
    let first: number | undefined;
    if (data instanceof Uint8Array && areFlags(flags)) {
      first = this.#handle.receive(data, flags, this.#firstSlice);
      if (first > 0) return this.#received(first, flags);
    }
    const views = packetViews('data', data, owner.offload.mode === 'raw' ? MAX_VIEWS - 1 : MAX_VIEWS);
    flagBits('flags', flags);
    owner.assertOpen();
    const bytes = this.#blocking('recvmsg', flags, owner.receiveTimeout, first, (timeout) =>
      owner.handle.receive(single(views), flags, timeout),
    );
    return this.#received(bytes, flags);
  }

  #received(bytes: number, flags: number): MessageInfo {
    const details = this.#details;
    if (this.#owner.watched) this.#owner.took();
    if (this.#oneEvent) this.#passOn(flags);
    return messageInfo(
      details[1] as number,
      bytes,
      details[2] as number,
      details[3] as number,
      this.#kinds,
      this.#meta,
      0,
    );
  }

  sendmmsg(batch: PacketBatch, flags: number, start: number): number {
    checkBatch('batch', batch);
    flagBits('flags', flags);
    integer('start', start, 0, batch.length);
    this.#owner.assertOpen();
    let first: number | undefined;
    if (this.#owner.queue.count === 0) {
      first = this.sendBatch(batch, flags, start, WAIT_SLICE_MS);
      if (first >= 0) {
        if (this.#oneEvent) this.#passOn(flags);
        return first;
      }
    }
    return this.#blocking('sendmmsg', flags, undefined, first, (timeout) => {
      if (!this.#owner.flushQueue(timeout)) return EAGAIN;
      return this.sendBatch(batch, flags, start, timeout);
    });
  }

  recvmmsg(batch: PacketBatch, flags: number): number {
    checkBatch('batch', batch);
    flagBits('flags', flags);
    this.#owner.assertOpen();
    this.#owner.settle();
    const { handle, receiveTimeout, kinds } = this.#owner;
    const { memory, capacity, slot } = storeOf(batch);
    let received = handle.receiveBatch(memory, capacity, slot, capacity, flags, this.#firstSlice);
    if (received === EAGAIN && (flags & MSG_DONTWAIT) !== 0) received = 0;
    if (received < 0) {
      received = this.#blocking('recvmmsg', flags, receiveTimeout, received, (timeout) =>
        handle.receiveBatch(memory, capacity, slot, capacity, flags, timeout),
      );
    }
    filled(batch, received, kinds);
    if (this.#owner.watched) this.#owner.took();
    if (this.#oneEvent) this.#passOn(flags);
    return received;
  }

  /** Sends packets of `batch` from `start` on: how many, or a negative errno. */
  sendBatch(batch: PacketBatch, flags: number, start: number, timeoutMs: number): number {
    const { offload, handle, socket } = this.#owner;
    const { memory, capacity, slot, kinds } = storeOf(batch);
    const result = handle.sendBatch(memory, capacity, slot, start, batch.length, flags, timeoutMs, kinds);
    if (this.#merges) offload.noteRefused(handle.refusedOffload(), socket);
    return result;
  }

  stats(): SocketStats {
    const { handle, offload } = this.#owner;
    const counters = new Float64Array(15);
    handle.stats(counters);
    const direction = (at: number): DirectionStats => ({
      packets: counters[at] as number,
      bytes: counters[at + 1] as number,
      truncated: counters[at + 2] as number,
      wouldBlock: counters[at + 3] as number,
      errors: counters[at + 4] as number,
    });
    const [dropped, arrived] = [counters[5] as number, counters[14] as number];
    const { countsDrops, countsArrivals } = this.#owner;
    const kernel = { ...(countsDrops && { dropped }), ...(countsArrivals && { arrived }) };
    const stats: SocketStats = { received: { ...direction(0), ...kernel }, sent: direction(6) };
    if (this.#merges) {
      const [received, sent] = counters.subarray(12) as unknown as [number, number];
      stats.offload = { received, sent, refused: offload.refused };
    }
    return stats;
  }

  /** Makes `attempt` until it gives another result than EAGAIN; `first` is what one attempt has given already. */
  #blocking(
    syscall: string,
    flags: number,
    limit: number | undefined,
    first: number | undefined,
    attempt: (timeoutMs: number) => number,
  ): number {
    const waits = (flags & (MSG_DONTWAIT | MSG_ERRQUEUE)) === 0;
    const slice = Math.min(limit ?? WAIT_SLICE_MS, WAIT_SLICE_MS);
    let result = first ?? attempt(waits ? slice : 0);
    // The first attempt has waited for a slice.
    const deadline = limit === undefined ? Number.POSITIVE_INFINITY : performance.now() + limit - slice;
    while (result === EAGAIN && waits) {
      const left = deadline - performance.now();
      if (left <= 0) break;
      result = attempt(Math.min(WAIT_SLICE_MS, Math.ceil(left)));
    }
    if (this.#oneEvent) this.#passOn(flags);
    if (result < 0) throw this.#owner.ioError(result, syscall, flags);
    return result;
  }

  /** A call that has waited may have heard what the loop waits for. */
  #passOn(flags: number): void {
    if ((flags & MSG_DONTWAIT) === 0 && this.#handle.rearm()) this.#owner.again();
  }
}

/** One Uint8Array with bytes in it. */
function isOneView(data: PacketData): data is Uint8Array {
  return types.isUint8Array(data) && data.length > 0;
}

function areFlags(flags: number): boolean {
  return typeof flags === 'number' && (flags | 0) === flags && flags >= 0 && flags <= MAX_FLAGS;
}

/** What is behind the first `skipped` bytes. */
function viewsFrom(views: readonly Uint8Array[], skipped: number): Uint8Array[] {
  let left = skipped;
  return views.flatMap((view) => {
    const from = Math.min(left, view.length);
    left -= from;
    return from < view.length ? [view.subarray(from)] : [];
  });
}

/** The addon takes one view without an array around it. */
function single(views: readonly Uint8Array[]): Uint8Array | readonly Uint8Array[] {
  return views.length === 1 ? (views[0] as Uint8Array) : views;
}

/** What of the metadata comes with the packets of a socket. */
export function receivedKinds(link: number, offload: OffloadState): number {
  return link | (offload.mode === 'raw' && (link & META_DATAGRAM) === 0 ? META_OFFLOAD : 0);
}
