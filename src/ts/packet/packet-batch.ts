import { inspect } from 'node:util';
import { invalidArgType, outOfRange } from '../support/errors';
import { integer, knownOptions, optionsObject } from '../support/options';
import type { MessageInfo, PacketData, PacketSendOptions } from '../support/types';
import { messageInfo } from './message-info';
import { byteLengthOf, packetViews } from './packet-data';
import { META_BYTES, META_DATAGRAM, type SendMeta } from './packet-meta';
import { sendMeta } from './send-meta';

/** The layout that src/native/core/io/batch.h maps: metadata, columns of words, and from a multiple of 64 the slab. */
const COLUMNS = 5;
const SLAB_ALIGNMENT = 64;
/** Room behind the last slot: a packet that is longer than its slot is read whole, to learn its length. */
const TAIL_BYTES = 65536 + 64;
/** The same of a batch in which packets lie one behind another: that of the largest superpacket, GSO_MAX_SIZE and a link header. */
export const PACKED_ROOM = Math.ceil((8 * 65535 + 18 + 64) / 64) * 64;
const PACKED_ALIGNMENT = 16;
const MAX_CAPACITY = 65536;
const MAX_PACKET_SIZE = 1 << 20;
/** Offsets are words of 32 bits. */
const MAX_SLAB_BYTES = 2 ** 32 - 1 - TAIL_BYTES;

export interface PacketBatchOptions {
  /** The most packets that it holds: 1 to 65536. Default 64. */
  capacity?: number;
  /** The most bytes of each packet: 1 to 1048576. Default 2048; superpackets of a socket with `offload: 'raw'` have up to 65535, on an interface with a larger gso_max_size up to 524280, beside a link header. */
  packetSize?: number;
}

/** Where the packets of a batch that is `packed` lie one behind another, and are never cut. */
interface Layout {
  capacity: number;
  /** 0: packed. */
  slot: number;
  slabBytes: number;
}

/** What sockets and the addon know of a batch, and users don't. */
export class BatchStore {
  /** All of it, for the addon. */
  readonly memory: ArrayBuffer;
  readonly capacity: number;
  /** The slot's size as the addon knows it: 0 where packets lie one behind another. */
  readonly slot: number;
  readonly slabAt: number;
  /** What of the metadata means anything: META_LINK, META_OFFLOAD, META_DESTINATION; or META_DATAGRAM. */
  kinds = 0;
  #meta: DataView | undefined;

  constructor({ capacity, slot, slabBytes }: Layout) {
    const head = capacity * (META_BYTES + COLUMNS * Uint32Array.BYTES_PER_ELEMENT);
    this.slabAt = Math.ceil(head / SLAB_ALIGNMENT) * SLAB_ALIGNMENT;
    this.capacity = capacity;
    this.slot = slot;
    this.memory = allocate(this.slabAt + slabBytes + TAIL_BYTES);
  }

  column(index: number): Uint32Array {
    const columnBytes = this.capacity * Uint32Array.BYTES_PER_ELEMENT;
    return new Uint32Array(this.memory, this.capacity * META_BYTES + index * columnBytes, this.capacity);
  }

  get meta(): DataView {
    this.#meta ??= new DataView(this.memory, 0, this.capacity * META_BYTES);
    return this.#meta;
  }

  /** Whether the memory was transferred away. */
  get isGone(): boolean {
    return this.memory.byteLength === 0;
  }

  /** Says of packet `index` what its sender said; of `length` packets that are in. */
  setMeta(index: number, { bytes, kinds }: SendMeta, length: number): void {
    const all = new Uint8Array(this.memory, 0, length * META_BYTES);
    // What nobody has said of the packets before is nothing; nor can it be told in two layouts.
    const other = (this.kinds & META_DATAGRAM) !== (kinds & META_DATAGRAM);
    if (this.kinds === 0 || other) all.fill(0);
    this.kinds = other ? kinds : this.kinds | kinds;
    all.set(bytes, index * META_BYTES);
  }

  clearMeta(index: number): void {
    if (this.kinds !== 0) new Uint8Array(this.memory, index * META_BYTES, META_BYTES).fill(0);
  }
}

function allocate(bytes: number): ArrayBuffer {
  try {
    return new ArrayBuffer(bytes);
  } catch {
    throw outOfRange('capacity and packetSize', 'small enough for memory to be had', `${bytes} bytes`);
  }
}

/** A batch's store. */
export let storeOf: (batch: PacketBatch) => BatchStore;
/** Whether a value is a batch indeed, and doesn't only look like one. */
let isBatch: (value: unknown) => value is PacketBatch;
/**
 * A batch in which packets lie one behind another and are never cut: room for `bytes` bytes of them, and one more packet of a tun device.
 * PACKED_ROOM must be free for each that is received.
 */
export let packedBatch: (capacity: number, bytes: number) => PacketBatch;
/** Copies `size` bytes of `views` into `batch` as the next packet; returns its index, or -1 where there is no room. */
export let appendTo: (batch: PacketBatch, views: readonly Uint8Array[], size: number) => number;

/**
 * Room for many packets in one piece of memory, allocated once: a slab with a slot of `packetSize` bytes for each packet.
 * recvmmsg() fills it, sendmmsg() sends it, and neither allocates anything.
 *
 * @example
 * ```ts
 * const batch = new PacketBatch({ capacity: 64 });
 * while (from.recvmmsg(batch) > 0) to.sendmmsg(batch);
 * ```
 */
export class PacketBatch implements Iterable<Buffer> {
  /** The most packets that it holds. */
  readonly capacity: number;
  /** Bytes in each packet's slot; a longer packet is cut, and marked with MSG_TRUNC. */
  readonly packetSize: number;
  /** The slab: packet `i` is at `offsets[i]`, and `lengths[i]` bytes long. */
  readonly buffer: Buffer;
  /**
   * Where each packet starts in `buffer`: its slot, but for datagrams that came as one message (UdpSocket with `offload: 'split'`), which lie
   * behind one another.
   */
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
  readonly #store: BatchStore;

  static {
    storeOf = (batch) => batch.#store;
    isBatch = (value): value is PacketBatch => typeof value === 'object' && value !== null && #store in value;
    packedBatch = (capacity, bytes) =>
      new PacketBatch(new PackedLayout(capacity, bytes) as PacketBatchOptions);
    appendTo = (batch, views, size) => batch.#append(views, size);
  }

  /**
   * @throws TypeError `ERR_INVALID_ARG_TYPE` and RangeError `ERR_OUT_OF_RANGE` for a capacity or packet size that is none, and for more
   * memory than there can be (4 GiB).
   */
  constructor(options?: PacketBatchOptions) {
    const layout = options instanceof PackedLayout ? options : slotted(options);
    this.capacity = layout.capacity;
    this.packetSize = layout.slot !== 0 ? layout.slot : layout.slabBytes;
    this.#store = new BatchStore(layout);
    this.offsets = this.#store.column(0);
    this.lengths = this.#store.column(1);
    this.sizes = this.#store.column(2);
    this.flags = this.#store.column(3);
    this.protocols = this.#store.column(4);
    const { memory, slabAt } = this.#store;
    this.buffer = Buffer.from(memory, slabAt, layout.slabBytes + (layout.slot !== 0 ? 0 : TAIL_BYTES));
  }

  /**
   * Packet `index`, as a view of the batch's memory: it changes when the batch is filled anew.
   *
   * @throws RangeError `ERR_OUT_OF_RANGE` unless 0 <= index < length.
   */
  at(index: number): Buffer {
    this.#checkIndex(index);
    const offset = this.offsets[index] as number;
    return this.buffer.subarray(offset, offset + (this.lengths[index] as number));
  }

  /**
   * What is known of packet `index` beside its bytes. It stays as it is when the batch is filled anew.
   *
   * @throws RangeError `ERR_OUT_OF_RANGE` unless 0 <= index < length; TypeError `ERR_INVALID_ARG_TYPE` where the batch's memory was
   * transferred away.
   */
  info(index: number): MessageInfo {
    this.#checkIndex(index);
    checkBatch('this', this);
    return infoAt(this, index);
  }

  /**
   * Copies a packet into the next slot; several views are gathered into one packet. `options` say where it goes (`to`), and what is still to be
   * done to it (`offload`), for a socket that has such a thing.
   *
   * @returns the packet's index.
   * @throws RangeError `ERR_OUT_OF_RANGE` when the batch is full, or the packet is longer than `packetSize`.
   */
  push(packet: PacketData, options?: PacketSendOptions): number {
    // First what may run code of the caller's: it could take memory away.
    const meta = sendMeta(options);
    const views = packetViews('packet', packet);
    checkBatch('this', this);
    let size = 0;
    for (const view of views) size += byteLengthOf(view);
    if (size > this.packetSize) {
      throw outOfRange('packet', `at most ${this.packetSize} bytes long, the batch's packetSize`, size);
    }
    const index = this.#append(views, size);
    if (index < 0) {
      throw outOfRange(
        'batch.length',
        `less than its capacity of ${this.capacity} for another packet: the batch is full; send it and clear() it`,
        this.length,
      );
    }
    if (meta !== undefined) this.#store.setMeta(index, meta, this.length);
    return index;
  }

  /** Forgets all packets. */
  clear(): void {
    this.length = 0;
    this.#store.kinds = 0;
  }

  /** The packets in order, each as `at()` gives it. */
  *[Symbol.iterator](): Iterator<Buffer> {
    for (let index = 0; index < this.length; index++) yield this.at(index);
  }

  /** @internal */
  [inspect.custom](): string {
    return `PacketBatch { ${this.length} of ${this.capacity} packets, packetSize: ${this.packetSize} }`;
  }

  #checkIndex(index: number): void {
    // `length` is anybody's to set.
    integer('index', index, 0, integer('batch.length', this.length, 0, this.capacity) - 1);
  }

  #append(views: readonly Uint8Array[], size: number): number {
    const index = this.length;
    if (index >= this.capacity) return -1;
    const { slot } = this.#store;
    const offset = slot !== 0 ? index * slot : this.#packedEnd(index);
    if (offset + size > this.buffer.length) return -1;
    let at = offset;
    for (const view of views) {
      this.buffer.set(view, at);
      at += byteLengthOf(view);
    }
    this.offsets[index] = offset;
    this.lengths[index] = size;
    this.sizes[index] = size;
    this.flags[index] = 0;
    this.protocols[index] = 0;
    this.#store.clearMeta(index);
    this.length = index + 1;
    return index;
  }

  #packedEnd(index: number): number {
    if (index === 0) return 0;
    const end = (this.offsets[index - 1] as number) + (this.lengths[index - 1] as number);
    return Math.ceil(end / PACKED_ALIGNMENT) * PACKED_ALIGNMENT;
  }
}

/** The layout of a packed batch, which is not public. */
class PackedLayout implements Layout {
  readonly slot = 0;
  constructor(
    readonly capacity: number,
    readonly slabBytes: number,
  ) {}
}

function slotted(options: PacketBatchOptions | undefined): Layout {
  const given = optionsObject('options', options);
  knownOptions('options', given, ['capacity', 'packetSize']);
  const capacity = integer('options.capacity', given.capacity ?? 64, 1, MAX_CAPACITY);
  const slot = integer('options.packetSize', given.packetSize ?? 2048, 1, MAX_PACKET_SIZE);
  const slabBytes = capacity * slot;
  if (slabBytes > MAX_SLAB_BYTES) {
    throw outOfRange(
      'options.capacity',
      `at most ${Math.floor(MAX_SLAB_BYTES / slot)} with that packetSize`,
      capacity,
    );
  }
  return { capacity, slot, slabBytes };
}

/** What is known of packet `index` of a batch that has one. */
export function infoAt(batch: PacketBatch, index: number): MessageInfo {
  const store = storeOf(batch);
  return messageInfo(
    batch.sizes[index] as number,
    batch.lengths[index] as number,
    batch.flags[index] as number,
    batch.protocols[index] as number,
    store.kinds,
    store.meta,
    index * META_BYTES,
  );
}

/** A socket has filled `batch`. */
export function filled(batch: PacketBatch, length: number, kinds: number): void {
  batch.length = length;
  storeOf(batch).kinds = kinds;
}

/** Checks that `value` is a batch whose memory is still there and whose `length` is one. */
export function checkBatch(name: string, value: unknown): PacketBatch {
  if (!isBatch(value)) throw invalidArgType(name, 'a PacketBatch', value);
  if (storeOf(value).isGone)
    throw invalidArgType(name, 'a PacketBatch whose memory was not transferred away', value);
  integer(`${name}.length`, value.length, 0, value.capacity);
  return value;
}
