import type { PacketBatch } from '../../packet/packet-batch';
import { Deferred } from '../../support/deferred';
import { abortError } from '../../support/errors';
import type { MessageInfo } from '../../support/types';
import { type OwnedPacket, refill } from './inbox';

interface Waiting {
  resolve(packet: Buffer): void;
  reject(error: Error): void;
  cleanUp(): void;
}

/** What the queue needs of its socket. */
export interface ReceiveQueueOwner {
  readonly closed: boolean;
  /** Whether packets go to 'message' listeners now. */
  readonly flowing: boolean;
  emitMessage(packet: Buffer, info: MessageInfo): void;
  /** What is waited for has changed. */
  changed(): void;
}

/**
 * Who gets the packets that came in: first the receive() calls that wait, in their order, then 'message' listeners. Packets
 * without a taker, because the socket was paused in between or a listener threw, are kept, and come first next time.
 */
export class ReceiveQueue {
  readonly #owner: ReceiveQueueOwner;
  readonly #waiting: Waiting[] = [];
  #kept: OwnedPacket[] = [];
  readonly #deliveringKept = new Deferred(setImmediate, () => {
    if (!this.#owner.closed && (this.#owner.flowing || this.#waiting.length > 0)) this.deliver([]);
  });

  constructor(owner: ReceiveQueueOwner) {
    this.#owner = owner;
  }

  /** How many receive() calls wait. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** The first kept packet; with `peek` it stays the first. */
  take(peek = false): OwnedPacket | undefined {
    return peek ? this.#kept[0] : this.#kept.shift();
  }

  /** Moves kept packets into `batch`; returns how many. */
  takeBatch(batch: PacketBatch): number {
    return refill(batch, this.#kept);
  }

  /** Waits in line for a packet. */
  wait(signal: AbortSignal | undefined): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      const onAbort = () => {
        this.#waiting.splice(this.#waiting.indexOf(waiting), 1);
        this.#owner.changed();
        reject(abortError(signal as AbortSignal));
      };
      const cleanUp = () => signal?.removeEventListener('abort', onAbort);
      const waiting: Waiting = { resolve, reject, cleanUp };
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#waiting.push(waiting);
      this.#owner.changed();
    });
  }

  /** Hands packets out, after those that are kept. */
  deliver(packets: OwnedPacket[]): void {
    const all = this.#kept.length > 0 ? this.#kept.concat(packets) : packets;
    this.#kept = [];
    let next = 0;
    try {
      while (next < all.length && !this.#owner.closed) {
        const waiting = this.#waiting.shift();
        if (waiting === undefined && !this.#owner.flowing) break;
        const { packet, info } = all[next] as OwnedPacket;
        next += 1;
        if (waiting === undefined) {
          this.#owner.emitMessage(packet, info);
        } else {
          waiting.cleanUp();
          waiting.resolve(packet);
        }
      }
    } finally {
      if (next < all.length && !this.#owner.closed) {
        this.#kept = all.slice(next).concat(this.#kept);
        this.deliverKept();
      }
    }
  }

  /** Hands kept packets out on a later turn of the loop, if somebody takes them then. */
  deliverKept(): void {
    if (this.#kept.length > 0) this.#deliveringKept.request();
  }

  /** Gives up: those who wait get `error`. */
  abandon(error: Error): void {
    this.#kept = [];
    for (const waiting of this.#waiting.splice(0)) {
      waiting.cleanUp();
      waiting.reject(error);
    }
  }
}
