/**
 * Flags of sendmsg(2) and recvmsg(2), with the numbers that Linux gives them on every architecture
 * (include/linux/socket.h), and the bits of a tun packet's packet info (include/uapi/linux/if_tun.h).
 */

/** recvmsg: leave the packet queued. Packet sockets have it; tun sockets refuse it with EINVAL. */
export const MSG_PEEK = 0x2;
/** recvmsg: in a result's flags, control data was cut: what `info` says beside the bytes may not be all. */
export const MSG_CTRUNC = 0x8;
/** recvmsg: in a result's flags, the packet was longer than the buffers; as an argument, ask for the true length. */
export const MSG_TRUNC = 0x20;
/** Don't block: what would block throws EAGAIN. */
export const MSG_DONTWAIT = 0x40;
/** recvmsg: read the error queue, which holds transmit timestamps. */
export const MSG_ERRQUEUE = 0x2000;
/** sendmsg: accepted, and without effect: these sockets raise no SIGPIPE. */
export const MSG_NOSIGNAL = 0x4000;

/** Packet info flag: the packet was longer than the buffers (bit 0 of its first 16-bit word, in host order). */
export const TUN_PKT_STRIP = 0x1;

/** Bits of `info.status` of packet sockets (include/uapi/linux/if_packet.h). */
/** Packets were dropped before this one: see stats(). */
export const TP_STATUS_LOSING = 0x4;
/** The checksum is not computed yet: the packet was sent by this host, for a link that does it. */
export const TP_STATUS_CSUMNOTREADY = 0x8;
/** There is a VLAN tag: `info.vlan`. */
export const TP_STATUS_VLAN_VALID = 0x10;
/** The tag's own EtherType is known. */
export const TP_STATUS_VLAN_TPID_VALID = 0x40;
/** The kernel has checked the transport's checksum. */
export const TP_STATUS_CSUM_VALID = 0x80;
/** The packet is one of TCP segments that were merged. */
export const TP_STATUS_GSO_TCP = 0x100;

/** `gsoType` of a packet's offload (include/uapi/linux/virtio_net.h): no superpacket. */
export const VIRTIO_NET_HDR_GSO_NONE = 0;
/** TCP over IPv4. */
export const VIRTIO_NET_HDR_GSO_TCPV4 = 1;
/** TCP over IPv6. */
export const VIRTIO_NET_HDR_GSO_TCPV6 = 4;
/** UDP datagrams of one length (UDP_SEGMENT). */
export const VIRTIO_NET_HDR_GSO_UDP_L4 = 5;
/** A bit beside TCPV4 or TCPV6: the first segment has CWR. */
export const VIRTIO_NET_HDR_GSO_ECN = 0x80;
/** A bit beside the others: in a UDP tunnel over IPv4. */
export const VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV4 = 0x20;
/** A bit beside the others: in a UDP tunnel over IPv6. */
export const VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV6 = 0x40;

/** EtherTypes (include/uapi/linux/if_ether.h), as in `info.protocol`. */
export const ETH_P_IP = 0x0800;
export const ETH_P_ARP = 0x0806;
export const ETH_P_IPV6 = 0x86dd;
export const ETH_P_ALL = 0x0003;
