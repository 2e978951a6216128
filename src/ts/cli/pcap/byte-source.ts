import { CommandError } from '../command';

/** A file that is no capture, or is damaged: says where. */
export class FormatError extends CommandError {
  constructor(what: string, offset: number) {
    super(`${what}, at byte ${offset} of the file`);
  }
}

/** Bytes of a stream, as many at a time as a reader asks for; it holds no more than that and one chunk. */
export class ByteSource {
  readonly #chunks: AsyncIterator<Uint8Array>;
  #pending: Buffer[] = [];
  #size = 0;
  /** Of the next byte, from the start. */
  offset = 0;

  constructor(chunks: AsyncIterable<Uint8Array>) {
    this.#chunks = chunks[Symbol.asyncIterator]();
  }

  /** Exactly `count` bytes; undefined where the stream ends before the first. @throws FormatError where it ends within them. */
  async take(count: number): Promise<Buffer | undefined> {
    while (this.#size < count) {
      const { value, done } = await this.#chunks.next();
      if (done === true) {
        if (this.#size === 0) return undefined;
        throw new FormatError(
          `the file ends within a record (${this.#size} of ${count} bytes are there)`,
          this.offset,
        );
      }
      this.#pending.push(Buffer.from(value.buffer, value.byteOffset, value.byteLength));
      this.#size += value.byteLength;
    }
    const all = this.#pending.length === 1 ? (this.#pending[0] as Buffer) : Buffer.concat(this.#pending);
    const rest = all.subarray(count);
    this.#pending = rest.length === 0 ? [] : [rest];
    this.#size = rest.length;
    this.offset += count;
    return all.subarray(0, count);
  }

  /** As take(), of bytes that must be there. */
  async need(count: number): Promise<Buffer> {
    const bytes = await this.take(count);
    if (bytes === undefined) throw new FormatError('the file ends within a record', this.offset);
    return bytes;
  }
}
