/** The most bytes of one packet that are believed: MAXIMUM_SNAPLEN of libpcap. */
export const MAX_PACKET = 262_144;

/** A packet as a capture file has it. */
export interface CapturedPacket {
  /** LINKTYPE_* (tcpdump.org/linktypes.html). */
  linkType: number;
  /** Nanoseconds since 1970; 0 where the file has none. */
  timestamp: bigint;
  /** A view, valid until the next packet is read. */
  data: Buffer;
  /** Its length when it was captured; more than `data` has when it was cut. */
  length: number;
  /** The name of the interface, where the file tells. */
  interface: string | undefined;
}

/** Integers as the file's writer had them in memory. */
export interface Integers {
  u16(bytes: Buffer, at: number): number;
  u32(bytes: Buffer, at: number): number;
}
export const LITTLE: Integers = {
  u16: (bytes, at) => bytes.readUInt16LE(at),
  u32: (bytes, at) => bytes.readUInt32LE(at),
};
export const BIG: Integers = {
  u16: (bytes, at) => bytes.readUInt16BE(at),
  u32: (bytes, at) => bytes.readUInt32BE(at),
};
