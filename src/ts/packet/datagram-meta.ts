import { errorName, invalidArgValue } from '../support/errors';
import { type IpBytes, ipBytes, ipText } from '../support/ip-bytes';
import { integer, knownOptions, optionsObject } from '../support/options';
import type { DatagramAddress, DatagramInfo } from '../support/types';
import {
  emptyMeta,
  LITTLE_ENDIAN,
  META_DATAGRAM,
  putLongWord,
  putWord,
  type SendMeta,
  timestampAt,
} from './packet-meta';

/** The layout of struct DatagramMeta (src/native/core/io/batch.h): PacketMeta as it is for a datagram. */
const ADDRESS = 0;
const SCOPE = 16;
const PORT = 20;
const FAMILY = 22;
const TRAFFIC_CLASS = 23;
const LOCAL_ADDRESS = 24;
const INTERFACE = 40;
const LOCAL_FAMILY = 44;
const HAS_TRAFFIC_CLASS = 45;
const SEGMENT_SIZE = 46;
const HAS_DESTINATION = 60;
const ERROR = 62;

const MAX_INDEX = 0x7fffffff;
/** The most that a datagram can carry over IPv4 (RFC 768, RFC 791). */
const MAX_DATAGRAM = 65507;

function putPeer(meta: Uint8Array, address: IpBytes, port: number, scope: number): void {
  putAddress(meta, ADDRESS, address);
  putLongWord(meta, SCOPE, scope);
  putWord(meta, PORT, port);
  meta[FAMILY] = address.family;
}

function putLocal(meta: Uint8Array, address: IpBytes): void {
  putAddress(meta, LOCAL_ADDRESS, address);
  meta[LOCAL_FAMILY] = address.family;
}

function putAddress(meta: Uint8Array, at: number, { bytes }: IpBytes): void {
  for (let index = 0; index < bytes.length; index++) meta[at + index] = bytes[index] as number;
}

/** Bytes for a request that takes an address, a port and an interface. */
export function addressMeta(
  address: IpBytes,
  port: number,
  scope: number,
  index = 0,
  local?: IpBytes,
): Uint8Array {
  const meta = emptyMeta();
  putPeer(meta, address, port, scope);
  putLongWord(meta, INTERFACE, index);
  if (local !== undefined) putLocal(meta, local);
  return meta;
}

/** The index that a zone is, where it is one. */
export function zoneIndex(name: string, { zone }: IpBytes): number {
  if (zone === '') return 0;
  if (!/^\d{1,10}$/.test(zone) || Number(zone) > MAX_INDEX) {
    throw invalidArgValue(
      name,
      "an address whose zone is the index of an interface, such as 'fe80::1%2'",
      zone,
    );
  }
  return Number(zone);
}

/** The address in the metadata. */
export function addressIn(bytes: Uint8Array): DatagramAddress {
  return peerAt(new DataView(bytes.buffer, bytes.byteOffset), 0);
}

function peerAt(meta: DataView, at: number): DatagramAddress {
  const family = meta.getUint8(at + FAMILY);
  return {
    address:
      family === 0 ? '' : ipText(meta, at + ADDRESS, family, meta.getUint32(at + SCOPE, LITTLE_ENDIAN)),
    port: meta.getUint16(at + PORT, LITTLE_ENDIAN),
    family: family === 6 ? 'IPv6' : 'IPv4',
  };
}

/** The error of a message of the error queue: a negative errno; 0 of anything else. */
export function datagramErrno(meta: DataView, at: number): number {
  return -meta.getUint16(at + ERROR, LITTLE_ENDIAN);
}

/** Whether the options say that a message is several datagrams. */
export function isSegmented({ bytes }: SendMeta): boolean {
  return bytes[SEGMENT_SIZE] !== 0 || bytes[SEGMENT_SIZE + 1] !== 0;
}

/** What is known of a received datagram. Its metadata are at `at` of `meta`, which is read here and not kept. */
export function datagramInfo(
  size: number,
  bytes: number,
  flags: number,
  protocol: number,
  meta: DataView,
  at: number,
): DatagramInfo {
  const localFamily = meta.getUint8(at + LOCAL_FAMILY);
  const trafficClass = meta.getUint8(at + TRAFFIC_CLASS);
  const segmentSize = meta.getUint16(at + SEGMENT_SIZE, LITTLE_ENDIAN);
  const errno = datagramErrno(meta, at);
  return {
    size,
    bytes,
    flags,
    protocol,
    from: peerAt(meta, at),
    to: localFamily === 0 ? undefined : ipText(meta, at + LOCAL_ADDRESS, localFamily, 0),
    interface: meta.getUint32(at + INTERFACE, LITTLE_ENDIAN),
    ecn: trafficClass & 3,
    trafficClass,
    segmentSize: segmentSize === 0 ? undefined : segmentSize,
    timestamp: timestampAt(meta, at),
    error: errno === 0 ? undefined : errorName(errno),
  };
}

/** What the options of a send call say of a datagram: they are for one where any of them is. */
export const DATAGRAM_OPTIONS = ['from', 'ecn', 'trafficClass', 'segmentSize'] as const;

/** Whether a destination is that of a datagram, rather than a hardware address. */
export function isDatagramDestination(to: unknown): boolean {
  return typeof to === 'object' && to !== null && ('port' in to || 'family' in to);
}

/** Where a datagram goes, and how. */
export function datagramMeta(to: unknown, given: Record<string, unknown>): SendMeta {
  const meta = emptyMeta();
  if (to !== undefined) {
    const { address, port, scope } = datagramDestination('options.to', to);
    putPeer(meta, address, port, scope);
    putWord(meta, HAS_DESTINATION, 1);
  }
  if (given.from !== undefined) setSource(meta, to, given.from);
  if (given.ecn !== undefined || given.trafficClass !== undefined) {
    const all =
      given.trafficClass === undefined ? 0 : integer('options.trafficClass', given.trafficClass, 0, 0xff);
    const ecn = given.ecn === undefined ? all & 3 : integer('options.ecn', given.ecn, 0, 3);
    meta[TRAFFIC_CLASS] = (all & 0xfc) | ecn;
    meta[HAS_TRAFFIC_CLASS] = 1;
  }
  if (given.segmentSize !== undefined) {
    putWord(meta, SEGMENT_SIZE, integer('options.segmentSize', given.segmentSize, 1, MAX_DATAGRAM));
  }
  return { bytes: meta, kinds: META_DATAGRAM };
}

function setSource(meta: Uint8Array, to: unknown, value: unknown): void {
  if (to === undefined) {
    throw invalidArgValue('options.from', 'given only with a destination (options.to)', value);
  }
  const from = typeof value === 'string' ? { address: value } : optionsObject('options.from', value);
  knownOptions('options.from', from, ['address', 'interface']);
  if (from.address !== undefined) putLocal(meta, ipBytes('options.from.address', from.address));
  if (from.interface !== undefined) {
    putLongWord(meta, INTERFACE, integer('options.from.interface', from.interface, 0, MAX_INDEX));
  }
}

/** Checks an address and a port, whose names in errors start with `prefix`. */
export function destination(
  address: unknown,
  port: unknown,
  prefix = '',
): { address: IpBytes; port: number; scope: number } {
  const checked = ipBytes(`${prefix}address`, address);
  return {
    address: checked,
    port: integer(`${prefix}port`, port, 1, 0xffff),
    scope: zoneIndex(`${prefix}address`, checked),
  };
}

/** Checks where a datagram goes. */
function datagramDestination(name: string, value: unknown): ReturnType<typeof destination> {
  const given = optionsObject(name, value);
  // As it stands in an `info.from`.
  knownOptions(name, given, ['address', 'port', 'family']);
  return destination(given.address, given.port, `${name}.`);
}
