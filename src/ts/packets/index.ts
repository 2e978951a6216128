/**
 * Headers of Ethernet, ARP, IPv4, IPv6, ICMP, ICMPv6, UDP and TCP: `read…` gives what a packet says, or undefined where it is no such
 * packet (bytes from a network are never an exception); what makes a packet throws where a value does not fit its field, and
 * finishes the checksums. Payloads that are read are views; a packet that is made is a copy.
 *
 * @module tunsock/packets
 */

export type { VlanTag } from '../support/types';
export { ipBytes, ipText, macBytes, macText } from './address';
export { internetChecksum, internetSum, pseudoHeaderSum } from './checksum';
export { describePacket, type PacketSummary, summarizePacket } from './describe';
export * from './ethernet';
export * from './icmp';
export {
  forwardHop,
  type IpHeader,
  type IpPacket,
  ipPacket,
  PROTOCOL_ICMP,
  PROTOCOL_ICMPV6,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  readIp,
} from './ip';
export { checksumsRight, type EndpointChanges, rewriteEndpoints, writeChecksums } from './rewrite';
export * from './transport';
