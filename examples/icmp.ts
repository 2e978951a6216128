/** Just enough of IPv4, IPv6, ICMP and UDP for the examples: RFC 791, RFC 8200, RFC 792, RFC 4443, RFC 768. */

export const ICMP = 1;
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

/** An IPv4 packet with a UDP datagram in it. Addresses have four bytes, ports are numbers. */
export function udpPacket(
  from: { address: Buffer; port: number },
  to: { address: Buffer; port: number },
  payload: Buffer,
): Buffer {
  const udp = Buffer.alloc(8);
  udp.writeUInt16BE(from.port, 0);
  udp.writeUInt16BE(to.port, 2);
  udp.writeUInt16BE(8 + payload.length, 4);
  const pseudo = pseudoHeader(from.address, to.address, UDP, 8 + payload.length);
  udp.writeUInt16BE(checksum(pseudo, udp, payload) || 0xffff, 6);

  const ip = Buffer.alloc(20);
  ip.writeUInt8(0x45, 0);
  ip.writeUInt16BE(28 + payload.length, 2);
  ip.writeUInt8(64, 8);
  ip.writeUInt8(UDP, 9);
  from.address.copy(ip, 12);
  to.address.copy(ip, 16);
  ip.writeUInt16BE(checksum(ip), 10);
  return Buffer.concat([ip, udp, payload]);
}

const NAMES = new Map([
  [ICMP, 'ICMP'],
  [6, 'TCP'],
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
