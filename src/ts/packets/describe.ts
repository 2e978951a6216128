import { ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, readArp, readEthernet } from './ethernet';
import { readIcmp } from './icmp';
import { PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP, readIp } from './ip';
import { readTcp, readUdp } from './transport';

const NAMES = new Map([
  [PROTOCOL_ICMP, 'ICMP'],
  [2, 'IGMP'],
  [4, 'IPv4 in IP'],
  [PROTOCOL_TCP, 'TCP'],
  [PROTOCOL_UDP, 'UDP'],
  [41, 'IPv6 in IP'],
  [47, 'GRE'],
  [50, 'ESP'],
  [PROTOCOL_ICMPV6, 'ICMPv6'],
  [132, 'SCTP'],
]);

const FLAGS = 'FSRPAUEC';

/** What a packet is: its protocol's name, and between whom. */
export interface PacketSummary {
  /** 'TCP', 'UDP', 'ICMP', 'ARP' …; 'protocol 99' or 'type 0x88cc' for others, 'short' for what ends within its header. */
  protocol: string;
  /** Addresses, with ports where there are any: '10.0.0.1:53', '[fd00::1]:53'. Empty where there are none. */
  source: string;
  destination: string;
}

/** Says what an IP packet is, or with `ethernet` a frame. */
export function summarizePacket(packet: Uint8Array, { ethernet = false } = {}): PacketSummary {
  if (!ethernet) return summarizeIp(packet);
  const frame = readEthernet(packet);
  if (frame === undefined) return { protocol: 'short', source: '', destination: '' };
  const { type, source, destination, payload } = frame;
  if (type === ETHERTYPE_IPV4 || type === ETHERTYPE_IPV6) return summarizeIp(payload);
  if (type === ETHERTYPE_ARP) {
    const arp = readArp(payload);
    return {
      protocol: 'ARP',
      source: arp?.senderAddress ?? source,
      destination: arp?.targetAddress ?? destination,
    };
  }
  return {
    protocol: type < 1536 ? 'IEEE 802.3' : `type 0x${type.toString(16).padStart(4, '0')}`,
    source,
    destination,
  };
}

function summarizeIp(packet: Uint8Array): PacketSummary {
  const ip = readIp(packet);
  if (ip === undefined) return { protocol: 'short', source: '', destination: '' };
  const { source, destination } = ip;
  const protocol = NAMES.get(ip.protocol) ?? `protocol ${ip.protocol}`;
  const hasPorts = ip.protocol === PROTOCOL_TCP || ip.protocol === PROTOCOL_UDP;
  if (!hasPorts || ip.fragmentOffset > 0 || ip.payload.length < 4) return { protocol, source, destination };
  const withPort = (address: string, at: number) =>
    `${address.includes(':') ? `[${address}]` : address}:${ip.payload.readUInt16BE(at)}`;
  return { protocol, source: withPort(source, 0), destination: withPort(destination, 2) };
}

/** One readable line about an IP packet, or with `ethernet` a frame. */
export function describePacket(packet: Uint8Array, { ethernet = false } = {}): string {
  const { protocol, source, destination } = summarizePacket(packet, { ethernet });
  if (protocol === 'short') return `${packet.length} bytes that are no IP packet`;
  const ip = readIp(ethernet ? (readEthernet(packet)?.payload ?? packet) : packet);
  let detail = '';
  if (ip?.protocol === PROTOCOL_ICMP || ip?.protocol === PROTOCOL_ICMPV6) {
    const icmp = readIcmp(ip.payload);
    detail = icmp === undefined ? '' : ` type ${icmp.type}`;
  } else if (ip?.protocol === PROTOCOL_TCP) {
    const flags = readTcp(ip.payload)?.flags ?? 0;
    detail = ` ${[...FLAGS].filter((_, bit) => (flags & (1 << bit)) !== 0).join('') || 'none'}`;
  } else if (ip?.protocol === PROTOCOL_UDP) {
    detail = ` ${readUdp(ip.payload)?.payload.length ?? 0}`;
  }
  return `${source} > ${destination} ${protocol}${detail}, ${packet.length} bytes`;
}
