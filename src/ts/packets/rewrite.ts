import { invalidArgValue } from '../support/errors';
import { integer } from '../support/options';
import { asBuffer, ipBytes } from './address';
import { internetChecksum, internetSum, pseudoHeaderSum } from './checksum';
import {
  type IpPacket,
  PROTOCOL_ICMP,
  PROTOCOL_ICMPV6,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  readIp,
  writeIpv4Checksum,
} from './ip';

/** Where a transport has its checksum, and how much of its header there must be. */
const CHECKSUMS = new Map([
  [PROTOCOL_ICMP, { at: 2, header: 8 }],
  [PROTOCOL_TCP, { at: 16, header: 20 }],
  [PROTOCOL_UDP, { at: 6, header: 8 }],
  [PROTOCOL_ICMPV6, { at: 2, header: 8 }],
]);

/** The place of the transport's checksum in a packet that is whole: no fragment, and not cut. */
function transportChecksum(ip: IpPacket): number | undefined {
  const place = CHECKSUMS.get(ip.protocol);
  const whole =
    ip.fragmentOffset === 0 && !ip.moreFragments && ip.payload.length === ip.length - ip.headerLength;
  return place === undefined || !whole || ip.payload.length < place.header ? undefined : place.at;
}

/** The sum of what a transport's checksum covers beside its own bytes. */
function pseudoSum(ip: IpPacket): number {
  if (ip.protocol === PROTOCOL_ICMP) return 0;
  return pseudoHeaderSum(ipBytes(ip.source), ipBytes(ip.destination), ip.protocol, ip.payload.length);
}

/**
 * Makes the checksums of an IP packet anew, in place: that of an IPv4 header, and that of ICMP, ICMPv6, TCP or UDP in a packet that is whole.
 *
 * @returns false where the bytes are no IP packet.
 */
export function writeChecksums(packet: Uint8Array): boolean {
  const bytes = asBuffer(packet);
  const ip = readIp(bytes);
  if (ip === undefined) return false;
  if (ip.version === 4) writeIpv4Checksum(bytes, ip.headerLength);
  const at = transportChecksum(ip);
  if (at === undefined) return true;
  ip.payload.writeUInt16BE(0, at);
  const checksum = internetChecksum(ip.payload, pseudoSum(ip));
  ip.payload.writeUInt16BE(ip.protocol === PROTOCOL_UDP ? checksum || 0xffff : checksum, at);
  return true;
}

/**
 * Whether the checksums of an IP packet are right: that of an IPv4 header, and that of ICMP, ICMPv6, TCP or UDP in a packet that is whole. A
 * UDP datagram over IPv4 may have none. False where the bytes are no IP packet.
 */
export function checksumsRight(packet: Uint8Array): boolean {
  const bytes = asBuffer(packet);
  const ip = readIp(bytes);
  if (ip === undefined) return false;
  if (ip.version === 4 && internetChecksum(bytes.subarray(0, ip.headerLength)) !== 0) return false;
  const at = transportChecksum(ip);
  if (at === undefined) return true;
  if (ip.protocol === PROTOCOL_UDP && ip.payload.readUInt16BE(at) === 0) return ip.version === 4;
  return internetSum(ip.payload, pseudoSum(ip)) === 0xffff;
}

/** What rewriteEndpoints() changes; what is left out stays. */
export interface EndpointChanges {
  source?: string | undefined;
  destination?: string | undefined;
  /** Of TCP and UDP; of an ICMP or ICMPv6 echo its identifier, whichever of the two ports is given. */
  sourcePort?: number | undefined;
  destinationPort?: number | undefined;
}

/**
 * Gives a packet other addresses and ports, in place, and makes its checksums right again by the difference alone (RFC 1624): so a
 * payload that was damaged stays so for its receiver to see.
 *
 * @returns false, and leaves the packet alone, where the bytes are no IP packet.
 * @throws TypeError for an address of the other version.
 */
export function rewriteEndpoints(packet: Uint8Array, changes: EndpointChanges): boolean {
  const bytes = asBuffer(packet);
  const ip = readIp(bytes);
  if (ip === undefined) return false;
  const size = ip.version === 4 ? 4 : 16;
  const first = ip.version === 4 ? 12 : 8;
  const edits: { at: number; value: Buffer; inPseudoHeader: boolean }[] = [];
  for (const [name, at] of [
    ['source', first],
    ['destination', first + size],
  ] as const) {
    if (changes[name] === undefined) continue;
    const value = ipBytes(changes[name]);
    if (value.length !== size) throw invalidArgValue(name, `an IPv${ip.version} address`, changes[name]);
    edits.push({ at, value, inPseudoHeader: true });
  }
  const starts = ip.fragmentOffset === 0;
  const place = starts ? CHECKSUMS.get(ip.protocol) : undefined;
  const present = place !== undefined && ip.payload.length >= place.header;
  if (present) {
    const echo = ip.protocol === PROTOCOL_ICMP || ip.protocol === PROTOCOL_ICMPV6;
    for (const [name, at] of [
      ['sourcePort', echo ? 4 : 0],
      ['destinationPort', echo ? 4 : 2],
    ] as const) {
      if (changes[name] === undefined) continue;
      const value = Buffer.allocUnsafe(2);
      value.writeUInt16BE(integer(name, changes[name], 0, 0xffff));
      edits.push({ at: ip.headerLength + at, value, inPseudoHeader: false });
    }
  }
  let [difference, addressDifference] = [0, 0];
  for (const { at, value, inPseudoHeader } of edits) {
    const before = internetSum(bytes.subarray(at, at + value.length));
    const change = internetSum(value, ~before & 0xffff);
    value.copy(bytes, at);
    if (inPseudoHeader) addressDifference = added(addressDifference, change);
    if (!inPseudoHeader || ip.protocol !== PROTOCOL_ICMP) difference = added(difference, change);
  }
  if (ip.version === 4) adjust(bytes, 10, addressDifference);
  if (present) {
    const at = ip.headerLength + place.at;
    const none = ip.protocol === PROTOCOL_UDP && bytes.readUInt16BE(at) === 0;
    if (!none) adjust(bytes, at, difference);
    if (!none && ip.protocol === PROTOCOL_UDP && bytes.readUInt16BE(at) === 0)
      bytes.writeUInt16BE(0xffff, at);
  }
  return true;
}

function added(a: number, b: number): number {
  const sum = a + b;
  return (sum & 0xffff) + (sum >>> 16);
}

/** HC' = ~(~HC + difference). */
function adjust(bytes: Buffer, at: number, difference: number): void {
  if (difference === 0) return;
  bytes.writeUInt16BE(~added(~bytes.readUInt16BE(at) & 0xffff, difference) & 0xffff, at);
}
