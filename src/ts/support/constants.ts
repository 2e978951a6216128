/**
 * Flags of sendmsg(2) and recvmsg(2), with the numbers that Linux gives them on every architecture
 * (include/linux/socket.h), and the bits of a tun packet's packet info (include/uapi/linux/if_tun.h).
 */

/** recvmsg: leave the packet queued. Packet sockets have it; tun sockets refuse it with EINVAL. */
export const MSG_PEEK = 0x2;
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

/** EtherTypes (include/uapi/linux/if_ether.h), as in `info.protocol`. */
export const ETH_P_IP = 0x0800;
export const ETH_P_ARP = 0x0806;
export const ETH_P_IPV6 = 0x86dd;
export const ETH_P_ALL = 0x0003;
