export type { Route } from './host/cidr';
export { Link, type LinkCounters, type Neighbour } from './host/link';
export type { LinkOptions, VethPeer } from './host/link-options';
export { Netns, type NetnsOptions } from './host/netns';
export type { BpfInstruction } from './socket/bpf';
export type { MessageSocketEvents } from './socket/message-events';
export { MessageSocket } from './socket/message-socket';
export type { OffloadFallback } from './socket/offload';
export { PacketBatch, type PacketBatchOptions } from './socket/packet-batch';
export type { FanoutOptions, PacketSocketOptions } from './socket/packet-options';
export { PacketSocket } from './socket/packet-socket';
export type { SendCallback } from './socket/send-queue';
export { socketFromFd } from './socket/socket-from-fd';
export type { SocketOptions } from './socket/socket-options';
export type { TunOptions } from './socket/tun-options';
export { TunSocket } from './socket/tun-socket';
export * as constants from './support/constants';
export type { SystemError } from './support/errors';
export type {
  DirectionStats,
  LinkLayerInfo,
  MessageInfo,
  OffloadFeature,
  OffloadMode,
  OffloadStats,
  PacketData,
  PacketDestination,
  PacketOffload,
  PacketSendOptions,
  PacketType,
  ReceivedMessage,
  SendOptions,
  SocketStats,
  VlanTag,
} from './support/types';
