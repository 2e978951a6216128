import { appendTo, type PacketBatch, packedBatch, storeOf } from '../../packet/packet-batch';
import type { SendMeta } from '../../packet/packet-meta';
import { EAGAIN } from '../../support/io-errors';

/** Called once a packet has been sent, or has failed; never before send() has returned. */
export type SendCallback = (error: Error | null, bytes: number) => void;

/** Packets in one block, and bytes for them; a block has room for the largest packet besides. */
const BLOCK_PACKETS = 512;
const BLOCK_BYTES = 64 * 1024;

/** Blocks that are kept for the next packets when they are empty. */
const SPARE_BLOCKS = 2;

/** Packets that wait together: copies of what send() took, or a whole batch of the caller's. */
interface Block {
  batch: PacketBatch;
  /** In the order of the calls; the batch has the number of each packet's in `sizes`, since sending may reorder it. */
  callbacks: (SendCallback | undefined)[];
  /** The first packet that is not sent yet. */
  next: number;
  /** Of a batch that is the caller's. */
  whole?: WholeBatch;
}

/** A batch that its owner leaves alone until he hears of it. */
interface WholeBatch {
  /** As they were counted when it came: its owner might change it all the same. */
  packets: number;
  bytes: number;
  /** All of it is sent; or one packet failed, when `sent` had gone. */
  done(error: Error | null, sent: number): void;
}

/** What the queue needs of its socket. */
export interface SendQueueOwner {
  /** Sends packets from `start` on, waiting for room for the first: how many, or a negative errno when it did not go. */
  sendBatch(batch: PacketBatch, start: number, timeoutMs: number): number;
  /** The error of a packet that failed. */
  sendError(errno: number): Error;
  /** A packet without a callback failed. */
  failed(error: Error): void;
  /** All that had to wait has gone. */
  drained(): void;
}

/**
 * The packets that send() took and the kernel has not: bounded, in order, copied, so that a caller may change its buffer
 * at once. They cross into the kernel by the block, not one by one.
 */
export class SendQueue {
  /** Bytes waiting. */
  size = 0;
  /** Packets waiting. */
  count = 0;
  /** Whether the kernel had no room at the last try. */
  blocked = false;

  readonly #owner: SendQueueOwner;
  readonly #limit: number;
  readonly #blocks: Block[] = [];
  readonly #spare: Block[] = [];
  /** Memory of the blocks that packets are copied to. */
  #memory = 0;
  /** Whether somebody was told to wait. */
  #full = false;

  constructor(owner: SendQueueOwner, limit: number) {
    this.#owner = owner;
    this.#limit = limit;
  }

  /** Takes a packet of `size` bytes; false where it would go over the limit. */
  push(
    views: readonly Uint8Array[],
    size: number,
    meta: SendMeta | undefined,
    callback: SendCallback | undefined,
  ): boolean {
    if (this.size + size > this.#limit) return this.#refuse();
    let block = this.#blocks[this.#blocks.length - 1];
    let index = block === undefined || block.whole !== undefined ? -1 : appendTo(block.batch, views, size);
    if (index < 0) {
      block = this.#newBlock();
      if (block === undefined) return this.#refuse();
      index = appendTo(block.batch, views, size);
    }
    const { batch, callbacks } = block as Block;
    if (meta !== undefined) storeOf(batch).setMeta(index, meta, batch.length);
    batch.sizes[index] = callbacks.push(callback) - 1;
    this.size += size;
    this.count += 1;
    return true;
  }

  /** Takes a batch of the caller's, who leaves it alone until `done` is called, on a later tick. */
  pushBatch(batch: PacketBatch, done: WholeBatch['done']): void {
    const packets = batch.length;
    let bytes = 0;
    for (let index = 0; index < packets; index++) bytes += batch.lengths[index] as number;
    this.#blocks.push({ batch, callbacks: [], next: 0, whole: { packets, bytes, done } });
    this.size += bytes;
    this.count += packets;
  }

  /** Sends what the kernel takes, waiting `timeoutMs` for room at most. Callbacks run on the next tick. */
  flush(timeoutMs = 0): void {
    const waited = this.blocked || this.#full;
    this.blocked = false;
    for (let block = this.#blocks[0]; block !== undefined; block = this.#blocks[0]) {
      if (!this.#sendBlock(block, timeoutMs)) {
        this.blocked = true;
        return;
      }
      this.#blocks.shift();
      if (block.whole === undefined) this.#recycle(block);
    }
    this.#full = false;
    if (waited) this.#owner.drained();
  }

  /** Gives up what is left: each packet fails with `error`, as one that the kernel refused does. */
  abandon(error: Error): void {
    this.blocked = false;
    for (const block of this.#blocks.splice(0)) {
      const { batch, next, whole } = block;
      if (whole !== undefined) this.#finish(whole, error, next);
      else this.#settle(block, next, batch.length, error);
    }
    this.#spare.length = 0;
    this.size = 0;
    this.count = 0;
    this.#memory = 0;
  }

  #refuse(): false {
    this.#full = true;
    return false;
  }

  /** Whether all of a block has been dealt with; false when the kernel has no room for the rest. */
  #sendBlock(block: Block, timeoutMs: number): boolean {
    const { batch, whole } = block;
    while (block.next < batch.length) {
      const start = block.next;
      const sent = this.#owner.sendBatch(batch, start, timeoutMs);
      if (sent === EAGAIN) return false;
      const error = sent < 0 ? this.#owner.sendError(sent) : null;
      if (whole !== undefined && error !== null) {
        this.#finish(whole, error, start);
        return true;
      }
      // A packet that the kernel refuses takes only itself out of the queue.
      block.next = start + (error === null ? sent : 1);
      if (whole === undefined) this.#settle(block, start, block.next, error);
    }
    if (whole !== undefined) this.#finish(whole, null, block.next);
    return true;
  }

  #finish({ packets, bytes, done }: WholeBatch, error: Error | null, sent: number): void {
    this.size -= bytes;
    this.count -= packets;
    process.nextTick(done, error, sent);
  }

  #settle({ batch, callbacks }: Block, start: number, end: number, error: Error | null): void {
    this.count -= end - start;
    for (let index = start; index < end; index++) {
      const bytes = batch.lengths[index] as number;
      this.size -= bytes;
      const callback = callbacks[batch.sizes[index] as number];
      if (callback !== undefined) process.nextTick(callback, error, error === null ? bytes : 0);
      else if (error !== null) this.#owner.failed(error);
    }
  }

  /** A block for more packets; `undefined` where what is really held would go over the limit. */
  #newBlock(): Block | undefined {
    const spare = this.#spare.pop();
    if (spare === undefined && this.#memory > this.#limit) return undefined;
    const block = spare ?? { batch: packedBatch(BLOCK_PACKETS, BLOCK_BYTES), callbacks: [], next: 0 };
    this.#memory += storeOf(block.batch).memory.byteLength;
    this.#blocks.push(block);
    return block;
  }

  #recycle(block: Block): void {
    this.#memory -= storeOf(block.batch).memory.byteLength;
    block.batch.clear();
    block.callbacks.length = 0;
    block.next = 0;
    if (this.#spare.length < SPARE_BLOCKS) this.#spare.push(block);
  }
}
