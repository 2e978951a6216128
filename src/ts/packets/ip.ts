import { invalidArgValue, outOfRange } from '../support/errors';
import { integer } from '../support/options';
import { asBuffer, ipBytes, ipText } from './address';
import { internetChecksum } from './checksum';

/** Protocol numbers (IANA, RFC 5237). */
export const PROTOCOL_ICMP = 1;
export const PROTOCOL_TCP = 6;
export const PROTOCOL_UDP = 17;
export const PROTOCOL_ICMPV6 = 58;

const IPV4_HEADER = 20;
const IPV6_HEADER = 40;
const MAX_IPV4 = 0xffff;

/** Extension headers with a length in units of 8 bytes (RFC 8200, 4): hop-by-hop, routing, destination options, mobility, HIP, shim6. */
const EXTENSIONS = new Set([0, 43, 60, 135, 139, 140]);
const FRAGMENT = 44;
const AUTHENTICATION = 51;
/** More than any real packet has. */
const MAX_EXTENSIONS = 16;

/** An IP packet that was read: IPv4 (RFC 791) or IPv6 (RFC 8200). */
export interface IpPacket {
  version: 4 | 6;
  source: string;
  destination: string;
  /** Of the payload; of IPv6 behind its extension headers. */
  protocol: number;
  /** Time to live, or hop limit. */
  ttl: number;
  /** Differentiated services, 0 to 63 (RFC 2474). */
  dscp: number;
  /** Explicit congestion notification, 0 to 3 (RFC 3168). */
  ecn: number;
  /** What a fragment belongs to; 0 for an IPv6 packet that is none. */
  id: number;
  /** Where a fragment's payload stands in the whole, in bytes. */
  fragmentOffset: number;
  moreFragments: boolean;
  /** Of IPv4. */
  dontFragment: boolean;
  /** Of IPv6: 0 to 1048575. */
  flowLabel: number;
  /** Bytes before the payload, with options and extension headers. */
  headerLength: number;
  /** The whole packet's bytes as its header tells: more than are there when the packet was cut; padding does not count. */
  length: number;
  /** A view of what follows the headers, without padding. */
  payload: Buffer;
}

/** Reads an IP packet; undefined where the bytes are none, or end within its headers. The checksum isn't looked at: checksumsRight() does. */
export function readIp(packet: Uint8Array): IpPacket | undefined {
  const bytes = asBuffer(packet);
  if (bytes.length < IPV4_HEADER) return undefined;
  const version = (bytes[0] as number) >> 4;
  if (version === 4) return readIpv4(bytes);
  return version === 6 && bytes.length >= IPV6_HEADER ? readIpv6(bytes) : undefined;
}

function readIpv4(bytes: Buffer): IpPacket | undefined {
  const headerLength = ((bytes[0] as number) & 15) * 4;
  const length = bytes.readUInt16BE(2);
  if (headerLength < IPV4_HEADER || length < headerLength || bytes.length < headerLength) return undefined;
  const fragment = bytes.readUInt16BE(6);
  return {
    version: 4,
    source: ipText(bytes.subarray(12, 16)),
    destination: ipText(bytes.subarray(16, 20)),
    protocol: bytes[9] as number,
    ttl: bytes[8] as number,
    dscp: (bytes[1] as number) >> 2,
    ecn: (bytes[1] as number) & 3,
    id: bytes.readUInt16BE(4),
    fragmentOffset: (fragment & 0x1fff) * 8,
    moreFragments: (fragment & 0x2000) !== 0,
    dontFragment: (fragment & 0x4000) !== 0,
    flowLabel: 0,
    headerLength,
    length,
    payload: bytes.subarray(headerLength, length),
  };
}

function readIpv6(bytes: Buffer): IpPacket | undefined {
  const length = IPV6_HEADER + bytes.readUInt16BE(4);
  const first = bytes.readUInt32BE(0);
  let [protocol, at] = [bytes[6] as number, IPV6_HEADER];
  let [id, fragmentOffset, moreFragments] = [0, 0, false];
  for (let count = 0; count < MAX_EXTENSIONS && fragmentOffset === 0; count++) {
    const known = EXTENSIONS.has(protocol) || protocol === FRAGMENT || protocol === AUTHENTICATION;
    if (!known) break;
    if (at + 8 > Math.min(bytes.length, length)) return undefined;
    const [kind, words] = [protocol, bytes[at + 1] as number];
    protocol = bytes[at] as number;
    if (kind === FRAGMENT) {
      const field = bytes.readUInt16BE(at + 2);
      [id, fragmentOffset, moreFragments] = [bytes.readUInt32BE(at + 4), field & 0xfff8, (field & 1) !== 0];
    }
    // The authentication header alone counts in units of 4 (RFC 4302, 2.2).
    at += kind === FRAGMENT ? 8 : kind === AUTHENTICATION ? (words + 2) * 4 : (words + 1) * 8;
  }
  if (at > Math.min(bytes.length, length)) return undefined;
  return {
    version: 6,
    source: ipText(bytes.subarray(8, 24)),
    destination: ipText(bytes.subarray(24, 40)),
    protocol,
    ttl: bytes[7] as number,
    dscp: (first >>> 22) & 63,
    ecn: (first >>> 20) & 3,
    id,
    fragmentOffset,
    moreFragments,
    dontFragment: false,
    flowLabel: first & 0xfffff,
    headerLength: at,
    length,
    payload: bytes.subarray(at, length),
  };
}

/** What ipPacket() puts before a payload; the version is that of the addresses. */
export interface IpHeader {
  source: string;
  destination: string;
  /** Of the payload. */
  protocol: number;
  /** Time to live, or hop limit: 0 to 255. Default 64. */
  ttl?: number | undefined;
  /** 0 to 63. Default 0. */
  dscp?: number | undefined;
  /** 0 to 3. Default 0. */
  ecn?: number | undefined;
  /** Of IPv4: 0 to 65535. Default 0. */
  id?: number | undefined;
  /** Of IPv4. Default false. */
  dontFragment?: boolean | undefined;
  /** Of IPv6: 0 to 1048575. Default 0. */
  flowLabel?: number | undefined;
}

/**
 * An IP packet around `payload`, which is copied; without options and extension headers, IPv4 with its header's checksum.
 *
 * @throws TypeError for addresses that are none, or of two versions; RangeError for what does not fit its field or the packet.
 */
export function ipPacket(header: IpHeader, payload: Uint8Array): Buffer {
  const [source, destination] = addressPair(header.source, header.destination);
  const traffic = (integer('dscp', header.dscp ?? 0, 0, 63) << 2) | integer('ecn', header.ecn ?? 0, 0, 3);
  const protocol = integer('protocol', header.protocol, 0, 255);
  const ttl = integer('ttl', header.ttl ?? 64, 0, 255);
  if (source.length === 16) {
    const fixed = Buffer.allocUnsafe(8);
    fixed.writeUInt32BE(
      0x60000000 + traffic * 0x100000 + integer('flowLabel', header.flowLabel ?? 0, 0, 0xfffff),
      0,
    );
    fixed.writeUInt16BE(fitting(payload.length, 0xffff), 4);
    fixed.writeUInt8(protocol, 6);
    fixed.writeUInt8(ttl, 7);
    return Buffer.concat([fixed, source, destination, payload]);
  }
  const fixed = Buffer.allocUnsafe(IPV4_HEADER);
  fixed.writeUInt8(0x45, 0);
  fixed.writeUInt8(traffic, 1);
  fixed.writeUInt16BE(IPV4_HEADER + fitting(payload.length, MAX_IPV4 - IPV4_HEADER), 2);
  fixed.writeUInt16BE(integer('id', header.id ?? 0, 0, 0xffff), 4);
  fixed.writeUInt16BE(header.dontFragment === true ? 0x4000 : 0, 6);
  fixed.writeUInt8(ttl, 8);
  fixed.writeUInt8(protocol, 9);
  fixed.writeUInt16BE(0, 10);
  source.copy(fixed, 12);
  destination.copy(fixed, 16);
  fixed.writeUInt16BE(internetChecksum(fixed), 10);
  return Buffer.concat([fixed, payload]);
}

/** The bytes of two addresses of one version. @internal */
export function addressPair(source: string, destination: string): [Buffer, Buffer] {
  const [from, to] = [ipBytes(source), ipBytes(destination)];
  if (from.length !== to.length) {
    throw invalidArgValue('destination', `an address of the same version as ${source}`, destination);
  }
  return [from, to];
}

function fitting(size: number, most: number): number {
  if (size > most) throw outOfRange('payload', `at most ${most} bytes long`, size);
  return size;
}

/**
 * Makes a packet ready for its next hop, in place: its time to live, or hop limit, is one less (RFC 1812, 5.3.1).
 *
 * @returns false, and leaves the packet alone, where that has run out or the bytes are no IP packet.
 */
export function forwardHop(packet: Uint8Array): boolean {
  const bytes = asBuffer(packet);
  const ip = readIp(bytes);
  if (ip === undefined || ip.ttl <= 1) return false;
  bytes.writeUInt8(ip.ttl - 1, ip.version === 4 ? 8 : 7);
  if (ip.version === 4) writeIpv4Checksum(bytes, ip.headerLength);
  return true;
}

/** @internal */
export function writeIpv4Checksum(bytes: Buffer, headerLength: number): void {
  bytes.writeUInt16BE(0, 10);
  bytes.writeUInt16BE(internetChecksum(bytes.subarray(0, headerLength)), 10);
}
