/**
 * Just enough of Ethernet, ARP, IPv4, IPv6, ICMP, UDP and TCP for the examples: RFC 826, RFC 791, RFC 8200, RFC 792,
 * RFC 4443, RFC 768, RFC 9293.
 */

export const ICMP = 1;
export const TCP = 6;
export const UDP = 17;
export const ICMPV6 = 58;

const ECHO_REQUEST = new Map([
  [ICMP, 8],
  [ICMPV6, 128],
]);
const ECHO_REPLY = new Map([
  [ICMP, 0],
  [ICMPV6, 129],
]);

/** Where the parts of an IP packet without extension headers are. */
export interface Layout {
  version: 4 | 6;
  protocol: number;
  /** Where the payload starts. */
  header: number;
  source: Buffer;
  destination: Buffer;
}

/** The layout of a packet; undefined where it is neither IPv4 nor IPv6, or too short. */
export function layoutOf(packet: Buffer): Layout | undefined {
  const version = packet.length > 0 ? packet.readUInt8(0) >> 4 : 0;
  if (version === 4 && packet.length >= 20) {
    const header = (packet.readUInt8(0) & 15) * 4;
    return {
      version,
      protocol: packet.readUInt8(9),
      header,
      source: packet.subarray(12, 16),
      destination: packet.subarray(16, 20),
    };
  }
  if (version === 6 && packet.length >= 40) {
    return {
      version,
      protocol: packet.readUInt8(6),
      header: 40,
      source: packet.subarray(8, 24),
      destination: packet.subarray(24, 40),
    };
  }
  return undefined;
}

/** The internet checksum of several pieces, all but the last of even length (RFC 1071). */
export function checksum(...pieces: Buffer[]): number {
  let sum = 0;
  for (const piece of pieces) {
    for (let at = 0; at + 1 < piece.length; at += 2) sum += piece.readUInt16BE(at);
    if (piece.length % 2 === 1) sum += piece.readUInt8(piece.length - 1) << 8;
  }
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

/** The words that UDP and ICMPv6 sum up beside their own bytes. */
export function pseudoHeader(source: Buffer, destination: Buffer, protocol: number, length: number): Buffer {
  const tail = Buffer.alloc(4);
  tail.writeUInt16BE(length, 0);
  tail.writeUInt16BE(protocol, 2);
  return Buffer.concat([source, destination, tail]);
}

/** The reply to an echo request, IPv4 or IPv6; undefined for every other packet. */
export function echoReply(request: Buffer): Buffer | undefined {
  const layout = layoutOf(request);
  if (layout === undefined || request.length < layout.header + 8) return undefined;
  const { protocol, header } = layout;
  if (request.readUInt8(header) !== ECHO_REQUEST.get(protocol)) return undefined;

  const reply = Buffer.from(request);
  const { source, destination } = layoutOf(reply) as Layout;
  layout.destination.copy(source);
  layout.source.copy(destination);
  reply.writeUInt8(ECHO_REPLY.get(protocol) as number, header);
  reply.writeUInt16BE(0, header + 2);
  const message = reply.subarray(header);
  const pseudo = protocol === ICMPV6 ? [pseudoHeader(source, destination, protocol, message.length)] : [];
  reply.writeUInt16BE(checksum(...pseudo, message), header + 2);
  return reply;
}

/** One end of a datagram or connection; the address has four bytes. */
export interface Endpoint {
  address: Buffer;
  port: number;
}

/** An IPv4 packet around `payload`. */
export function ipv4Packet(protocol: number, source: Buffer, destination: Buffer, payload: Buffer): Buffer {
  const ip = Buffer.alloc(20);
  ip.writeUInt8(0x45, 0);
  ip.writeUInt16BE(20 + payload.length, 2);
  ip.writeUInt8(64, 8);
  ip.writeUInt8(protocol, 9);
  source.copy(ip, 12);
  destination.copy(ip, 16);
  ip.writeUInt16BE(checksum(ip), 10);
  return Buffer.concat([ip, payload]);
}

/** An IPv4 packet with a UDP datagram in it. */
export function udpPacket(from: Endpoint, to: Endpoint, payload: Buffer): Buffer {
  const udp = Buffer.alloc(8);
  udp.writeUInt16BE(from.port, 0);
  udp.writeUInt16BE(to.port, 2);
  udp.writeUInt16BE(8 + payload.length, 4);
  const pseudo = pseudoHeader(from.address, to.address, UDP, 8 + payload.length);
  udp.writeUInt16BE(checksum(pseudo, udp, payload) || 0xffff, 6);
  return ipv4Packet(UDP, from.address, to.address, Buffer.concat([udp, payload]));
}

/** Flags of a TCP segment. */
export const SYN = 0x02;
export const RST = 0x04;
export const ACK = 0x10;

/** An IPv4 packet with a TCP segment without data in it. */
export function tcpPacket(from: Endpoint, to: Endpoint, flags: number, sequence: number): Buffer {
  const tcp = Buffer.alloc(20);
  tcp.writeUInt16BE(from.port, 0);
  tcp.writeUInt16BE(to.port, 2);
  tcp.writeUInt32BE(sequence, 4);
  tcp.writeUInt8(5 << 4, 12);
  tcp.writeUInt8(flags, 13);
  tcp.writeUInt16BE(0xffff, 14);
  tcp.writeUInt16BE(checksum(pseudoHeader(from.address, to.address, TCP, tcp.length), tcp), 16);
  return ipv4Packet(TCP, from.address, to.address, tcp);
}

/** An IPv4 packet with an ICMP echo request in it. */
export function echoRequest(source: Buffer, destination: Buffer, id: number, payload: Buffer): Buffer {
  const icmp = Buffer.alloc(8);
  icmp.writeUInt8(ECHO_REQUEST.get(ICMP) as number, 0);
  icmp.writeUInt16BE(id, 4);
  icmp.writeUInt16BE(checksum(icmp, payload), 2);
  return ipv4Packet(ICMP, source, destination, Buffer.concat([icmp, payload]));
}

export const ETHERTYPE_IPV4 = 0x0800;
export const ETHERTYPE_ARP = 0x0806;
export const ETHERNET_HEADER = 14;

/** An Ethernet frame; hardware addresses have six bytes. */
export function ethernetFrame(destination: Buffer, source: Buffer, type: number, payload: Buffer): Buffer {
  const header = Buffer.concat([destination, source, Buffer.alloc(2)]);
  header.writeUInt16BE(type, 12);
  return Buffer.concat([header, payload]);
}

/** Who has `target`? Tell `source`. */
export function arpRequest(mac: Buffer, source: Buffer, target: Buffer): Buffer {
  // Ethernet (1), IPv4 (0x0800), lengths 6 and 4, request (1).
  const head = Buffer.from([0, 1, 8, 0, 6, 4, 0, 1]);
  const body = Buffer.concat([head, mac, source, Buffer.alloc(6), target]);
  return ethernetFrame(Buffer.alloc(6, 0xff), mac, ETHERTYPE_ARP, body);
}

/** The bytes of '02:00:00:00:00:01'. */
export function macBytes(text: string): Buffer {
  return Buffer.from(text.replaceAll(':', ''), 'hex');
}

/** The same packet one hop on (RFC 1812, 5.3.1): its time to live is one less; undefined where it has run out. */
export function forwarded(packet: Buffer): Buffer | undefined {
  const layout = layoutOf(packet);
  if (layout?.version !== 4 || packet.readUInt8(8) <= 1) return undefined;
  packet.writeUInt8(packet.readUInt8(8) - 1, 8);
  packet.writeUInt16BE(0, 10);
  packet.writeUInt16BE(checksum(packet.subarray(0, layout.header)), 10);
  return packet;
}

const NAMES = new Map([
  [ICMP, 'ICMP'],
  [TCP, 'TCP'],
  [UDP, 'UDP'],
  [ICMPV6, 'ICMPv6'],
]);

/** One readable line about a packet. */
export function describePacket(packet: Buffer): string {
  const layout = layoutOf(packet);
  if (layout === undefined) return `${packet.length} bytes that are no IP packet`;
  const name = NAMES.get(layout.protocol) ?? `protocol ${layout.protocol}`;
  const type = name.startsWith('ICMP') ? ` type ${packet.readUInt8(layout.header)}` : '';
  return `${addressText(layout.source)} > ${addressText(layout.destination)} ${name}${type}, ${packet.length} bytes`;
}

function addressText(address: Buffer): string {
  if (address.length === 4) return [...address].join('.');
  const words = Array.from({ length: 8 }, (_, index) => address.readUInt16BE(index * 2).toString(16));
  return words
    .join(':')
    .replace(/\b0(:0)+\b/, ':')
    .replace(/:{3,}/, '::');
}
