import { invalidArgType, outOfRange } from '../support/errors';
import { integer, knownOptions, optionsObject } from '../support/options';
import type { MessageInfo, PacketData, SendOptions } from '../support/types';
import { META_BYTES, META_OFFLOAD, type Metadata, messageInfo } from './message-info';
import { HEADER_BYTES, offloadHeader } from './offload';
import { packetViews } from './packet-data';

/** The layout that src/native/core/io/batch.h maps: metadata, columns of words, and from a multiple of 64 the slab. */
const COLUMNS = 5;
const SLAB_ALIGNMENT = 64;
/** Room behind the last slot: a packet that is longer than its slot is read whole, to learn its length. */
const TAIL_BYTES = 65536 + 64;
const PACKED_ALIGNMENT = 16;
const MAX_CAPACITY = 65536;
const MAX_PACKET_SIZE = 1 << 20;

export interface PacketBatchOptions {
  /** The most packets that it holds: 1 to 65536. Default 64. */
  capacity?: number;
  /** The most bytes of each packet: 1 to 1048576. Default 2048; superpackets of a socket with `offload: 'raw'` have up to 65535, beside a link header. */
  packetSize?: number;
}

/**
 * Room for many packets in one piece of memory, allocated once: a slab with a slot of `packetSize` bytes for each packet.
 * recvmmsg() fills it, sendmmsg() sends it, and neither allocates anything.
 */
export class PacketBatch implements Iterable<Buffer> {
  /** The most packets that it holds. */
  readonly capacity: number;
  /** Bytes in each packet's slot; a longer packet is cut, and marked with MSG_TRUNC. */
  readonly packetSize: number;
  /** The slab: packet `i` is at `offsets[i]`, and `lengths[i]` bytes long. */
  readonly buffer: Buffer;
  /** Where each packet starts in `buffer`. */
  readonly offsets: Uint32Array;
  /** The bytes of each packet that are in `buffer`. */
  readonly lengths: Uint32Array;
  /** The true length of each packet. */
  readonly sizes: Uint32Array;
  /** MSG_TRUNC for each packet that was cut, else 0. */
  readonly flags: Uint32Array;
  /** The EtherType of each received packet; 0 where it can't be told. */
  readonly protocols: Uint32Array;
  /** How many packets are in it: 0 to `capacity`. */
  length = 0;

  /** @internal All of it, for the addon. */
  readonly memory: ArrayBuffer;
  /** @internal What of the metadata means anything: META_LINK, META_OFFLOAD. */
  metadata = 0;
  /** @internal The slot's size as the addon knows it: 0 where packets lie one behind another. */
  readonly slot: number;

  /**
   * @throws RangeError `ERR_OUT_OF_RANGE` for a capacity or packet size out of range, or more memory than there can be.
   */
  constructor(options?: PacketBatchOptions) {
    const given = optionsObject('options', options);
    knownOptions('options', given, ['capacity', 'packetSize', 'packedBytes']);
    this.capacity = integer('options.capacity', given.capacity ?? 64, 1, MAX_CAPACITY);
    const packedBytes = given.packedBytes as number | undefined;
    this.packetSize =
      packedBytes ?? integer('options.packetSize', given.packetSize ?? 2048, 1, MAX_PACKET_SIZE);
    this.slot = packedBytes === undefined ? this.packetSize : 0;

    const columnsAt = this.capacity * META_BYTES;
    const columnBytes = this.capacity * Uint32Array.BYTES_PER_ELEMENT;
    const slabAt = Math.ceil((columnsAt + COLUMNS * columnBytes) / SLAB_ALIGNMENT) * SLAB_ALIGNMENT;
    const slabBytes = packedBytes ?? this.capacity * this.packetSize;
    this.memory = new ArrayBuffer(slabAt + slabBytes + TAIL_BYTES);
    const column = (index: number) =>
      new Uint32Array(this.memory, columnsAt + index * columnBytes, this.capacity);
    this.offsets = column(0);
    this.lengths = column(1);
    this.sizes = column(2);
    this.flags = column(3);
    this.protocols = column(4);
    this.buffer = Buffer.from(
      this.memory,
      slabAt,
      packedBytes === undefined ? slabBytes : slabBytes + TAIL_BYTES,
    );
  }

  /** @internal A batch in which packets lie one behind another and are never cut: room for `bytes` bytes of them. */
  static packed(capacity: number, bytes: number): PacketBatch {
    return new PacketBatch({ capacity, packedBytes: bytes } as PacketBatchOptions);
  }

  /**
   * Packet `index`, as a view of the batch's memory: it changes when the batch is filled anew.
   *
   * @throws RangeError `ERR_OUT_OF_RANGE` unless 0 <= index < length.
   */
  at(index: number): Buffer {
    integer('index', index, 0, this.length - 1);
    const offset = this.offsets[index] as number;
    return this.buffer.subarray(offset, offset + (this.lengths[index] as number));
  }

  /**
   * What is known of packet `index` beside its bytes. It stays as it is when the batch is filled anew.
   *
   * @throws RangeError `ERR_OUT_OF_RANGE` unless 0 <= index < length.
   */
  info(index: number): MessageInfo {
    integer('index', index, 0, this.length - 1);
    return this.infoWith(index, this.copyMeta(index, 1), 0);
  }

  /** @internal The metadata of `count` packets, where there is any. */
  copyMeta(first: number, count: number): Metadata | undefined {
    if (this.metadata === 0) return undefined;
    const view = new DataView(this.memory.slice(first * META_BYTES, (first + count) * META_BYTES));
    return { view, kinds: this.metadata };
  }

  /** @internal What is known of packet `index`, with its metadata at `at` of `meta`. */
  infoWith(index: number, meta: Metadata | undefined, at: number): MessageInfo {
    return messageInfo(
      this.sizes[index] as number,
      this.lengths[index] as number,
      this.flags[index] as number,
      this.protocols[index] as number,
      meta,
      at,
    );
  }

  /** @internal A socket has filled it. */
  filled(length: number, metadata: number): void {
    this.length = length;
    this.metadata = metadata;
  }

  /**
   * Copies a packet into the next slot; several views are gathered into one packet. `options.offload` says what is still to be done to
   * it, for a socket with `offload`.
   *
   * @returns the packet's index.
   * @throws RangeError `ERR_OUT_OF_RANGE` when the batch is full, or the packet is longer than `packetSize`.
   */
  push(packet: PacketData, options?: SendOptions): number {
    const views = packetViews('packet', packet);
    const header = offloadHeader(options);
    let size = 0;
    for (const view of views) size += view.byteLength;
    if (size > this.packetSize) {
      throw outOfRange('packet', `at most ${this.packetSize} bytes long, the batch's packetSize`, size);
    }
    const index = this.append(views, size);
    if (index < 0)
      throw outOfRange('packet', `pushed into a batch that has room (capacity ${this.capacity})`, index);
    if (header !== undefined) this.setHeader(index, header);
    return index;
  }

  /** @internal Copies `size` bytes of `views` in as the next packet; returns its index, or -1 where there is no room. */
  append(views: readonly Uint8Array[], size: number): number {
    const index = this.length;
    if (index >= this.capacity) return -1;
    const offset = this.slot !== 0 ? index * this.slot : this.#packedEnd(index);
    if (offset + size > this.buffer.length) return -1;
    let at = offset;
    for (const view of views) {
      this.buffer.set(view, at);
      at += view.byteLength;
    }
    this.offsets[index] = offset;
    this.lengths[index] = size;
    this.sizes[index] = size;
    this.flags[index] = 0;
    this.protocols[index] = 0;
    if (this.metadata !== 0) new Uint8Array(this.memory, index * META_BYTES, META_BYTES).fill(0);
    this.length = index + 1;
    return index;
  }

  /** @internal Gives packet `index` a virtio header. */
  setHeader(index: number, header: Uint8Array): void {
    const headerOf = (packet: number) => new Uint8Array(this.memory, packet * META_BYTES, HEADER_BYTES);
    if ((this.metadata & META_OFFLOAD) === 0) {
      for (let packet = 0; packet < this.length; packet++) headerOf(packet).fill(0);
      this.metadata |= META_OFFLOAD;
    }
    headerOf(index).set(header);
  }

  /** Forgets all packets. */
  clear(): void {
    this.filled(0, 0);
  }

  /** The packets in order, each as `at()` gives it. */
  *[Symbol.iterator](): Iterator<Buffer> {
    for (let index = 0; index < this.length; index++) yield this.at(index);
  }

  #packedEnd(index: number): number {
    if (index === 0) return 0;
    const end = (this.offsets[index - 1] as number) + (this.lengths[index - 1] as number);
    return Math.ceil(end / PACKED_ALIGNMENT) * PACKED_ALIGNMENT;
  }
}

/** Checks that `value` is a batch whose memory is still there and whose `length` is one. */
export function checkBatch(name: string, value: unknown): PacketBatch {
  if (!(value instanceof PacketBatch)) throw invalidArgType(name, 'a PacketBatch', value);
  if (value.memory.byteLength === 0)
    throw invalidArgType(name, 'a PacketBatch whose memory was not transferred away', value);
  integer(`${name}.length`, value.length, 0, value.capacity);
  return value;
}
