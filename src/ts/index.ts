/// <reference types="node" preserve="true" />

/**
 * TUN/TAP devices, packet sockets and UDP sockets as message sockets; links, rules and network namespaces.
 *
 * @module tunsock
 */

export type { AddressInfo, AddressOptions } from './host/address';
export type { Scope } from './host/cidr';
export type { Impairment } from './host/impairment';
export {
  Link,
  type LinkChange,
  type LinkCounters,
  type LinkMonitor,
  type LinkMonitorOptions,
  type LinkSnapshot,
  type Neighbour,
} from './host/link';
export type { LinkChangeOf, LinkMonitor as LinkMonitorOf, LinkMonitorEvents } from './host/link-monitor';
export type {
  AddressGeneration,
  CarryingLink,
  CommonLinkOptions,
  IpTunnelOptions,
  IpvlanOptions,
  LinkOptions,
  MacvlanOptions,
  PlainLinkOptions,
  VethOptions,
  VethPeer,
  VlanOptions,
  VrfOptions,
  VxlanOptions,
} from './host/link-options';
export type { LinkChangeKind } from './host/link-table';
export { Netns, type NetnsOptions } from './host/netns';
export type {
  BindArguments,
  ConnectArguments,
  ListenArguments,
  NetnsBindOptions,
} from './host/netns-sockets';
export type { Route, RouteHop, RouteType } from './host/route';
export { Rule, type RuleOptions, type RuleType } from './host/rule';
export type { BpfInstruction } from './packet/bpf';
export { decodeOffload, encodeOffload } from './packet/offload';
export { PacketBatch, type PacketBatchOptions } from './packet/packet-batch';
export {
  DescriptorChannel,
  type DescriptorChannelEvents,
  DescriptorListener,
  type DescriptorListenerEvents,
  type DescriptorMessage,
  type DescriptorReceiveOptions,
  type PeerCredentials,
} from './socket/descriptor-channel';
export type { PacketWithInfo } from './socket/flow/packet-stream';
export type { SendCallback } from './socket/flow/send-queue';
export { inheritedSockets } from './socket/inherited-sockets';
export {
  MessageSocket,
  type MessageSocketEvents,
  type PacketInfoOptions,
  type ReceiveOptions,
} from './socket/message-socket';
export type { OffloadFallback } from './socket/offload-state';
export type {
  CommonPacketSocketOptions,
  DatagramPacketSocketOptions,
  FanoutGroupOptions,
  FanoutMode,
  FanoutOptions,
  PacketSocketOptions,
  RawPacketSocketOptions,
} from './socket/options/packet-socket-options';
export type { SocketOptions } from './socket/options/socket-options';
export type {
  ByteOrder,
  CommonTunOptions,
  IpTunOptions,
  OffloadRequest,
  TapOptions,
  TunOptions,
} from './socket/options/tun-socket-options';
export type { UdpSocketOptions } from './socket/options/udp-socket-options';
export type { VhostOptions } from './socket/options/vhost-options';
export { PacketSocket } from './socket/packet-socket';
export { socketFromFd } from './socket/socket-from-fd';
export type { TunFeatures, TunInfo } from './socket/tun-info';
export { TunSocket } from './socket/tun-socket';
export { UdpSocket } from './socket/udp-socket';
export * as constants from './support/constants';
export type { SystemError } from './support/errors';
export type {
  DatagramAddress,
  DatagramDestination,
  DatagramDetails,
  DatagramInfo,
  DatagramSendOptions,
  DirectionStats,
  LinkLayerInfo,
  MessageInfo,
  OffloadFeature,
  OffloadMode,
  OffloadStats,
  PacketData,
  PacketDestination,
  PacketInfo,
  PacketOffload,
  PacketSendOptions,
  PacketType,
  ReceivedMessage,
  ReceivedStats,
  SocketStats,
  VlanTag,
} from './support/types';
