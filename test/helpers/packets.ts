import { isIPv6 } from 'node:net';

/** Packets for tests, with right checksums; RFC 791, RFC 8200, RFC 768, RFC 1071. */

export const TCP = 6;
export const UDP = 17;

/** The bytes of an IPv4 address, or of an IPv6 address (one '::' at most). */
export function addressBytes(text: string): Buffer {
  if (!isIPv6(text)) return Buffer.from(text.split('.').map(Number));
  const [head = '', tail] = text.split('::');
  const words = (part: string) =>
    part === '' ? [] : part.split(':').map((word) => Number.parseInt(word, 16));
  const first = words(head);
  const last = tail === undefined ? [] : words(tail);
  const bytes = Buffer.alloc(16);
  first.forEach((word, index) => void bytes.writeUInt16BE(word, index * 2));
  last.forEach((word, index) => void bytes.writeUInt16BE(word, 16 - (last.length - index) * 2));
  return bytes;
}

export function checksum(bytes: Buffer): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at++) sum += (bytes[at] as number) << (at % 2 === 0 ? 8 : 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

/** An IP packet around `payload`; `id` is IPv4's. */
export function ipPacket(
  protocol: number,
  source: string,
  destination: string,
  payload: Buffer,
  id = 0,
): Buffer {
  const [from, to] = [addressBytes(source), addressBytes(destination)];
  if (from.length === 16) {
    const header = Buffer.alloc(8);
    header.writeUInt8(0x60, 0);
    header.writeUInt16BE(payload.length, 4);
    header.writeUInt8(protocol, 6);
    header.writeUInt8(64, 7);
    return Buffer.concat([header, from, to, payload]);
  }
  const header = Buffer.concat([Buffer.alloc(12), from, to]);
  header.writeUInt8(0x45, 0);
  header.writeUInt16BE(20 + payload.length, 2);
  header.writeUInt16BE(id, 4);
  header.writeUInt8(64, 8);
  header.writeUInt8(protocol, 9);
  header.writeUInt16BE(checksum(header), 10);
  return Buffer.concat([header, payload]);
}

/** The folded sum of what TCP and UDP put before their header for the checksum's sake. */
function pseudoSum(protocol: number, from: string, to: string, length: number): number {
  const pseudo = Buffer.alloc(8);
  pseudo.writeUInt32BE(length, 0);
  pseudo.writeUInt32BE(protocol, 4);
  return ~checksum(Buffer.concat([addressBytes(from), addressBytes(to), pseudo])) & 0xffff;
}

/** What udpPacket() may be told beside. */
export interface UdpOptions {
  /** IPv4's identification. Default 0. */
  id?: number;
  /** Leave the checksum to whoever comes next, as needsChecksum has it. Default false. */
  unfinished?: boolean;
}

/** A UDP datagram in an IP packet. */
export function udpPacket(
  from: [string, number],
  to: [string, number],
  data: Buffer | string,
  { id = 0, unfinished = false }: UdpOptions = {},
): Buffer {
  const udp = Buffer.concat([Buffer.alloc(8), Buffer.from(data)]);
  udp.writeUInt16BE(from[1], 0);
  udp.writeUInt16BE(to[1], 2);
  udp.writeUInt16BE(udp.length, 4);
  udp.writeUInt16BE(pseudoSum(UDP, from[0], to[0], udp.length), 6);
  if (!unfinished) udp.writeUInt16BE(checksum(udp) || 0xffff, 6);
  return ipPacket(UDP, from[0], to[0], udp, id);
}

/** What a TCP segment has beside its ports and data. */
export interface TcpOptions {
  sequence: number;
  /** IPv4's identification. Default 0. */
  id?: number;
  /** The header's flags; default ACK. */
  flags?: number;
  /** Leave the checksum to whoever comes next, as needsChecksum has it. Default false. */
  unfinished?: boolean;
}

/** A TCP segment in an IP packet. */
export function tcpPacket(
  from: [string, number],
  to: [string, number],
  data: Buffer | string,
  { sequence, id = 0, flags = 0x10, unfinished = false }: TcpOptions,
): Buffer {
  const tcp = Buffer.concat([Buffer.alloc(20), Buffer.from(data)]);
  tcp.writeUInt16BE(from[1], 0);
  tcp.writeUInt16BE(to[1], 2);
  tcp.writeUInt32BE(sequence, 4);
  tcp.writeUInt8(5 << 4, 12);
  tcp.writeUInt8(flags, 13);
  tcp.writeUInt16BE(512, 14);
  tcp.writeUInt16BE(pseudoSum(TCP, from[0], to[0], tcp.length), 16);
  if (!unfinished) tcp.writeUInt16BE(checksum(tcp), 16);
  return ipPacket(TCP, from[0], to[0], tcp, id);
}

/** The payload of a UDP datagram in an IP packet without options and extension headers. */
export function udpPayload(packet: Buffer): Buffer {
  return packet.subarray(((packet[0] as number) >> 4 === 6 ? 40 : 20) + 8);
}

/** An Ethernet frame; the addresses are six bytes each. */
export function ethernetFrame(
  destination: Buffer,
  source: Buffer,
  protocol: number,
  payload: Buffer,
): Buffer {
  const type = Buffer.alloc(2);
  type.writeUInt16BE(protocol);
  return Buffer.concat([destination, source, type, payload]);
}

/** Exchanges the addresses of an IP packet that starts at `at` of `bytes`, in place. No checksum changes by it. */
export function turnRound(bytes: Buffer, at = 0): Buffer {
  const [first, size] = (bytes[at] as number) >> 4 === 6 ? [at + 8, 16] : [at + 12, 4];
  const source = Buffer.from(bytes.subarray(first, first + size));
  bytes.copyWithin(first, first + size, first + 2 * size);
  source.copy(bytes, first + size);
  return bytes;
}

/** Whether the checksums of an IP packet that is TCP or UDP, without options and extension headers of IP, are right. */
export function checksumsRight(packet: Buffer): boolean {
  const six = (packet[0] as number) >> 4 === 6;
  const protocol = packet[six ? 6 : 9] as number;
  const transport = packet.subarray(six ? 40 : 20);
  const pseudo = Buffer.alloc(8);
  pseudo.writeUInt32BE(transport.length, 0);
  pseudo.writeUInt32BE(protocol, 4);
  const addresses = six ? packet.subarray(8, 40) : packet.subarray(12, 20);
  const header = six || checksum(packet.subarray(0, 20)) === 0;
  return header && checksum(Buffer.concat([addresses, pseudo, transport])) === 0;
}
