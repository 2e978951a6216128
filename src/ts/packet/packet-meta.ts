/**
 * The layout of struct PacketMeta (src/native/core/io/batch.h): what is said of a packet beside its bytes, by the kernel of one that was
 * received, by the sender of one that is to be sent. All fields are in host order.
 */
export const META_BYTES = 64;
export const META_WORDS = META_BYTES / Uint32Array.BYTES_PER_ELEMENT;
export const VIRTIO_HEADER = 0;
export const INTERFACE = 24;
export const HARDWARE_TYPE = 28;
export const PACKET_TYPE = 30;
export const ADDRESS_LENGTH = 31;
export const ADDRESS = 32;
export const STATUS = 40;
export const VLAN_TCI = 44;
export const VLAN_TPID = 46;
export const SECONDS = 48;
export const NANOSECONDS = 56;
export const HAS_DESTINATION = 60;
export const DESTINATION_PROTOCOL = 62;

export const LITTLE_ENDIAN = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

/** What of it means anything: what the link layer knows of a packet. */
export const META_LINK = 1;
/** The packet's virtio header. */
export const META_OFFLOAD = 2;
/** Where a packet that is to be sent goes. */
export const META_DESTINATION = 4;
/** The layout of datagram-meta.ts, and nothing of the others. */
export const META_DATAGRAM = 8;

/** What is said of one packet that is to be sent. */
export interface SendMeta {
  /** META_BYTES of them. */
  bytes: Uint8Array;
  /** META_OFFLOAD, META_DESTINATION; or META_DATAGRAM. */
  kinds: number;
}

/**
 * Memory that metadata are cut from, which nobody has used before. A small Uint8Array of its own would be given an ArrayBuffer when the addon first
 * asks for its bytes, which costs as much as all the rest of it.
 */
const POOLED = 128;
let pool = new ArrayBuffer(0);
let pooled = 0;

/** Metadata that say nothing. */
export function emptyMeta(): Uint8Array {
  if (pooled === pool.byteLength) {
    pool = new ArrayBuffer(POOLED * META_BYTES);
    pooled = 0;
  }
  const bytes = new Uint8Array(pool, pooled, META_BYTES);
  pooled += META_BYTES;
  return bytes;
}

/** Writes a number of 16 bits in host order. Without a DataView: that costs more than all that is written. */
export function putWord(bytes: Uint8Array, at: number, value: number): void {
  bytes[LITTLE_ENDIAN ? at : at + 1] = value & 0xff;
  bytes[LITTLE_ENDIAN ? at + 1 : at] = value >>> 8;
}

/** The same of 32 bits. */
export function putLongWord(bytes: Uint8Array, at: number, value: number): void {
  putWord(bytes, LITTLE_ENDIAN ? at : at + 2, value & 0xffff);
  putWord(bytes, LITTLE_ENDIAN ? at + 2 : at, value >>> 16);
}

/** When the kernel got a packet: nanoseconds since 1970. */
export function timestampAt(meta: DataView, at: number): bigint | undefined {
  const nanoseconds = meta.getUint32(at + NANOSECONDS, LITTLE_ENDIAN);
  // Two words: a bigint for nothing would cost more than all the rest.
  const low = meta.getUint32(at + SECONDS, LITTLE_ENDIAN);
  const high = meta.getUint32(at + SECONDS + 4, LITTLE_ENDIAN);
  if (low === 0 && high === 0 && nanoseconds === 0) return undefined;
  return meta.getBigUint64(at + SECONDS, LITTLE_ENDIAN) * 1_000_000_000n + BigInt(nanoseconds);
}
