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

/** When the kernel got a packet: nanoseconds since 1970. */
export function timestampAt(meta: DataView, at: number): bigint | undefined {
  const nanoseconds = meta.getUint32(at + NANOSECONDS, LITTLE_ENDIAN);
  // Two words: a bigint for nothing would cost more than all the rest.
  const low = meta.getUint32(at + SECONDS, LITTLE_ENDIAN);
  const high = meta.getUint32(at + SECONDS + 4, LITTLE_ENDIAN);
  if (low === 0 && high === 0 && nanoseconds === 0) return undefined;
  return meta.getBigUint64(at + SECONDS, LITTLE_ENDIAN) * 1_000_000_000n + BigInt(nanoseconds);
}
