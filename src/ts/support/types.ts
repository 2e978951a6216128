/** One packet to send, or room for one: any view of memory, or several that are gathered or scattered in order. */
export type PacketData = NodeJS.ArrayBufferView | readonly NodeJS.ArrayBufferView[];

/** How a frame came to a packet socket (sll_pkttype of packet(7)). */
export type PacketType =
  | 'host'
  | 'broadcast'
  | 'multicast'
  | 'otherhost'
  | 'outgoing'
  | 'loopback'
  | 'user'
  | 'kernel';

/** An IEEE 802.1Q tag. */
export interface VlanTag {
  /** 0 to 4095. */
  id: number;
  /** Priority code point: 0 to 7. */
  priority: number;
  /** Drop eligible indicator. */
  dropEligible: boolean;
  /** The tag's own EtherType: 0x8100, or 0x88a8 for a service tag. */
  protocol: number;
}

/** What the link layer knows of a packet: struct sockaddr_ll and struct tpacket_auxdata of packet(7). */
export interface LinkLayerInfo {
  /** Whom it was for. */
  packetType: PacketType;
  /** The index of the interface. */
  interface: number;
  /** The link's type: ARPHRD_* of linux/if_arp.h, 1 for Ethernet. */
  hardwareType: number;
  /** The sender's hardware address, `'02:00:00:00:00:01'`; empty where the link has none. At most 8 bytes of it. */
  address: string;
  /**
   * The frame's outermost tag, which the kernel takes out of it; with `vlan: 'inline'` it also stands in the bytes, where it was. `undefined`
   * without one, and without the option `auxdata`.
   */
  vlan: VlanTag | undefined;
  /** When the kernel got it: nanoseconds since 1970; `undefined` without the option `timestamps`. */
  timestamp: bigint | undefined;
  /**
   * `constants.TP_STATUS_*` bits; 0 without the option `auxdata`. TP_STATUS_CSUMNOTREADY: the transport's checksum is still to be made, as in
   * what this host sends; with `offload: 'split'` it is made already, with 'raw' `info.offload` says how.
   */
  status: number;
}

/** Where a datagram comes from or goes to. */
export interface DatagramAddress {
  /** Numeric: `'192.0.2.1'`, `'2001:db8::1'`, `'fe80::1%2'` with the index of its interface. */
  address: string;
  /** 0 to 65535. */
  port: number;
  /** IPv4 that comes to an IPv6 socket is 'IPv4', too. */
  family: 'IPv4' | 'IPv6';
}

/** What the network says of a datagram beside its bytes. */
export interface DatagramDetails {
  /** Who sent it. Of a message of the error queue (MSG_ERRQUEUE): whom the datagram was for that failed. */
  from: DatagramAddress;
  /** The address that it was sent to (IP_PKTINFO); of a message of the error queue, who told of the error. */
  to: string | undefined;
  /** The index of the interface that it came in on. */
  interface: number;
  /** Explicit congestion notification: 0 to 3; 3 is congestion experienced (RFC 3168). */
  ecn: number;
  /** The whole byte that ECN is in: DSCP and ECN (IP_TOS, IPV6_TCLASS). */
  trafficClass: number;
  /** With `offload: 'raw'`: this is several datagrams of that many bytes each, of which the last may be shorter; `undefined` for one. */
  segmentSize: number | undefined;
  /** When the kernel got it: nanoseconds since 1970; `undefined` without the option `timestamps`. */
  timestamp: bigint | undefined;
  /** Of a message of the error queue: the error's name, such as `'ECONNREFUSED'`. */
  error: string | undefined;
}

/** How a socket deals with segmentation offload. */
export type OffloadMode = 'none' | 'split' | 'raw';

/**
 * What a device may leave to the program, and the program to the device: TUN_F_* of linux/if_tun.h. 'csum': the transport's checksum;
 * 'tso4', 'tso6', 'tso-ecn': superpackets of TCP; 'uso4', 'uso6': of UDP; 'udp-tunnel', 'udp-tunnel-csum': of what is in a UDP tunnel.
 */
export type OffloadFeature =
  | 'csum'
  | 'tso4'
  | 'tso6'
  | 'tso-ecn'
  | 'uso4'
  | 'uso6'
  | 'udp-tunnel'
  | 'udp-tunnel-csum';

/**
 * What is still to be done to a packet: its virtio_net_hdr (linux/virtio_net.h, virtio 1.3, 5.1.6). Offsets and lengths are in bytes, 0 to
 * 65535; offsets count from the packet's first byte, so from the Ethernet header where there is one.
 */
export interface PacketOffload {
  /** The checksum field holds the sum of the pseudo header; that of the bytes from `checksumStart` on is to be added. */
  needsChecksum: boolean;
  /** Whoever handed the packet over has verified its checksum. */
  checksumValid: boolean;
  /** Where the checksum starts: the transport's header. */
  checksumStart: number;
  /** Where its field is, from `checksumStart`. */
  checksumOffset: number;
  /** What the packet is to be cut into: `constants.VIRTIO_NET_HDR_GSO_*`; NONE for a packet that is whole. */
  gsoType: number;
  /** Bytes of payload in each segment. */
  gsoSize: number;
  /** Bytes of link, IP and transport header; only a hint. */
  headerLength: number;
  /** In a UDP tunnel: the outer checksum is to be made. */
  outerNeedsChecksum: boolean;
  /** In a UDP tunnel: where the outer UDP header is. */
  outerTransportOffset: number;
  /** In a UDP tunnel: where the inner IP header is. */
  innerNetworkOffset: number;
}

/**
 * What is known of a received packet beside its bytes: of one shape for each class of socket. What the link layer knows
 * comes with packet sockets only; a tun device has no such layer.
 */
export interface MessageInfo extends Partial<LinkLayerInfo>, Partial<DatagramDetails> {
  /** The packet's true length in bytes. With `packetInfo`, that header of 4 bytes counts. */
  size: number;
  /**
   * The bytes that were copied out; less than `size` when the packet was cut. For a recvmsg() that asked for
   * MSG_TRUNC: the true length.
   */
  bytes: number;
  /** MSG_TRUNC when the packet was cut, else 0. */
  flags: number;
  /**
   * The EtherType: 0x0800 for IPv4, 0x86dd for IPv6; 0 where it can't be told. Of packet sockets: what the kernel took
   * it for, behind VLAN tags that it took out.
   */
  protocol: number;
  /** What is still to be done to the packet. Of sockets with `offload: 'raw'`. */
  offload?: PacketOffload | undefined;
}

/** What recvmsg() returns. */
export type ReceivedMessage = MessageInfo;

/** What is known of a packet that a packet socket received. */
export type PacketInfo = MessageInfo & LinkLayerInfo;

/** What is known of a received datagram. */
export type DatagramInfo = MessageInfo & DatagramDetails;

/** Counters of one direction. */
export interface DirectionStats {
  /** Packets moved. */
  packets: number;
  /** Bytes moved: for received packets, their true lengths. */
  bytes: number;
  /** Packets that were longer than the buffers for them; always 0 for those sent. */
  truncated: number;
  /** Calls that found nothing queued, or no room. */
  wouldBlock: number;
  /** Calls that failed in any other way. */
  errors: number;
}

/** Counters of what was received. One that this kind of socket can't tell is absent. */
export interface ReceivedStats extends DirectionStats {
  /**
   * Packets that the kernel dropped because this socket's queue was full, or that no virtio header describes (PACKET_STATISTICS). Of packet
   * sockets; of a tun device the interface counts them: Link.counters().txDropped.
   */
  dropped?: number;
  /** Packets that passed the filter, whether they were queued or dropped (`tp_packets` of PACKET_STATISTICS). Of packet sockets. */
  arrived?: number;
}

/** Counters of a socket with `offload: 'split'`, and of a UDP socket with 'raw'. */
export interface OffloadStats {
  /** Superpackets that came in and were cut; with 'raw' none are. */
  received: number;
  /** Superpackets that went out: with 'split' they were made of packets. */
  sent: number;
  /** What the kernel has refused at run time: from then on packets of that kind go out one by one. */
  refused: OffloadFeature[];
}

/**
 * Where a packet socket sends a packet: of a 'dgram' socket the kernel makes the link header of it. Of a 'raw' one only `interface` may be
 * given, since a frame says the rest itself.
 */
export interface PacketDestination {
  /** A hardware address of at most 8 bytes: `'02:00:00:00:00:01'`, `'ff:ff:ff:ff:ff:ff'` for all. */
  address: string;
  /** The EtherType. Default: the socket's `protocol`; where that is 'all', by the packet's IP version. */
  protocol?: number | undefined;
  /** The index of the interface, for a socket on all of them (`interface: 'any'`). Default: the socket's. */
  interface?: number | undefined;
}

/** Where a UDP socket sends a datagram. An `info.from` is one. */
export interface DatagramDestination {
  /** A numeric address; IPv6 only on an IPv6 socket. */
  address: string;
  /** 1 to 65535. */
  port: number;
  /** Not looked at: the address says it. */
  family?: 'IPv4' | 'IPv6' | undefined;
}

/** What a UDP socket can be told of a datagram. */
export interface DatagramSendOptions {
  /** The source that it gets, with a destination: an address of this host, and the index of the interface that it leaves by. Default: as it is routed. */
  from?: string | { address?: string | undefined; interface?: number | undefined } | undefined;
  /** Explicit congestion notification: 0 to 3. */
  ecn?: number | undefined;
  /** The whole byte, DSCP and ECN: 0 to 255. Default: the socket's. */
  trafficClass?: number | undefined;
  /**
   * With `offload: 'raw'`: the kernel cuts the data into datagrams of that many bytes, 128 at most (64 before Linux 6.9). Where it or the path
   * refuses that, they go out one by one (`stats().offload.refused`).
   */
  segmentSize?: number | undefined;
}

/**
 * What send calls and push() can be told beside the packet. The destination of a 'dgram' socket's packet is `to`, or its fields stand here
 * themselves.
 */
export interface PacketSendOptions extends Partial<PacketDestination>, DatagramSendOptions {
  /** What is still to be done to the packet, on a socket with `offload`. What is left out is 0 or false. Default: nothing. */
  offload?: Partial<PacketOffload> | undefined;
  /** Where the packet goes. Of packet sockets, with type 'raw' only `interface` of it; and of UDP sockets. */
  to?: Partial<PacketDestination> | DatagramDestination | undefined;
}

/** What stats() returns: counters since the socket was opened. */
export interface SocketStats {
  received: ReceivedStats;
  sent: DirectionStats;
  /** Of sockets with `offload: 'split'`, and of UDP sockets with 'raw'. */
  offload?: OffloadStats;
}
