import { boolean, integer, knownOptions, optionsObject } from '../support/options';
import type { PacketOffload } from '../support/types';
import { LITTLE_ENDIAN } from './packet-meta';

/** Bytes of the virtio header in a packet's metadata (kMaxVirtioHeader in src/native/core/io/batch.h). */
export const HEADER_BYTES = 24;

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
export function decodeOffload(view: DataView, at: number): PacketOffload {
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
export function encodeOffload(name: string, offload: Partial<PacketOffload>): Uint8Array {
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
