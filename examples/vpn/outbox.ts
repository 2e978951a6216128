/** Datagrams on their way out: those of one length lie behind one another and cross into the kernel as one message, which it cuts (UDP_SEGMENT). */
import { HEADER_BYTES, type Header, writeHeader } from './session';

/** The most that a message can have over IPv4. */
const MAX_BYTES = 65_507;
const MAX_DATAGRAMS = 64;

/** Sends a message; with `segmentSize` it is several datagrams of that length, of which the last may be shorter. */
type Send = (message: Buffer, segmentSize: number | undefined) => void;

/** Bytes that lie in several parts, taken one piece behind the other. */
export class Parts {
  readonly #parts: readonly Buffer[];
  /** Bytes that have not been taken. */
  length: number;
  #part = 0;
  #from = 0;

  constructor(parts: readonly Buffer[]) {
    this.#parts = parts;
    this.length = parts.reduce((sum, part) => sum + part.length, 0);
  }

  copy(into: Buffer, at: number, length: number): void {
    const end = at + length;
    for (let to = at; to < end; ) {
      const part = this.#parts[this.#part] as Buffer;
      const copied = part.copy(into, to, this.#from, this.#from + end - to);
      to += copied;
      this.#from += copied;
      if (this.#from < part.length) continue;
      this.#part += 1;
      this.#from = 0;
    }
    this.length -= length;
  }
}

export class Outbox {
  readonly #send: Send;
  readonly #room = Buffer.alloc(MAX_BYTES);
  #length = 0;
  #datagrams = 0;
  /** Bytes of every datagram that is in it, but for one that was shorter, behind which nothing has room. */
  #segmentSize = 0;
  #full = false;

  constructor(send: Send) {
    this.#send = send;
  }

  /** A datagram: a header, and behind it the next `length` bytes of `payload`. */
  push(header: Header, payload: Parts, length: number): void {
    const size = HEADER_BYTES + length;
    if (this.#full || size > this.#segmentSize || this.#length + size > MAX_BYTES) this.flush();
    if (this.#datagrams === 0) this.#segmentSize = size;
    writeHeader(this.#room, this.#length, header);
    payload.copy(this.#room, this.#length + HEADER_BYTES, length);
    this.#length += size;
    this.#datagrams += 1;
    this.#full = size < this.#segmentSize || this.#datagrams === MAX_DATAGRAMS;
  }

  flush(): void {
    if (this.#datagrams === 0) return;
    const message = this.#room.subarray(0, this.#length);
    const segmentSize = this.#datagrams > 1 ? this.#segmentSize : undefined;
    this.#length = 0;
    this.#datagrams = 0;
    this.#full = false;
    this.#segmentSize = 0;
    this.#send(message, segmentSize);
  }
}
