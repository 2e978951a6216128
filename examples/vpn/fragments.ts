/** Superpackets in fragments, which are put together again. */
import { HEADER_BYTES, type Header, SUPERPACKET } from './session';

/** Superpackets that may be incomplete at a time: so much memory (each has up to 64 kB) and no more is had by whoever sends. */
const MAX_INCOMPLETE = 8;
const MAX_BYTES = 66_000;

interface Incomplete {
  receiver: number;
  counter: number;
  /** The bytes of every fragment but the last; 0 while none of them is here. */
  payload: number;
  room: Buffer;
  /** Which ones are here. */
  here: Uint8Array;
  missing: number;
  /** The last one, which alone doesn't say where it belongs. */
  tail: Buffer;
}

/** Whether a message of several datagrams is a whole superpacket: all of its fragments, in order. It mostly is. */
export function isWholeSuperpacket(message: Buffer, segmentSize: number): boolean {
  const count = Math.ceil(message.length / segmentSize);
  const last = message.length - (count - 1) * segmentSize;
  if (!(count > 1) || last <= HEADER_BYTES || message[0] !== SUPERPACKET || message[2] !== count)
    return false;
  for (let fragment = 0, at = 0; fragment < count; fragment++, at += segmentSize) {
    if (message[at + 1] !== fragment) return false;
    for (let byte = 0; byte < HEADER_BYTES; byte++) {
      if (byte !== 1 && message[at + byte] !== message[byte]) return false;
    }
  }
  return true;
}

/** The sealed bytes of such a message, which are moved together to where it starts: they need no memory of their own. */
export function joined(message: Buffer, segmentSize: number): Buffer {
  let end = 0;
  for (let at = 0; at < message.length; at += segmentSize) {
    const next = Math.min(at + segmentSize, message.length);
    message.copyWithin(end, at + HEADER_BYTES, next);
    end += next - at - HEADER_BYTES;
  }
  return message.subarray(0, end);
}

/** Puts fragments together, in any order. Nothing of them is known to be true before the whole is opened. */
export class FragmentReader {
  readonly #incomplete = new Map<string, Incomplete>();
  readonly #spare: Buffer[] = [];
  /** Fragments mostly come one after the other. */
  #last: Incomplete | undefined;

  /** The sealed bytes, when this was the last one that was missing; valid until the next call. */
  add({ receiver, counter, fragment, fragments }: Header, payload: Buffer): Buffer | undefined {
    if (fragment >= fragments || payload.length === 0 || payload.length * fragments > 2 * MAX_BYTES)
      return undefined;
    if (fragments === 1) return payload;
    const entry = this.#find(receiver, counter, fragments);
    if (entry.here.length !== fragments || entry.here[fragment] === 1) return undefined;
    if (fragment === fragments - 1) {
      entry.tail = Buffer.from(payload);
    } else {
      if (entry.payload !== 0 && entry.payload !== payload.length) return undefined;
      if (payload.length * (fragments - 1) > MAX_BYTES) return undefined;
      entry.payload = payload.length;
      payload.copy(entry.room, fragment * payload.length);
    }
    entry.here[fragment] = 1;
    entry.missing -= 1;
    if (entry.missing > 0) return undefined;
    this.#giveUp(entry);
    const end = (fragments - 1) * entry.payload;
    if (end + entry.tail.length > entry.room.length) return undefined;
    entry.tail.copy(entry.room, end);
    return entry.room.subarray(0, end + entry.tail.length);
  }

  #find(receiver: number, counter: number, fragments: number): Incomplete {
    const last = this.#last;
    if (last?.counter === counter && last.receiver === receiver) return last;
    this.#last = this.#incomplete.get(keyOf(receiver, counter)) ?? this.#begin(receiver, counter, fragments);
    return this.#last;
  }

  #begin(receiver: number, counter: number, fragments: number): Incomplete {
    const [oldest] = this.#incomplete.values();
    if (oldest !== undefined && this.#incomplete.size === MAX_INCOMPLETE) this.#giveUp(oldest);
    const entry: Incomplete = {
      receiver,
      counter,
      payload: 0,
      room: this.#spare.pop() ?? Buffer.alloc(2 * MAX_BYTES),
      here: new Uint8Array(fragments),
      missing: fragments,
      tail: Buffer.alloc(0),
    };
    this.#incomplete.set(keyOf(receiver, counter), entry);
    return entry;
  }

  #giveUp(entry: Incomplete): void {
    this.#incomplete.delete(keyOf(entry.receiver, entry.counter));
    this.#spare.push(entry.room);
    if (this.#last === entry) this.#last = undefined;
  }
}

function keyOf(receiver: number, counter: number): string {
  return `${receiver} ${counter}`;
}
