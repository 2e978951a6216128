/** Superpackets in fragments: cut into one buffer for UDP_SEGMENT, and put together again. */
import { HEADER_BYTES, type Header, SUPERPACKET, writeHeader } from './session';

/** Superpackets that may be incomplete at a time: so much memory (each has up to 64 kB) and no more is had by whoever sends. */
const MAX_INCOMPLETE = 8;
const MAX_BYTES = 66_000;

/** One of several messages for the kernel: datagrams of one length behind one another, the last one may be shorter. */
export interface Run {
  bytes: Buffer;
  segmentSize: number;
}

/** Lays sealed bytes out as datagrams of `datagram` bytes with a header each, in as few messages as may be. */
export class FragmentWriter {
  readonly #room = Buffer.alloc(2 * MAX_BYTES);

  *runs(sealed: readonly Buffer[], datagram: number, receiver: number, counter: number): Generator<Run> {
    const payload = datagram - HEADER_BYTES;
    const total = sealed.reduce((sum, part) => sum + part.length, 0);
    const fragments = Math.ceil(total / payload);
    const inRun = Math.min(64, Math.floor(65_000 / datagram));
    const header: Header = { type: SUPERPACKET, fragment: 0, fragments, receiver, counter };
    let part = 0;
    let from = 0;
    let at = 0;
    for (; header.fragment < fragments; header.fragment++) {
      writeHeader(this.#room, at, header);
      at += HEADER_BYTES;
      const end = at + Math.min(payload, total - header.fragment * payload);
      while (at < end) {
        const bytes = sealed[part] as Buffer;
        const copied = bytes.copy(this.#room, at, from, from + end - at);
        at += copied;
        from += copied;
        if (from === bytes.length) {
          part += 1;
          from = 0;
        }
      }
      if ((header.fragment + 1) % inRun === 0 || header.fragment + 1 === fragments) {
        yield { bytes: this.#room.subarray(0, at), segmentSize: datagram };
        at = 0;
      }
    }
  }
}

interface Incomplete {
  /** The bytes of every fragment but the last; 0 while none of them is here. */
  payload: number;
  room: Buffer;
  /** Which ones are here. */
  here: Uint8Array;
  missing: number;
  /** The last one, which alone doesn't say where it belongs. */
  tail: Buffer;
}

/** Puts fragments together, in any order. Nothing of them is known to be true before the whole is opened. */
export class FragmentReader {
  readonly #incomplete = new Map<string, Incomplete>();
  readonly #spare: Buffer[] = [];

  /** The sealed bytes, when this was the last one that was missing; valid until the next call. */
  add({ receiver, counter, fragment, fragments }: Header, payload: Buffer): Buffer | undefined {
    if (fragment >= fragments || payload.length === 0 || payload.length * fragments > 2 * MAX_BYTES)
      return undefined;
    if (fragments === 1) return payload;
    const key = `${receiver} ${counter}`;
    const entry = this.#incomplete.get(key) ?? this.#begin(key, fragments);
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
    this.#incomplete.delete(key);
    this.#spare.push(entry.room);
    const end = (fragments - 1) * entry.payload;
    if (end + entry.tail.length > entry.room.length) return undefined;
    entry.tail.copy(entry.room, end);
    return entry.room.subarray(0, end + entry.tail.length);
  }

  #begin(key: string, fragments: number): Incomplete {
    if (this.#incomplete.size === MAX_INCOMPLETE) this.#giveUpOldest();
    const entry: Incomplete = {
      payload: 0,
      room: this.#spare.pop() ?? Buffer.alloc(2 * MAX_BYTES),
      here: new Uint8Array(fragments),
      missing: fragments,
      tail: Buffer.alloc(0),
    };
    this.#incomplete.set(key, entry);
    return entry;
  }

  #giveUpOldest(): void {
    for (const [key, { room }] of this.#incomplete) {
      this.#incomplete.delete(key);
      this.#spare.push(room);
      return;
    }
  }
}
