import { release } from 'node:os';

/** LINKTYPE_* (tcpdump.org/linktypes.html). */
export const LINKTYPE_ETHERNET = 1;
export const LINKTYPE_RAW = 101;
export const LINKTYPE_IPV4 = 228;
export const LINKTYPE_IPV6 = 229;

/** What a packet block says beside the packet. */
export interface PacketNotes {
  /** Whether it came in or went out; undefined where that can't be told. */
  direction: 'in' | 'out' | undefined;
  comment: string | undefined;
}

/** The blocks of a pcapng file (draft-ietf-opsawg-pcapng) with one interface, with times in nanoseconds; little-endian. */

/** What starts the file. */
export function sectionBlock(application: string): Buffer {
  const fixed = Buffer.alloc(16);
  fixed.writeUInt32LE(0x1a2b3c4d, 0);
  fixed.writeUInt16LE(1, 4);
  fixed.writeUInt16LE(0, 6);
  // The section's length is not known.
  fixed.writeBigInt64LE(-1n, 8);
  return block(
    0x0a0d0d0a,
    fixed,
    options([
      [3, text(`Linux ${release()}`)],
      [4, text(application)],
    ]),
  );
}

/** The file's next interface. */
export function interfaceBlock(name: string, linkType: number, snapLength: number): Buffer {
  const fixed = Buffer.alloc(8);
  fixed.writeUInt16LE(linkType, 0);
  fixed.writeUInt32LE(snapLength, 4);
  return block(
    1,
    fixed,
    options([
      [2, text(name)],
      [9, Buffer.from([9])],
    ]),
  );
}

/** A packet of the first interface; `length` is what it had before it was cut, `timestamp` nanoseconds since 1970. */
export function packetBlock(data: Uint8Array, length: number, timestamp: bigint, notes: PacketNotes): Buffer {
  const fixed = Buffer.alloc(20);
  fixed.writeUInt32LE(Number(timestamp >> 32n), 4);
  fixed.writeUInt32LE(Number(timestamp & 0xffffffffn), 8);
  fixed.writeUInt32LE(data.length, 12);
  fixed.writeUInt32LE(length, 16);
  const list: [number, Buffer][] = [];
  if (notes.comment !== undefined) list.push([1, text(notes.comment)]);
  if (notes.direction !== undefined) list.push([2, Buffer.from([notes.direction === 'in' ? 1 : 2, 0, 0, 0])]);
  return block(6, fixed, padded(data), options(list));
}

/** Counters of the first interface: packets that it received, and that were dropped for want of room. */
export function statisticsBlock(timestamp: bigint, received: number, dropped: number): Buffer {
  const fixed = Buffer.alloc(12);
  fixed.writeUInt32LE(Number(timestamp >> 32n), 4);
  fixed.writeUInt32LE(Number(timestamp & 0xffffffffn), 8);
  return block(
    5,
    fixed,
    options([
      [4, counter(received)],
      [5, counter(dropped)],
    ]),
  );
}

function block(type: number, ...parts: Buffer[]): Buffer {
  const length = parts.reduce((sum, part) => sum + part.length, 12);
  const head = Buffer.alloc(8);
  head.writeUInt32LE(type, 0);
  head.writeUInt32LE(length, 4);
  return Buffer.concat([head, ...parts, head.subarray(4)], length);
}

function options(list: readonly (readonly [number, Buffer])[]): Buffer {
  if (list.length === 0) return Buffer.alloc(0);
  const parts = list.flatMap(([code, value]) => {
    const head = Buffer.alloc(4);
    head.writeUInt16LE(code, 0);
    head.writeUInt16LE(value.length, 2);
    return [head, padded(value)];
  });
  return Buffer.concat([...parts, Buffer.alloc(4)]);
}

function padded(bytes: Uint8Array): Buffer {
  return Buffer.concat([bytes], (bytes.length + 3) & ~3);
}

function text(value: string): Buffer {
  return Buffer.from(value, 'utf8');
}

function counter(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}
