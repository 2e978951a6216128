/** One packet to send, or room for one: any view of memory, or several that are gathered or scattered in order. */
export type PacketData = NodeJS.ArrayBufferView | readonly NodeJS.ArrayBufferView[];

/** What is known of a received packet beside its bytes. Always of this one shape. */
export interface MessageInfo {
  /** The packet's true length in bytes. With `packetInfo`, that header of 4 bytes counts. */
  size: number;
  /**
   * The bytes that were copied out; less than `size` when the packet was cut. For a recvmsg() that asked for
   * MSG_TRUNC: the true length.
   */
  bytes: number;
  /** MSG_TRUNC when the packet was cut, else 0. */
  flags: number;
  /** The EtherType: 0x0800 for IPv4, 0x86dd for IPv6; 0 where it can't be told. */
  protocol: number;
}

/** What recvmsg() returns. */
export type ReceivedMessage = MessageInfo;

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

/** What stats() returns: counters since the socket was opened. */
export interface SocketStats {
  received: DirectionStats;
  sent: DirectionStats;
}
