import { integer } from '../support/options';
import { asBuffer } from './address';
import { internetChecksum, pseudoHeaderSum } from './checksum';
import { addressPair, ipPacket, PROTOCOL_ICMP, PROTOCOL_ICMPV6, readIp } from './ip';
import type { IpFields } from './transport';

/** Types of ICMP (RFC 792) and ICMPv6 (RFC 4443) messages. */
export const ICMP_ECHO_REPLY = 0;
export const ICMP_UNREACHABLE = 3;
export const ICMP_ECHO_REQUEST = 8;
export const ICMP_TIME_EXCEEDED = 11;
export const ICMPV6_UNREACHABLE = 1;
export const ICMPV6_TOO_BIG = 2;
export const ICMPV6_TIME_EXCEEDED = 3;
export const ICMPV6_ECHO_REQUEST = 128;
export const ICMPV6_ECHO_REPLY = 129;

const HEADER = 8;

/** An ICMP or ICMPv6 message. */
export interface IcmpMessage {
  type: number;
  code: number;
  checksum: number;
  /** The four bytes behind the checksum: of an echo, identifier and sequence; of 'too big', the mtu. */
  rest: number;
  /** A view of what follows; of an error, the start of the packet that it is about. */
  payload: Buffer;
}

/** Reads an ICMP or ICMPv6 message, the payload of an IP packet; undefined where it is too short. */
export function readIcmp(payload: Uint8Array): IcmpMessage | undefined {
  const bytes = asBuffer(payload);
  if (bytes.length < HEADER) return undefined;
  return {
    type: bytes[0] as number,
    code: bytes[1] as number,
    checksum: bytes.readUInt16BE(2),
    rest: bytes.readUInt32BE(4),
    payload: bytes.subarray(HEADER),
  };
}

/** What icmpPacket() puts into the header. */
export interface IcmpFields {
  source: string;
  destination: string;
  /** Of ICMP or ICMPv6, by the addresses. */
  type: number;
  /** Default 0. */
  code?: number | undefined;
  /** The four bytes behind the checksum. Default 0. */
  rest?: number | undefined;
}

/**
 * An ICMP message, or between IPv6 addresses an ICMPv6 message, in an IP packet, with its checksums.
 *
 * @throws TypeError for addresses that are none, or of two versions; RangeError for what does not fit its field.
 */
export function icmpPacket(
  fields: IcmpFields,
  payload: Uint8Array = new Uint8Array(),
  ip: IpFields = {},
): Buffer {
  const { source, destination } = fields;
  const [from, to] = addressPair(source, destination);
  const header = Buffer.alloc(HEADER);
  header.writeUInt8(integer('type', fields.type, 0, 255), 0);
  header.writeUInt8(integer('code', fields.code ?? 0, 0, 255), 1);
  header.writeUInt32BE(integer('rest', fields.rest ?? 0, 0, 0xffffffff), 4);
  const message = Buffer.concat([header, payload]);
  const six = from.length === 16;
  const protocol = six ? PROTOCOL_ICMPV6 : PROTOCOL_ICMP;
  const pseudo = six ? pseudoHeaderSum(from, to, protocol, message.length) : 0;
  message.writeUInt16BE(internetChecksum(message, pseudo), 2);
  return ipPacket({ ...ip, source, destination, protocol }, message);
}

/** An echo request, IPv4 or IPv6, by the addresses; `id` and `sequence` are 0 to 65535. */
export function echoRequest(
  source: string,
  destination: string,
  echo: { id: number; sequence: number },
  payload: Uint8Array = new Uint8Array(),
): Buffer {
  const type = source.includes(':') ? ICMPV6_ECHO_REQUEST : ICMP_ECHO_REQUEST;
  const id = integer('id', echo.id, 0, 0xffff);
  const rest = id * 0x10000 + integer('sequence', echo.sequence, 0, 0xffff);
  return icmpPacket({ source, destination, type, rest }, payload);
}

/** The reply to an echo request, IPv4 or IPv6; undefined for every other packet, and for a fragment. */
export function echoReply(request: Uint8Array): Buffer | undefined {
  const ip = readIp(request);
  if (ip === undefined || ip.fragmentOffset > 0 || ip.moreFragments) return undefined;
  const six = ip.version === 6;
  const message = ip.protocol === (six ? PROTOCOL_ICMPV6 : PROTOCOL_ICMP) ? readIcmp(ip.payload) : undefined;
  if (message?.type !== (six ? ICMPV6_ECHO_REQUEST : ICMP_ECHO_REQUEST)) return undefined;
  return icmpPacket(
    {
      source: ip.destination,
      destination: ip.source,
      type: six ? ICMPV6_ECHO_REPLY : ICMP_ECHO_REPLY,
      rest: message.rest,
    },
    message.payload,
  );
}
