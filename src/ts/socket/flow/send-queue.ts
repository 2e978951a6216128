import { PacketBatch } from '../../packet/packet-batch';
import { EAGAIN } from '../../support/io-errors';

/** Called once a packet has been sent, or has failed; never before send() has returned. */
export type SendCallback = (error: Error | null, bytes: number) => void;

/** Packets in one block, and bytes for them; a block has room for the largest packet besides. */
const BLOCK_PACKETS = 128;
const BLOCK_BYTES = 128 * 1024;

interface Block {
  batch: PacketBatch;
  /** In the order of the calls; the batch has the number of each packet's in `sizes`, since sending may reorder it. */
  callbacks: (SendCallback | undefined)[];
  /** The first packet that is not sent yet. */
  next: number;
}

function callbackOf({ batch, callbacks }: Block, index: number): SendCallback | undefined {
  return callbacks[batch.sizes[index] as number];
}

/** What the queue needs of its socket. */
export interface SendQueueOwner {
  /** Sends packets from `start` on, waiting for room for the first: how many, or a negative errno when it did not go. */
  sendBatch(batch: PacketBatch, start: number, timeoutMs: number): number;
  /** The error of a packet that failed. */
  sendError(errno: number): Error;
  /** A packet without a callback failed. */
  failed(error: Error): void;
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
  #spare: Block | undefined;

  constructor(owner: SendQueueOwner, limit: number) {
    this.#owner = owner;
    this.#limit = limit;
  }

  /** Takes a packet of `size` bytes; false where it would go over the limit. */
  push(
    views: readonly Uint8Array[],
    size: number,
    header: Uint8Array | undefined,
    callback: SendCallback | undefined,
  ): boolean {
    if (this.size + size > this.#limit) return false;
    let block = this.#blocks[this.#blocks.length - 1];
    let index = block?.batch.append(views, size) ?? -1;
    if (block === undefined || index < 0) {
      block = this.#newBlock();
      index = block.batch.append(views, size);
    }
    if (header !== undefined) block.batch.setHeader(index, header);
    block.batch.sizes[index] = block.callbacks.push(callback) - 1;
    this.size += size;
    this.count += 1;
    return true;
  }

  /** Sends what the kernel takes, waiting `timeoutMs` for room at most. Callbacks run on the next tick. */
  flush(timeoutMs = 0): void {
    this.blocked = false;
    for (let block = this.#blocks[0]; block !== undefined; block = this.#blocks[0]) {
      if (!this.#sendBlock(block, timeoutMs)) {
        this.blocked = true;
        return;
      }
      this.#blocks.shift();
      block.batch.clear();
      block.callbacks.length = 0;
      block.next = 0;
      this.#spare = block;
    }
  }

  /** Gives up what is left: each packet fails with `error`. */
  abandon(error: Error): void {
    this.blocked = false;
    for (const block of this.#blocks.splice(0)) {
      for (let index = block.next; index < block.batch.length; index++) {
        const callback = callbackOf(block, index);
        if (callback !== undefined) process.nextTick(callback, error, 0);
      }
    }
    this.size = 0;
    this.count = 0;
  }

  /** Whether all of a block has been dealt with; false when the kernel has no room for the rest. */
  #sendBlock(block: Block, timeoutMs: number): boolean {
    const { batch } = block;
    while (block.next < batch.length) {
      const start = block.next;
      const sent = this.#owner.sendBatch(batch, start, timeoutMs);
      if (sent === EAGAIN) return false;
      // A packet that the kernel refuses takes only itself out of the queue.
      const error = sent < 0 ? this.#owner.sendError(sent) : null;
      block.next = start + (error === null ? sent : 1);
      this.#settle(block, start, block.next, error);
    }
    return true;
  }

  #settle(block: Block, start: number, end: number, error: Error | null): void {
    for (let index = start; index < end; index++) {
      const bytes = block.batch.lengths[index] as number;
      const callback = callbackOf(block, index);
      this.size -= bytes;
      this.count -= 1;
      if (callback !== undefined) process.nextTick(callback, error, error === null ? bytes : 0);
      else if (error !== null) this.#owner.failed(error);
    }
  }

  #newBlock(): Block {
    const block = this.#spare ?? {
      batch: PacketBatch.packed(BLOCK_PACKETS, BLOCK_BYTES),
      callbacks: [],
      next: 0,
    };
    this.#spare = undefined;
    this.#blocks.push(block);
    return block;
  }
}
