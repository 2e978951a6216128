import { types } from 'node:util';
import { invalidArgType, outOfRange } from '../support/errors';
import { boolean, integer, knownOptions, optionsObject } from '../support/options';
import type { PacketOffload } from '../support/types';
import { byteLengthOf } from './packet-data';
import { LITTLE_ENDIAN } from './packet-meta';

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

/** The header for `offload`, whose fields are checked; what is left out is 0 or false. */
export function offloadHeader(name: string, offload: Partial<PacketOffload>): Uint8Array {
  const given = optionsObject(name, offload);
  knownOptions(name, given, OFFLOAD_FIELDS);
  const bit = (key: keyof PacketOffload, value: number) =>
    given[key] !== undefined && boolean(`${name}.${key}`, given[key]) ? value : 0;
  const number = (key: keyof PacketOffload, max: number) =>
    given[key] === undefined ? 0 : integer(`${name}.${key}`, given[key], 0, max);
  const header = new Uint8Array(HEADER_BYTES);
  const view = new DataView(header.buffer);
  const flags =
    bit('needsChecksum', NEEDS_CHECKSUM) |
    bit('checksumValid', CHECKSUM_VALID) |
    bit('outerNeedsChecksum', OUTER_NEEDS_CHECKSUM);
  view.setUint8(FLAGS, flags);
  view.setUint8(GSO_TYPE, number('gsoType', 0xff));
  view.setUint16(HEADER_LENGTH, number('headerLength', 0xffff), LITTLE_ENDIAN);
  view.setUint16(GSO_SIZE, number('gsoSize', 0xffff), LITTLE_ENDIAN);
  view.setUint16(CHECKSUM_START, number('checksumStart', 0xffff), LITTLE_ENDIAN);
  view.setUint16(CHECKSUM_OFFSET, number('checksumOffset', 0xffff), LITTLE_ENDIAN);
  view.setUint16(OUTER_TRANSPORT_OFFSET, number('outerTransportOffset', 0xffff), true);
  view.setUint16(INNER_NETWORK_OFFSET, number('innerNetworkOffset', 0xffff), true);
  return header;
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
  return offloadHeader('offload', offload);
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
  const header = new Uint8Array(HEADER_BYTES);
  header.set(length > HEADER_BYTES ? bytes.subarray(0, HEADER_BYTES) : bytes);
  if (length < HEADER_BYTES) header.fill(0, SHORT_HEADER_BYTES);
  return offloadAt(new DataView(header.buffer), 0);
}

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
