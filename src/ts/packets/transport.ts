import { invalidArgValue } from '../support/errors';
import { integer } from '../support/options';
import { asBuffer } from './address';
import { internetChecksum, pseudoHeaderSum } from './checksum';
import { addressPair, type IpHeader, ipPacket, PROTOCOL_TCP, PROTOCOL_UDP } from './ip';

const UDP_HEADER = 8;
const TCP_HEADER = 20;
const MAX_TCP_OPTIONS = 40;

/** Flags of a TCP segment (RFC 9293, 3.1). */
export const TCP_FIN = 0x01;
export const TCP_SYN = 0x02;
export const TCP_RST = 0x04;
export const TCP_PSH = 0x08;
export const TCP_ACK = 0x10;
export const TCP_URG = 0x20;
export const TCP_ECE = 0x40;
export const TCP_CWR = 0x80;

/** One end of a datagram or connection. */
export interface Endpoint {
  address: string;
  /** 0 to 65535. */
  port: number;
}

/** Fields of the IP header that a packet's maker may choose: see IpHeader. */
export type IpFields = Omit<IpHeader, 'source' | 'destination' | 'protocol'>;

/** A UDP datagram (RFC 768). */
export interface UdpDatagram {
  sourcePort: number;
  destinationPort: number;
  /** Bytes of header and payload, as the header tells. */
  length: number;
  /** 0: the sender made none. */
  checksum: number;
  /** A view of it. */
  payload: Buffer;
}

/** Reads a UDP datagram, the payload of an IP packet; undefined where it is too short, or its length makes no sense. */
export function readUdp(payload: Uint8Array): UdpDatagram | undefined {
  const bytes = asBuffer(payload);
  if (bytes.length < UDP_HEADER) return undefined;
  const length = bytes.readUInt16BE(4);
  if (length < UDP_HEADER) return undefined;
  return {
    sourcePort: bytes.readUInt16BE(0),
    destinationPort: bytes.readUInt16BE(2),
    length,
    checksum: bytes.readUInt16BE(6),
    payload: bytes.subarray(UDP_HEADER, length),
  };
}

/**
 * A UDP datagram in an IP packet, with its checksums.
 *
 * @throws TypeError for addresses that are none, or of two versions; RangeError for what does not fit its field.
 */
export function udpPacket(from: Endpoint, to: Endpoint, payload: Uint8Array, ip: IpFields = {}): Buffer {
  const udp = Buffer.allocUnsafe(UDP_HEADER);
  writePorts(udp, from, to);
  udp.writeUInt16BE(integer('payload.length', payload.length, 0, 0xffff - UDP_HEADER) + UDP_HEADER, 4);
  udp.writeUInt16BE(0, 6);
  return transportPacket(PROTOCOL_UDP, from, to, Buffer.concat([udp, payload]), 6, ip);
}

/** A TCP segment (RFC 9293). */
export interface TcpSegment {
  sourcePort: number;
  destinationPort: number;
  sequence: number;
  acknowledgement: number;
  /** Bits: TCP_SYN and others. */
  flags: number;
  /** As it stands in the header, not scaled. */
  window: number;
  urgent: number;
  checksum: number;
  /** A view of them, as they are; empty without. */
  options: Buffer;
  /** A view of it. */
  payload: Buffer;
}

/** Reads a TCP segment, the payload of an IP packet; undefined where it is too short for its header. */
export function readTcp(payload: Uint8Array): TcpSegment | undefined {
  const bytes = asBuffer(payload);
  if (bytes.length < TCP_HEADER) return undefined;
  const header = ((bytes[12] as number) >> 4) * 4;
  if (header < TCP_HEADER || bytes.length < header) return undefined;
  return {
    sourcePort: bytes.readUInt16BE(0),
    destinationPort: bytes.readUInt16BE(2),
    sequence: bytes.readUInt32BE(4),
    acknowledgement: bytes.readUInt32BE(8),
    flags: bytes[13] as number,
    window: bytes.readUInt16BE(14),
    checksum: bytes.readUInt16BE(16),
    urgent: bytes.readUInt16BE(18),
    options: bytes.subarray(TCP_HEADER, header),
    payload: bytes.subarray(header),
  };
}

/** What tcpPacket() puts into the header beside the ports. */
export interface TcpFields {
  /** 0 to 4294967295. */
  sequence: number;
  /** Default 0. */
  acknowledgement?: number | undefined;
  /** Bits: TCP_SYN and others. */
  flags: number;
  /** 0 to 65535. Default 65535. */
  window?: number | undefined;
  /** Default 0. */
  urgent?: number | undefined;
  /** At most 40 bytes, a multiple of 4. Default none. */
  options?: Uint8Array | undefined;
}

/**
 * A TCP segment in an IP packet, with its checksums.
 *
 * @throws TypeError for addresses that are none, or of two versions; RangeError for what does not fit its field.
 */
export function tcpPacket(
  from: Endpoint,
  to: Endpoint,
  fields: TcpFields,
  payload: Uint8Array = new Uint8Array(),
  ip: IpFields = {},
): Buffer {
  const { sequence, acknowledgement = 0, flags, window = 0xffff, urgent = 0 } = fields;
  const options = fields.options ?? new Uint8Array();
  if (options.length > MAX_TCP_OPTIONS || options.length % 4 !== 0) {
    throw invalidArgValue(
      'options',
      `at most ${MAX_TCP_OPTIONS} bytes, a multiple of 4`,
      `${options.length} bytes`,
    );
  }
  const tcp = Buffer.allocUnsafe(TCP_HEADER);
  writePorts(tcp, from, to);
  tcp.writeUInt32BE(integer('sequence', sequence, 0, 0xffffffff), 4);
  tcp.writeUInt32BE(integer('acknowledgement', acknowledgement, 0, 0xffffffff), 8);
  tcp.writeUInt8(((TCP_HEADER + options.length) / 4) << 4, 12);
  tcp.writeUInt8(integer('flags', flags, 0, 0xff), 13);
  tcp.writeUInt16BE(integer('window', window, 0, 0xffff), 14);
  tcp.writeUInt16BE(0, 16);
  tcp.writeUInt16BE(integer('urgent', urgent, 0, 0xffff), 18);
  return transportPacket(PROTOCOL_TCP, from, to, Buffer.concat([tcp, options, payload]), 16, ip);
}

function writePorts(header: Buffer, from: Endpoint, to: Endpoint): void {
  header.writeUInt16BE(integer('from.port', from.port, 0, 0xffff), 0);
  header.writeUInt16BE(integer('to.port', to.port, 0, 0xffff), 2);
}

/** `message` has 0 in its checksum's place. */
function transportPacket(
  protocol: number,
  { address: source }: Endpoint,
  { address: destination }: Endpoint,
  message: Buffer,
  checksumAt: number,
  ip: IpFields,
): Buffer {
  const pseudo = pseudoHeaderSum(...addressPair(source, destination), protocol, message.length);
  const checksum = internetChecksum(message, pseudo);
  // 0 would say that there is none (RFC 768).
  message.writeUInt16BE(protocol === PROTOCOL_UDP ? checksum || 0xffff : checksum, checksumAt);
  return ipPacket({ ...ip, source, destination, protocol }, message);
}
