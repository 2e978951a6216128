import { join } from 'node:path';

import load = require('node-gyp-build');

/** What a SocketHandle tells its socket, as the first argument of onEvent(kind, value). */
export enum NativeEvent {
  /** `value` packets are in the inbox, or with a limit of 0 there is something to receive; or a negative errno. */
  Readable = 0,
  /** There may be room to send. */
  Writable = 1,
  /** `value` is a negative errno, or 0 where none is left; the watch has stopped. */
  Error = 2,
  /** Something has come that no poll shows: turn() is due. */
  Again = 3,
}

/** What watch() can wait for (uv_poll_event). */
export const READABLE = 1;
export const WRITABLE = 2;

/** A descriptor, what moves its packets, and its place in the event loop (src/native/binding/socket_handle.h). */
export interface SocketHandle {
  /** The descriptor; -1 once closed. */
  fd(): number;
  /** Of the packet that receive() gave last: the words copied, size, flags and protocol, and its PacketMeta. */
  readonly details: ArrayBuffer;
  /** Waits `timeoutMs` at most. */
  receive(views: Uint8Array | readonly Uint8Array[], flags: number, timeoutMs: number): number;
  /** `meta` is a PacketMeta with the packet's virtio header and destination. */
  send(
    views: Uint8Array | readonly Uint8Array[],
    flags: number,
    timeoutMs: number,
    meta?: Uint8Array,
  ): number;
  /** At most `limit` packets. */
  receiveBatch(
    memory: ArrayBuffer,
    capacity: number,
    slot: number,
    limit: number,
    flags: number,
    timeoutMs: number,
  ): number;
  /** `kinds`: what of the metadata means anything. */
  sendBatch(
    memory: ArrayBuffer,
    capacity: number,
    slot: number,
    start: number,
    end: number,
    flags: number,
    timeoutMs: number,
    kinds: number,
  ): number;
  /** Takes packets back that were received and that nobody took: they are the next ones. */
  putBack(memory: ArrayBuffer, capacity: number, slot: number, start: number, end: number): number;
  /** Packets that were taken from the descriptor, and wait to be received where no poll sees them. */
  held(): number;
  /** Who hears events, and the packed batch that packets go to before NativeEvent.Readable. Both are held weakly. */
  listen(onEvent: (kind: NativeEvent, value: number) => void, inbox: ArrayBuffer, capacity: number): number;
  /** READABLE | WRITABLE, and at most `limit` packets a wake-up; with 0 it is only told. Returns 1 when turn() is due. */
  watch(events: number, limit: number): number;
  /** Does what a wake-up does, for what no poll shows. */
  turn(): void;
  setRef(ref: boolean): void;
  /**
   * Fills fourteen counters: packets, bytes, truncated, would-block, errors, dropped, of what was received and of what was sent; then
   * superpackets that were received and sent.
   */
  stats(counters: Float64Array): number;
  close(): void;
  /** Closes all but the descriptor, which is the caller's: that one, or a negative errno. */
  release(): number;
  /** A request that takes or gives an int, by name (core/device); what it gives, or 0. */
  control(request: string, value: number): number;
  /**
   * Says what the device may hand over unfinished (TUN_F_*), with virtio headers where that is anything; `split` cuts and merges superpackets.
   * Returns what is in force. Before the first packet.
   */
  openPath(offload: number, split: boolean, shared: boolean): number;
  /** Nothing longer is made of what is sent. */
  setMtu(bytes: number): number;
  /** Bytes of virtio header before each packet of the descriptor; 0 for none. */
  virtioHeader(): number;
  /** Kinds of superpackets (TUN_F_*) that the kernel has refused, and that are not made any more. */
  refusedOffload(): number;
  name(): string | number;
  /** A descriptor of the device's network namespace, which the caller owns. */
  networkNamespace(): number;
}

/** A step of several that failed: a negative errno, and the system call that gave it. */
export interface Failure {
  error: number;
  syscall: string;
}

/** How a packet socket is opened; sizes of 0 leave the kernel's default. */
export interface PacketSettings {
  interfaceIndex: number;
  /** SOCK_DGRAM. */
  datagram: boolean;
  /** EtherType. */
  protocol: number;
  promiscuous: boolean;
  ignoreOutgoing: boolean;
  auxdata: boolean;
  timestamps: boolean;
  qdiscBypass: boolean;
  receiveBuffer: number;
  sendBuffer: number;
  /** As PACKET_FANOUT takes it. */
  fanout: number | undefined;
  /** Four words an instruction: code, jt, jf, k. */
  filter: Uint32Array;
  /** Where packets go that are sent with no destination of their own. */
  address: Uint8Array | undefined;
  addressProtocol: number;
}

interface DeviceBinding {
  openTun(path: string, name: string, flags: number): SocketHandle | Failure;
  /** The interface of a tun descriptor; `netns` is a descriptor of its namespace, which the caller owns, or a negative errno. */
  inspectTun(fd: number): { name: string; netns: number } | Failure;
  adoptTun(fd: number, packetInfo: boolean): SocketHandle | Failure;
  openPacket(settings: PacketSettings): SocketHandle | Failure;
  adoptPacket(fd: number): SocketHandle | Failure;
}

interface ChecksumBinding {
  /** The folded one's complement sum (RFC 1071) of the bytes and of an earlier such sum: 0 to 65535. */
  internetSum(bytes: Uint8Array, sum: number): number;
}

/** The host's network (src/native/core/host). */
export interface HostBinding {
  readonly Rtnetlink: new () => Rtnetlink;
  readonly NetnsHandle: {
    create(loopback: boolean): NetnsHandle | Failure;
    open(path: string): NetnsHandle | Failure;
    current(): NetnsHandle | Failure;
  };
}

/** Owns the descriptor of a network namespace. */
export interface NetnsHandle {
  /** -1 when closed. */
  readonly fd: number;
  /** A negative errno when closed. */
  readonly inode: number;
  /** Calls `fn` in the namespace and comes back, also when it throws; ends the process if it can't come back. */
  run(fn: () => void): Failure | undefined;
  enter(): number;
  close(): void;
}

/** What RTM_GETLINK tells of tun devices. */
export interface TunData {
  /** Whether struct tun_pi stands before each packet. */
  packetInfo: boolean;
  /** How many sockets have it. */
  queues: number;
}

/** A link as RTM_GETLINK tells. */
export interface LinkData {
  index: number;
  name: string;
  /** Empty for hardware and loopback. */
  type: string;
  /** Of a tun device. */
  tun?: TunData;
  flags: number;
  mtu: number;
  /** Empty where the link has none. */
  mac: string;
  txQueueLength: number;
  /** An index; 0 is none. */
  master: number;
}

/** What to change of a link; `netns` is a descriptor, `master` an index. */
export interface LinkSettings {
  name?: string | undefined;
  mtu?: number | undefined;
  mac?: string | undefined;
  txQueueLength?: number | undefined;
  up?: boolean | undefined;
  master?: number | undefined;
  netns?: number | undefined;
}

/** Requests to the kernel in the namespace that this thread is in; each opens a socket and closes it. */
export interface Rtnetlink {
  /** What the kernel said about the last request, if it refused that one; else empty. */
  readonly kernelText: string;
  /** By name where the index is 0. */
  getLink(index: number, name: string): LinkData | number;
  listLinks(): LinkData[] | number;
  counters(index: number): Record<string, number> | number;
  createLink(
    type: string,
    settings: LinkSettings,
    peer: LinkSettings | undefined,
    parent: number,
    vlanId: number,
  ): number;
  changeLink(index: number, settings: LinkSettings): number;
  deleteLink(index: number): number;
  changeAddress(add: boolean, index: number, cidr: string): number;
  listAddresses(index: number): string[] | number;
  changeRoute(
    add: boolean,
    index: number,
    destination: string,
    gateway: string | undefined,
    source: string | undefined,
    metric: number,
  ): number;
  listRoutes(
    index: number,
  ): { destination: string; gateway?: string; source?: string; metric?: number }[] | number;
  changeNeighbour(add: boolean, index: number, address: string, mac: string): number;
  listNeighbours(index: number): { address: string; mac: string; state: number }[] | number;
}

/**
 * The typed face of the addon (src/native/binding). Its functions return a count or a negative errno, or the
 * data named here; they never make errors themselves. Arguments are validated before they get here.
 */
export type NativeBinding = DeviceBinding & HostBinding & ChecksumBinding;

let binding: NativeBinding | undefined;

/**
 * The addon, loaded when it is first needed, so that importing the package works wherever Node does.
 *
 * @throws Error `ERR_TUNSOCK_PLATFORM` where the system is not Linux; `ERR_TUNSOCK_ADDON` where the addon is missing
 * or can't be loaded.
 */
export function native(): NativeBinding {
  binding ??= loadBinding();
  return binding;
}

function loadBinding(): NativeBinding {
  if (process.platform !== 'linux') {
    throw Object.assign(
      new Error(
        `tunsock needs Linux: there are no TUN/TAP devices and packet sockets as it uses them on ${process.platform}`,
      ),
      { code: 'ERR_TUNSOCK_PLATFORM' },
    );
  }
  try {
    return load(join(__dirname, '..')) as NativeBinding;
  } catch (cause) {
    throw Object.assign(
      new Error(
        'tunsock: the native addon is missing or can\'t be loaded; build it with "npm rebuild tunsock" (this needs python3, make and g++)',
        { cause },
      ),
      { code: 'ERR_TUNSOCK_ADDON' },
    );
  }
}
