import { types } from 'node:util';
import { invalidArgType, outOfRange } from '../support/errors';
import { boolean, integer, knownOptions, optionsObject } from '../support/options';
import type { PacketOffload } from '../support/types';
import { byteLengthOf } from './packet-data';
import { LITTLE_ENDIAN, putWord } from './packet-meta';

/** Bytes of the virtio header in a packet's metadata (kMaxVirtioHeader in src/native/core/io/batch.h). */
export const HEADER_BYTES = 24;
/** The same without what Linux 6.17 added for tunnels: struct virtio_net_hdr. */
const SHORT_HEADER_BYTES = 10;

/** Where its fields are: struct virtio_net_hdr_v1_hash_tunnel (linux/virtio_net.h). */
const FLAGS = 0;
const GSO_TYPE = 1;
const HEADER_LENGTH = 2;
const GSO_SIZE = 4;
const CHECKSUM_START = 6;
const CHECKSUM_OFFSET = 8;
const OUTER_TRANSPORT_OFFSET = 20;
const INNER_NETWORK_OFFSET = 22;
const NEEDS_CHECKSUM = 1;
const CHECKSUM_VALID = 2;
const OUTER_NEEDS_CHECKSUM = 8;

/** The virtio header at `at` of `view`. The fields of tunnels are little-endian everywhere, the others in host order. */
export function offloadAt(view: DataView, at: number): PacketOffload {
  const flags = view.getUint8(at + FLAGS);
  return {
    needsChecksum: (flags & NEEDS_CHECKSUM) !== 0,
    checksumValid: (flags & CHECKSUM_VALID) !== 0,
    checksumStart: view.getUint16(at + CHECKSUM_START, LITTLE_ENDIAN),
    checksumOffset: view.getUint16(at + CHECKSUM_OFFSET, LITTLE_ENDIAN),
    gsoType: view.getUint8(at + GSO_TYPE),
    gsoSize: view.getUint16(at + GSO_SIZE, LITTLE_ENDIAN),
    headerLength: view.getUint16(at + HEADER_LENGTH, LITTLE_ENDIAN),
    outerNeedsChecksum: (flags & OUTER_NEEDS_CHECKSUM) !== 0,
    outerTransportOffset: view.getUint16(at + OUTER_TRANSPORT_OFFSET, true),
    innerNetworkOffset: view.getUint16(at + INNER_NETWORK_OFFSET, true),
  };
}

/** Writes the header for `offload`, whose fields are checked, over zeros at `at`; what is left out is 0 or false. */
export function putOffload(name: string, offload: unknown, bytes: Uint8Array, at: number): void {
  const given = optionsObject(name, offload) as { [K in keyof PacketOffload]?: unknown };
  knownOptions(name, given, OFFLOAD_FIELDS);
  bytes[at + FLAGS] =
    (bit(name, 'needsChecksum', given.needsChecksum) ? NEEDS_CHECKSUM : 0) |
    (bit(name, 'checksumValid', given.checksumValid) ? CHECKSUM_VALID : 0) |
    (bit(name, 'outerNeedsChecksum', given.outerNeedsChecksum) ? OUTER_NEEDS_CHECKSUM : 0);
  bytes[at + GSO_TYPE] = number(name, 'gsoType', given.gsoType, 0xff);
  putWord(bytes, at + HEADER_LENGTH, number(name, 'headerLength', given.headerLength));
  putWord(bytes, at + GSO_SIZE, number(name, 'gsoSize', given.gsoSize));
  putWord(bytes, at + CHECKSUM_START, number(name, 'checksumStart', given.checksumStart));
  putWord(bytes, at + CHECKSUM_OFFSET, number(name, 'checksumOffset', given.checksumOffset));
  const outer = number(name, 'outerTransportOffset', given.outerTransportOffset);
  const inner = number(name, 'innerNetworkOffset', given.innerNetworkOffset);
  bytes[at + OUTER_TRANSPORT_OFFSET] = outer & 0xff;
  bytes[at + OUTER_TRANSPORT_OFFSET + 1] = outer >>> 8;
  bytes[at + INNER_NETWORK_OFFSET] = inner & 0xff;
  bytes[at + INNER_NETWORK_OFFSET + 1] = inner >>> 8;
}

/** Names are put together only for an error: ten of them cost more than all the rest. */
function bit(name: string, key: keyof PacketOffload, value: unknown): boolean {
  return value !== undefined && (typeof value === 'boolean' ? value : boolean(`${name}.${key}`, value));
}

function number(name: string, key: keyof PacketOffload, value: unknown, max = 0xffff): number {
  if (value === undefined) return 0;
  const isWhole = typeof value === 'number' && value >= 0 && value <= max && Number.isInteger(value);
  return isWhole ? value : integer(`${name}.${key}`, value, 0, max);
}

/**
 * The virtio header that says `offload`, for programs that carry superpackets elsewhere: 24 bytes of struct virtio_net_hdr_v1_hash_tunnel
 * (linux/virtio_net.h), of which the first 10 are struct virtio_net_hdr. In this host's byte order, but for the fields of tunnels, which are
 * little-endian everywhere.
 *
 * @param offload - what is left out is 0 or false.
 * @throws TypeError `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE` for what is no offload; RangeError `ERR_OUT_OF_RANGE` for a field that is
 * no number of 16 bits (`gsoType`: of 8).
 *
 * @example
 * ```ts
 * const { offload } = tun.recvmsg(packet);
 * peer.sendmsg([encodeOffload(offload ?? {}), packet]);
 * ```
 */
export function encodeOffload(offload: Partial<PacketOffload>): Uint8Array {
  if (offload === undefined) throw invalidArgType('offload', 'an object', offload);
  const header = new Uint8Array(HEADER_BYTES);
  putOffload('offload', offload, header, 0);
  return header;
}

/**
 * What a virtio header says: the other way round. Whether it makes sense is for whoever cuts the packet to say; what comes from another host
 * may say anything.
 *
 * @param bytes - the header, of 10 bytes or more; without all 24 the fields of tunnels are 0.
 * @throws TypeError `ERR_INVALID_ARG_TYPE` for anything but a Uint8Array; RangeError `ERR_OUT_OF_RANGE` for fewer than 10 bytes.
 */
export function decodeOffload(bytes: Uint8Array): PacketOffload {
  if (!types.isUint8Array(bytes)) throw invalidArgType('bytes', 'a Uint8Array', bytes);
  const length = byteLengthOf(bytes);
  if (length < SHORT_HEADER_BYTES) {
    throw outOfRange(
      'bytes',
      `at least ${SHORT_HEADER_BYTES} bytes long, as struct virtio_net_hdr is`,
      length,
    );
  }
  const known = length < HEADER_BYTES ? SHORT_HEADER_BYTES : HEADER_BYTES;
  for (let index = 0; index < HEADER_BYTES; index++) {
    decoded[index] = index < known ? (bytes[index] as number) : 0;
  }
  return offloadAt(decodedView, 0);
}

/** Where decodeOffload() copies a header to: a DataView of its own costs more than all the rest. */
const decoded = new Uint8Array(HEADER_BYTES);
const decodedView = new DataView(decoded.buffer);

const OFFLOAD_FIELDS = [
  'needsChecksum',
  'checksumValid',
  'checksumStart',
  'checksumOffset',
  'gsoType',
  'gsoSize',
  'headerLength',
  'outerNeedsChecksum',
  'outerTransportOffset',
  'innerNetworkOffset',
] as const satisfies readonly (keyof PacketOffload)[];
