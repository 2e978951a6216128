export { Link } from './host/link';
export { Netns } from './host/netns';
export { MessageSocket, type MessageSocketEvents } from './socket/message-socket';
export { PacketBatch, type PacketBatchOptions } from './socket/packet-batch';
export type { SendCallback } from './socket/send-queue';
export type { TunOptions } from './socket/tun-options';
export { TunSocket } from './socket/tun-socket';
export * as constants from './support/constants';
export type { SystemError } from './support/errors';
export type {
  DirectionStats,
  MessageInfo,
  PacketData,
  ReceivedMessage,
  SocketStats,
} from './support/types';
