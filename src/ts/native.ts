import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

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
  /** Makes sure that the loop hears of what comes from now on; whether something has come already: then turn() is due. */
  rearm(): boolean;
  setRef(ref: boolean): void;
  /**
   * Fills fifteen counters: packets, bytes, truncated, would-block, errors, dropped, of what was received and of what was sent; then
   * superpackets that were received and sent, and what arrived.
   */
  stats(counters: Float64Array): number;
  close(): void;
  /** Closes all but the descriptor, which is the caller's: that one, or a negative errno. */
  release(): number;
  /** The same for a descriptor that was taken over, which is as it was before that. */
  giveBack(): number;
  /** A request that takes or gives an int, by name (core/device); what it gives, or 0. */
  control(request: string, value: number): number;
  /** Four words an instruction; with none the filter is removed. What came before is gone. */
  setFilter(program: Uint32Array): number;
  /** Of a tap: the program that setFilter() has set and that is in force, or undefined; or a negative errno. */
  getFilter(): Uint32Array | number | undefined;
  /** Of a tap: TUN_FLT_* and addresses of six bytes each; with none all frames pass. */
  setTransmitFilter(flags: number, addresses: Uint8Array): number;
  /** `type` is PACKET_MR_*. */
  changeMembership(add: boolean, type: number, address: Uint8Array): number;
  /** A request that takes or gives an address, by name (core/device): it is in `meta`, a PacketMeta. */
  address(request: string, meta: Uint8Array): number;
  /**
   * Says what the device may hand over unfinished (TUN_F_*), with virtio headers where that is anything; `split` cuts and merges superpackets.
   * With `vhostDevice` packets go by vhost-net, or unless it is required as they do without. Returns what of the offload is in force; the failure's
   * syscall is empty where the device refuses the offload. Before the first packet.
   */
  openPath(
    offload: number,
    split: boolean,
    shared: boolean,
    vhostDevice: string | undefined,
    vhostRing: number,
    vhostRequired: boolean,
  ): number | Failure;
  /** Whether packets go by vhost-net; also once closed. */
  vhost(): boolean;
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

/** A fanout group as the kernel takes it. */
export interface FanoutSettings {
  /** As PACKET_FANOUT takes it: number, mode and flags. */
  argument: number;
  /** 0: the kernel's default. */
  members: number;
  /** Four words an instruction; empty without a program of this kind. */
  program: Uint32Array;
  /** Descriptor of an eBPF program; -1 for none. */
  programFd: number;
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
  /** A frame's VLAN tag stands in its bytes. */
  tagsInline: boolean;
  originalDevice: boolean;
  timestamps: boolean;
  transmitTimestamps: boolean;
  mark: number | undefined;
  priority: number | undefined;
  qdiscBypass: boolean;
  receiveBuffer: number;
  sendBuffer: number;
  fanout: FanoutSettings | undefined;
  /** Four words an instruction: code, jt, jf, k. */
  filter: Uint32Array;
  /** Where packets go that are sent with no destination of their own. */
  address: Uint8Array | undefined;
  addressProtocol: number;
}

interface DeviceBinding {
  /** `index` 0 leaves the number to the kernel. */
  openTun(path: string, name: string, flags: number, index: number): SocketHandle | Failure;
  /** What the driver of a device file has: TUNGETFEATURES. */
  tunFeatures(path: string): { flags: number } | Failure;
  /** The interface of a tun descriptor; `netns` is a descriptor of its namespace, which the caller owns, or a negative errno. */
  inspectTun(fd: number): { name: string; netns: number } | Failure;
  adoptTun(fd: number, packetInfo: boolean): SocketHandle | Failure;
  openPacket(settings: PacketSettings): SocketHandle | Failure;
  adoptPacket(fd: number): SocketHandle | Failure;
  /** 0 where the loop could watch it, which changes nothing about it, or a negative errno: EEXIST where something does so already. */
  probeFd(fd: number): number;
  closeFd(fd: number): number;
  /** A UDP socket that is not bound. */
  openUdp(six: boolean): SocketHandle | Failure;
  adoptUdp(fd: number): SocketHandle | Failure;
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
    /** Takes a name away that setName gave. */
    removeName(path: string): Failure | undefined;
  };
  readonly MonitorHandle: new () => MonitorHandle;
  /** A socket of the namespace that this thread is in: a descriptor, which the caller owns. */
  openSocket(request: SocketRequest): number | Failure;
  readonly ChannelHandle: new () => ChannelHandle;
  setCloseOnExec(fd: number): number;
}

/** A message without its bytes: close-on-exec descriptors, which the caller owns. */
export interface ChannelData {
  size: number;
  /** There is no message: the peer has closed its end. */
  ended: boolean;
  descriptors: Int32Array;
}

/** An AF_UNIX SOCK_SEQPACKET socket (src/native/core/host/descriptor_channel.h); one of the first five calls, once, opens it. */
export interface ChannelHandle {
  connect(path: string): Failure | undefined;
  listen(path: string): Failure | undefined;
  pair(other: ChannelHandle): Failure | undefined;
  /** If it fails the descriptor is still the caller's. */
  adopt(fd: number): Failure | undefined;
  /** Opens `into` as the next connection of this one, which listens. */
  accept(into: ChannelHandle): Failure | undefined;
  /** -1 when closed. */
  fd(): number;
  send(data: Uint8Array, descriptors: Int32Array): number;
  /** -EMSGSIZE and -EMFILE: a message was lost, and its descriptors are closed. */
  receive(memory: Uint8Array): ChannelData | number;
  credentials(): { pid: number; uid: number; gid: number } | number;
  /** The loop calls `onEvent` when one of READABLE | WRITABLE holds, and keeps the handle; 0 ends that. */
  watch(events: number, onEvent?: (events: number) => void): number;
  setRef(ref: boolean): void;
  close(): void;
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
  /** Mounts it on directory/name. */
  setName(directory: string, name: string): Failure | undefined;
}

/** What openSocket() makes. */
export interface SocketRequest {
  /** 0: AF_UNIX. */
  family: 0 | 4 | 6;
  datagram: boolean;
  /** The zone of a link-local address. */
  interface?: string | undefined;
  reuseAddress?: boolean | undefined;
  reusePort?: boolean | undefined;
  ipv6Only?: boolean | undefined;
  /** Of AF_UNIX: connects it to `address`, rather than bind it. */
  connect?: boolean | undefined;
  /** What it is bound to, if it is: an IP address without a zone, or a path. */
  address?: string | undefined;
  port?: number | undefined;
}

/** What a MonitorHandle hears of. */
export const HEAR_LINKS = 1;
export const HEAR_ADDRESSES = 2;
export const HEAR_ROUTES = 4;

/** A link, address or route: that it is there, as it is now, or that it is gone. */
export interface HostRecord {
  removed: boolean;
  /** Of the link, also of an address's and a route's. */
  index: number;
  link?: LinkState;
  /** Of a removed link that lives on in another namespace, under this index. */
  indexInNetns?: number;
  address?: string;
  route?: RouteData;
}

/** A link with its carrier. */
export interface LinkState extends LinkData {
  carrier: boolean;
}

/** A subscription to changes of links, addresses and routes in one namespace (src/native/core/host/link_monitor.h). */
export interface MonitorHandle {
  /** In the namespace that this thread is in. */
  open(): number;
  /** `onReadable` is called by the loop when read() has something to say; the handle lives until close(). */
  listen(onReadable: () => void): number;
  /** What to hear of from here on: HEAR_*. */
  hear(kinds: number): number;
  /** What there is now. */
  list(kinds: number): HostRecord[] | number;
  /** What has changed, from `limit` messages at most; -ENOBUFS when some were lost, so that only list() tells how things are. */
  read(limit: number): HostRecord[] | number;
  /** Whether it keeps the process alive. */
  setRef(ref: boolean): void;
  close(): void;
}

/** What RTM_GETLINK tells of tun devices. */
export interface TunData {
  /** Whether struct tun_pi stands before each packet. */
  packetInfo: boolean;
  /** Ids that may attach without CAP_NET_ADMIN; absent where nobody has set one. */
  owner?: number;
  group?: number;
  persist: boolean;
  /** Sockets whose queue is in service, and those whose queue is detached. */
  queues: number;
  disabledQueues: number;
}

/** A link as RTM_GETLINK tells. */
export interface LinkData {
  index: number;
  name: string;
  alternativeNames: string[];
  /** Empty for hardware and loopback. */
  type: string;
  /** Of a tun device. */
  tun?: TunData;
  flags: number;
  /** ARPHRD_* */
  hardwareType: number;
  mtu: number;
  /** Empty where the link has none. */
  mac: string;
  txQueueLength: number;
  gsoMaxSize: number;
  /** An index; 0 is none. */
  master: number;
  /** IN6_ADDR_GEN_MODE_*; absent without IPv6. */
  addressGeneration?: number;
}

/** What to change of a link; `netns` is a descriptor, `master` an index. */
export interface LinkSettings {
  name?: string | undefined;
  mtu?: number | undefined;
  mac?: string | undefined;
  txQueueLength?: number | undefined;
  gsoMaxSize?: number | undefined;
  up?: boolean | undefined;
  master?: number | undefined;
  /** IN6_ADDR_GEN_MODE_* */
  addressGeneration?: number | undefined;
  netns?: number | undefined;
}

/** A link to make: each type uses some of what stands behind the settings (src/native/core/host/link_message.h). */
export interface LinkSpec {
  type: string;
  settings: LinkSettings;
  peer?: LinkSettings | undefined;
  /** An index. */
  link?: number | undefined;
  id?: number | undefined;
  /** As the kernel numbers the modes of the type. */
  mode?: number | undefined;
  local?: string | undefined;
  remote?: string | undefined;
  port?: number | undefined;
  ttl?: number | undefined;
  table?: number | undefined;
}

/** An address of a link; the kernel's own have `scope` always, and lifetimes in seconds where they end. */
export interface AddressData {
  address: string;
  peer?: string | undefined;
  broadcast?: string | undefined;
  /** RT_SCOPE_* */
  scope?: number | undefined;
  label?: string | undefined;
  validLifetime?: number | undefined;
  preferredLifetime?: number | undefined;
  noPrefixRoute?: boolean | undefined;
}

/** A route; the kernel's own have `table`, `type` and `scope` always. */
export interface RouteData {
  destination: string;
  from?: string | undefined;
  gateway?: string | undefined;
  source?: string | undefined;
  onlink?: boolean | undefined;
  table?: number | undefined;
  metric?: number | undefined;
  mtu?: number | undefined;
  /** RTN_* */
  type?: number | undefined;
  /** RT_SCOPE_* */
  scope?: number | undefined;
  tos?: number | undefined;
  /** An index of 0 is the link's own. */
  multipath?: HopData[] | undefined;
}

export interface HopData {
  gateway?: string | undefined;
  index: number;
  weight: number;
  onlink?: boolean | undefined;
}

/** A rule of policy routing. */
export interface RuleData {
  family: 4 | 6;
  priority?: number | undefined;
  from?: string | undefined;
  to?: string | undefined;
  interface?: string | undefined;
  outputInterface?: string | undefined;
  mark?: number | undefined;
  mask?: number | undefined;
  table?: number | undefined;
  /** FR_ACT_* */
  action?: number | undefined;
  goto?: number | undefined;
  suppressPrefixLength?: number | undefined;
  uidRange?: [number, number] | undefined;
  tos?: number | undefined;
  protocol?: number | undefined;
  sourcePorts?: [number, number] | undefined;
  destinationPorts?: [number, number] | undefined;
  not?: boolean | undefined;
}

/** What netem does; parts are of one. */
export interface ImpairmentData {
  delayNs: number;
  jitterNs: number;
  loss: number;
  duplicate: number;
  reorder: number;
  /** In a second. */
  rateBytes: number;
  limit: number;
}

/** Requests to the kernel in the namespace that this thread is in; each opens a socket and closes it. */
export interface Rtnetlink {
  /** What the kernel said about the last request, if it refused that one; else empty. */
  readonly kernelText: string;
  /** By name where the index is 0. */
  getLink(index: number, name: string): LinkData | number;
  listLinks(): LinkData[] | number;
  counters(index: number): Record<string, number> | number;
  createLink(spec: LinkSpec, addresses: AddressData[]): LinkData | Failure;
  changeLink(index: number, settings: LinkSettings): number;
  changeAlternativeName(add: boolean, index: number, name: string): number;
  deleteLink(index: number): number;
  addAddress(index: number, spec: AddressData): number;
  /** Removes the first that has all that is given. */
  removeAddress(index: number, spec: AddressData): number;
  hasAddress(index: number, spec: AddressData): number;
  listAddresses(index: number): AddressData[] | number;
  addRoute(index: number, spec: RouteData, replace: boolean): number;
  /** Removes the first that has all that is given. */
  removeRoute(index: number, spec: RouteData): number;
  hasRoute(index: number, spec: RouteData): number;
  /** Those of all tables but the local one without `table`. */
  listRoutes(index: number, table: number | undefined): RouteData[] | number;
  changeNeighbour(add: boolean, index: number, address: string, mac: string): number;
  listNeighbours(index: number): { address: string; mac: string; state: number }[] | number;
  addRule(rule: RuleData): number;
  /** Removes the first that has all that is given. */
  removeRule(rule: RuleData): number;
  listRules(): RuleData[] | number;
  setImpairment(index: number, impairment: ImpairmentData | undefined): number;
}

/**
 * The typed face of the addon (src/native/binding). Its functions return a count or a negative errno, or the
 * data named here; they never make errors themselves. Arguments are validated before they get here.
 */
export type NativeBinding = DeviceBinding &
  ChecksumBinding &
  HostBinding & {
    /** Whose event loop descriptors are watched from (src/native/binding/poller.h); once, before anything is watched. */
    setRuntime(runtime: Runtime): void;
  };

/** As src/native/binding/poller.h has them. */
enum Runtime {
  Node = 0,
  Deno = 1,
  Bun = 2,
}

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
    throw withCode(
      `tunsock needs Linux: there are no TUN/TAP devices and packet sockets as it uses them on ${process.platform}`,
      'ERR_TUNSOCK_PLATFORM',
    );
  }
  const system = `linux-${process.arch} with ${libc()}`;
  const causes: unknown[] = [];
  for (const file of addonFiles().filter((path) => existsSync(path))) {
    const loaded = { exports: {} };
    try {
      // Not require(): bundlers would look for the file, and a single executable application has no require() for files.
      process.dlopen(loaded, file);
      const addon = loaded.exports as NativeBinding;
      addon.setRuntime(runtime());
      return addon;
    } catch (cause) {
      causes.push(cause);
    }
  }
  throw withCode(
    causes.length === 0
      ? `tunsock has no addon for ${system}; compile it with "npm explore tunsock -- npm run build:native", which needs python3, make and g++`
      : `tunsock's addon for ${system} can't be loaded: ${(causes[0] as Error).message}; "npm explore tunsock -- npm run build:native" compiles one for this system, which needs python3, make and g++`,
    'ERR_TUNSOCK_ADDON',
    causes[0],
  );
}

/** Where the addon can be, best first. */
function addonFiles(): string[] {
  // There is no __dirname in a bundle that is an ES module.
  const folder = typeof __dirname === 'string' ? __dirname : dirname(process.argv[1] ?? process.execPath);
  const prebuilt = join('prebuilds', `linux-${process.arch}`, `tunsock.${libc()}.node`);
  // The package's own folder, seen from dist/, and from dist/cli/ and dist/packets/.
  const roots = [join(folder, '..'), join(folder, '..', '..')];
  return [
    // Compiled here, by who has a reason to.
    ...roots.map((root) => join(root, 'build', 'Release', 'tunsock.node')),
    ...roots.map((root) => join(root, prebuilt)),
    // Beside a bundle or a single executable application: the folder as it is in the package, or the one file.
    join(folder, prebuilt),
    join(folder, 'tunsock.node'),
  ];
}

/** Which C library this process runs on, by what the kernel has mapped for it. */
function libc(): 'glibc' | 'musl' {
  try {
    return /\/(ld-musl-|libc\.musl-)/.test(readFileSync('/proc/self/maps', 'latin1')) ? 'musl' : 'glibc';
  } catch {
    // No /proc. Alpine is what has musl.
    return existsSync('/etc/alpine-release') ? 'musl' : 'glibc';
  }
}

/** Whose event loop it is: Deno and Bun have Node's interface, and loops of their own below it. */
function runtime(): Runtime {
  if (process.versions.deno !== undefined) return Runtime.Deno;
  return process.versions.bun !== undefined ? Runtime.Bun : Runtime.Node;
}

function withCode(message: string, code: string, cause?: unknown): Error {
  return Object.assign(cause === undefined ? new Error(message) : new Error(message, { cause }), { code });
}
