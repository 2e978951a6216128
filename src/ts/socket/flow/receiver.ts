import type { SocketHandle } from '../../native';
import { filled, type PacketBatch, storeOf } from '../../packet/packet-batch';
import { MSG_DONTWAIT } from '../../support/constants';
import { Deferred } from '../../support/deferred';
import type { OffloadMode } from '../../support/types';
import { aheadInbox, type OpenBatch, type OwnedPacket, PacketOwner, sharedInbox, wakeUpLimit } from './inbox';

/** Packets that receive() may take without waiting, before other work of the loop has its turn. */
const MAX_DIRECT = 64;

/** Listeners get so many packets of a wake-up whatever they take; from then on the clock is looked at. */
const MIN_DELIVERED = 32;
const CLOCK_EVERY = 8;
/** How long a wake-up may deliver, in milliseconds: what is left comes in the next turn of the loop. */
const MAX_DELIVERING_MS = 1;

/** Who waits in receive(). */
export interface Waiting {
  resolve(owned: OwnedPacket): void;
  reject(error: Error): void;
}

/** What the receiver needs of its socket. */
export interface ReceiverOwner {
  readonly handle: SocketHandle;
  readonly closed: boolean;
  readonly offload: OffloadMode;
  /** What of the metadata means anything. */
  readonly kinds: number;
  /** Whether 'message' and 'batch' have listeners. */
  hears(event: 'message' | 'batch'): boolean;
  emitBatch(batch: PacketBatch): void;
  emitMessage(packet: OwnedPacket['packet'], info: OwnedPacket['info']): void;
  /** What is waited for has changed. */
  changed(): void;
}

/**
 * Who gets the packets: first the receive() calls that wait, in their order, then 'message' listeners; 'batch' listeners see all of a
 * wake-up before. What nobody takes goes back below, where every kind of receive call finds it: before any of them looks for a packet,
 * settle() puts back what is up here, so that each gets the next one in order, also inside a listener.
 */
export class Receiver {
  readonly #owner: ReceiverOwner;
  readonly #waiting: Waiting[] = [];
  readonly #packets = new PacketOwner();
  #open: OpenBatch | undefined;
  #ahead: PacketBatch | undefined;
  #paused = false;
  /** Packets that receive() has taken without waiting since the loop had its turn. */
  #direct = 0;
  /** A turn of the loop of its own for what no poll shows, and for receive() calls that have had their share. */
  readonly #nextTurn = new Deferred(setImmediate, () => this.#turn());

  constructor(owner: ReceiverOwner) {
    this.#owner = owner;
  }

  get paused(): boolean {
    return this.#paused;
  }
  set paused(paused: boolean) {
    this.#paused = paused;
    this.#owner.changed();
  }

  /** How many receive() calls wait. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** Whether packets go to listeners. */
  get flowing(): boolean {
    return !this.#paused && (this.#owner.hears('message') || this.#owner.hears('batch'));
  }

  /** Whether anybody waits for packets. */
  get reading(): boolean {
    return this.flowing || this.#waiting.length > 0;
  }

  /** Packets that a wake-up reads into the shared inbox; 0 where receive() calls take them themselves. */
  get limit(): number {
    return this.flowing ? wakeUpLimit(this.#owner.offload) : 0;
  }

  /** A wake-up has read `count` packets into the shared inbox; or with none there is something for who waits. */
  deliver(count: number): void {
    this.#direct = 0;
    if (count === 0) {
      this.#serve();
      return;
    }
    const batch = sharedInbox();
    filled(batch, count, this.#owner.kinds);
    const open: OpenBatch = { batch, next: 0, end: count };
    // Read ahead by an earlier receive(), and so older.
    const ahead = this.#open;
    this.#open = open;
    if (ahead !== undefined) {
      this.settle();
      this.#open = ahead;
      this.settle();
      return;
    }
    try {
      if (this.flowing && this.#owner.hears('batch')) {
        // Listeners of both kinds get all packets. A receive call in a 'batch' listener gets what comes behind the batch.
        const forMessages = this.#waiting.length > 0 || this.#owner.hears('message');
        this.#open = undefined;
        this.#owner.emitBatch(batch);
        if (!forMessages) open.next = open.end;
        if (open.next < open.end && this.#open === undefined) this.#open = open;
      }
      this.#handOut(open);
    } finally {
      this.#putBackRest(open);
    }
  }

  /** Puts back what is up here: called before any receive call looks for a packet. */
  settle(): void {
    const open = this.#open;
    if (open === undefined) return;
    this.#open = undefined;
    const { next, end } = open;
    open.next = end;
    if (next < end && !this.#owner.closed) {
      const { memory, capacity, slot } = storeOf(open.batch);
      this.#owner.handle.putBack(memory, capacity, slot, next, end);
    }
  }

  /** The next packet, if one is there already. Not for ever, so that other work has its turn. */
  take(): OwnedPacket | undefined {
    if (this.#waiting.length > 0 || this.#direct >= MAX_DIRECT) return undefined;
    const owned = this.#takeNext();
    if (owned !== undefined) this.#direct += 1;
    if (this.attention) this.attend();
    return owned;
  }

  /** Waits in line for a packet. Returns what takes that back. */
  wait(waiting: Waiting): () => void {
    this.#waiting.push(waiting);
    if (this.#direct >= MAX_DIRECT) this.#nextTurn.request();
    this.#owner.changed();
    return () => {
      const index = this.#waiting.indexOf(waiting);
      if (index < 0) return;
      this.#waiting.splice(index, 1);
      this.#owner.changed();
    };
  }

  /** A call took packets, or the watch found something that no poll shows: who waits is served on the next turn of the loop. */
  attend(): void {
    this.#nextTurn.request();
  }

  /** Whether there is something for who waits that no poll shows. */
  get attention(): boolean {
    return this.reading && !this.#owner.closed && this.#owner.handle.held() > 0;
  }

  /** Gives up: those who wait get `error`. */
  abandon(error: Error): void {
    this.#open = undefined;
    for (const { reject } of this.#waiting.splice(0)) reject(error);
  }

  #turn(): void {
    if (this.#owner.closed) return;
    this.#direct = 0;
    // For packets, and as well for room to send: the handle knows what is waited for.
    this.#owner.handle.turn();
  }

  /** Hands packets to the receive() calls that wait. */
  #serve(): void {
    let served = 0;
    while (this.#waiting.length > 0 && !this.#owner.closed && served < MAX_DIRECT) {
      const owned = this.#takeNext();
      if (owned === undefined) break;
      this.#waiting.shift()?.resolve(owned);
      served += 1;
    }
    if (served > 0) this.#owner.changed();
    if (served === MAX_DIRECT && this.#waiting.length > 0) this.#nextTurn.request();
  }

  #takeNext(): OwnedPacket | undefined {
    const open = this.#open ?? this.#readAhead();
    if (open === undefined) return undefined;
    const owned = this.#packets.next(open);
    if (open.next === open.end) this.#open = undefined;
    return owned;
  }

  /** Where listeners or calls may come in between, packets are not read ahead, lest they be put back one by one. */
  #readAhead(): OpenBatch | undefined {
    this.#ahead ??= aheadInbox();
    const batch = this.#ahead;
    const { memory, capacity, slot } = storeOf(batch);
    const most = this.flowing ? 1 : capacity;
    const received = this.#owner.handle.receiveBatch(memory, capacity, slot, most, MSG_DONTWAIT, 0);
    // An error shows at the wake-up too.
    if (received <= 0) return undefined;
    filled(batch, received, this.#owner.kinds);
    this.#open = { batch, next: 0, end: received };
    return this.#open;
  }

  #handOut(open: OpenBatch): void {
    let deadline = 0;
    for (let count = 0; open.next < open.end && !this.#owner.closed; count++) {
      if (count >= MIN_DELIVERED && count % CLOCK_EVERY === 0) {
        const now = performance.now();
        if (deadline === 0) deadline = now + MAX_DELIVERING_MS;
        else if (now > deadline) return;
      }
      const waiting = this.#waiting.shift();
      if (waiting === undefined && !(this.flowing && this.#owner.hears('message'))) return;
      const owned = this.#packets.next(open);
      if (waiting !== undefined) {
        waiting.resolve(owned);
        this.#owner.changed();
      } else {
        this.#owner.emitMessage(owned.packet, owned.info);
      }
    }
  }

  /** Nobody took them: the listener is gone, the socket is paused, a listener threw, or time is up. */
  #putBackRest(open: OpenBatch): void {
    if (this.#open !== open && open.next < open.end) {
      this.settle(); // what was read after them
      this.#open = open;
    }
    if (this.#open === open) this.settle();
  }
}
