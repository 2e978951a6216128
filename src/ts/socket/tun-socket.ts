import { readlinkSync } from 'node:fs';
import { Link } from '../host/link';
import { currentPlace, type Netns } from '../host/netns';
import { runAt } from '../host/netns-place';
import { native, type SocketHandle } from '../native';
import { type BpfInstruction, bpfInstructions, bpfProgram } from '../packet/bpf';
import { META_DATAGRAM, META_DESTINATION, type SendMeta } from '../packet/packet-meta';
import { groupId, userId } from '../support/accounts';
import { MSG_DONTWAIT, MSG_ERRQUEUE, MSG_NOSIGNAL, MSG_TRUNC } from '../support/constants';
import { invalidArgValue, invalidState, systemError } from '../support/errors';
import { EINVAL, EOPNOTSUPP, unknownFlags } from '../support/io-errors';
import { boolean, integer, string } from '../support/options';
import { internalsOf, MessageSocket, type MessageSocketSetup } from './message-socket';
import { featureMask, OffloadState } from './offload-state';
import {
  adopted,
  assertOpened,
  inNamespace,
  interfaceNameOf,
  noDestination,
  noOffload,
  opened,
  openWhere,
} from './opening';
import type { SocketOptions } from './options/socket-options';
import { transmitFilter } from './options/transmit-filter';
import { type TunConfig, type TunOptions, tunConfig } from './options/tun-socket-options';
import {
  attachFlags,
  checkRequest,
  checkSharedFraming,
  configure,
  configureOwnership,
  linkHere,
  openHints,
  openHintsOf,
  setTapFilter,
  tapDriverType,
  type Undo,
} from './tun-attach';
import {
  IFF_ATTACH_QUEUE,
  IFF_DETACH_QUEUE,
  IFF_NAPI,
  IFF_NAPI_FRAGS,
  type TunFeatures,
  type TunInfo,
  tunFeatures,
  tunInfo,
} from './tun-info';

interface TunSetup extends MessageSocketSetup {
  link: Link | undefined;
}

/**
 * A TUN/TAP device as a socket: what is sent on it, the host's network stack receives; what the host routes to the device,
 * it receives. Made by TunSocket.open() and TunSocket.fromFd().
 */
export class TunSocket extends MessageSocket {
  /** undefined where this process may not enter the interface's namespace. */
  readonly #link: Link | undefined;
  #detachedQueue = false;

  private constructor(setup: TunSetup) {
    assertOpened(setup, 'TunSocket', 'TunSocket.open() or TunSocket.fromFd()');
    super(setup);
    this.#link = setup.link;
  }

  /**
   * Makes a device, or attaches to one that is there, and configures it: the whole of it, or a thrown error with nothing
   * left behind. Without `netns`, in the network namespace of this thread.
   *
   * @throws TypeError and RangeError for options that make no sense. SystemError: EPERM (CAP_NET_ADMIN is missing),
   * EACCES (the device file may not be opened), ENOENT (there is no device file), EBUSY (the device is in use; `multiQueue` shares it),
   * EINVAL (the name is that of another kind of device), and whatever the kernel has against an address, route or mtu.
   * AbortError when `signal` is aborted already. See Documentation/networking/tuntap.rst.
   */
  static open(options?: TunOptions): TunSocket {
    const config = tunConfig(options);
    return openWhere(config, (netns) => TunSocket.#openHere(config, netns));
  }

  /**
   * Takes over the descriptor of a tun device that something else opened and attached. It becomes O_NONBLOCK and close-on-exec, and
   * is closed with the socket. With virtio headers (IFF_VNET_HDR) its `offload` is 'raw'.
   *
   * Where this process may not enter the network namespace of the device (one of `unshare -Urn`, used outside of it), packets go and come
   * as ever, but there is no `link`, `index` is 0, there are no 'link' events, and the device is taken to be without `packetInfo`.
   *
   * @throws SystemError ENOTSOCK (no tun device), EBADFD (a tun descriptor that is attached to no device), EBADF (none at all);
   * the descriptor is then still the caller's.
   */
  static fromFd(fd: number): TunSocket {
    return adopted(
      fd,
      (taken) => {
        const { name, netns } = opened(native().inspectTun(taken), openHints);
        const packetInfo = inNamespace(
          netns,
          (owned) => {
            const answer = linkHere(name)?.tun?.packetInfo ?? false;
            owned?.close();
            return answer;
          },
          () => false,
        );
        return opened(native().adoptTun(taken, packetInfo), openHints);
      },
      (handle, netns, place) => {
        const name = interfaceNameOf(handle, 'TUNGETIFF');
        const link = place && linkHere(name);
        const setup = setupOf(tunConfig({}), handle, netns, OffloadState.of(handle), name, link);
        return new TunSocket({ ...setup, place: link && place });
      },
    );
  }

  /**
   * The interface, for its addresses, routes and counters: `tun.link.counters().txDropped` is what overflowed.
   *
   * @throws Error `ERR_INVALID_STATE` where this process may not enter the interface's network namespace: see fromFd().
   */
  get link(): Link {
    const link = internalsOf(this).interface.moved ?? this.#link;
    if (link !== undefined) return link;
    throw noNamespace(this.name);
  }

  /**
   * Bytes of a packet, at most, without an Ethernet header: the interface's, as `link.mtu`. Setting it asks the kernel (RTM_SETLINK,
   * rtnetlink(7)).
   *
   * @throws SystemError `EINVAL` when the kernel takes no such mtu (a tun device: 68 to 65535), `ENODEV` once the interface is gone;
   * RangeError `ERR_OUT_OF_RANGE`
   */
  get mtu(): number {
    return this.link.mtu;
  }
  set mtu(value: number) {
    this.link.mtu = value;
  }

  /** Bytes of sent packets that the kernel may hold (TUNGETSNDBUF). */
  getSendBufferSize(): number {
    return this.#control('TUNGETSNDBUF', 0);
  }

  /**
   * Limits the bytes of sent packets that the kernel may hold; over it, sending blocks or fails with EAGAIN
   * (TUNSETSNDBUF). Of the whole device, not of this queue.
   *
   * @param size - 1 to 2147483647 bytes; the kernel starts at 2147483647. With `vhost` in tun mode the most is 2147483646, where it starts
   * then: without a limit the kernel's thread takes packets for Ethernet frames and loses them.
   */
  setSendBufferSize(size: number): void {
    this.#control('TUNSETSNDBUF', integer('size', size, 1, this.vhost ? 0x7ffffffe : 0x7fffffff));
    internalsOf(this).roomChanged();
  }

  /** Refuses: what waits for this socket is counted in packets. @throws SystemError EOPNOTSUPP */
  getRecvBufferSize(): never {
    throw systemError(EOPNOTSUPP, 'getRecvBufferSize', {
      ...internalsOf(this).errorContext,
      hint: 'a tun device queues packets, not bytes: see link.txQueueLength',
    });
  }

  /** What the driver behind `device` has (TUNGETFEATURES), without attaching to a device. @throws SystemError as open() */
  static features(device = '/dev/net/tun'): TunFeatures {
    const path = string('device', device);
    return tunFeatures(opened(native().tunFeatures(path), openHints, () => ({ path })).flags);
  }

  /** What the kernel tells of the device now (IFLA_TUN_*, TUNGETIFF). */
  info(): TunInfo {
    const { handle } = internalsOf(this);
    return tunInfo(this.#link, this.#control('TUNGETIFF', 0), handle.virtioHeader());
  }

  /** Lets a user attach without CAP_NET_ADMIN: an id, or a name that /etc/passwd has (TUNSETOWNER). */
  setOwner(owner: number | string): void {
    this.#control('TUNSETOWNER', userId('owner', owner));
  }

  /** Lets a group attach without CAP_NET_ADMIN: an id, or a name that /etc/group has (TUNSETGROUP). */
  setGroup(group: number | string): void {
    this.#control('TUNSETGROUP', groupId('group', group));
  }

  /** Whether the device stays when its last socket is closed (TUNSETPERSIST). */
  setPersist(persist: boolean): void {
    this.#control('TUNSETPERSIST', boolean('persist', persist) ? 1 : 0);
  }

  /**
   * Attaches to the next queue of the same device, with framing and offload as this one has them (IFF_MULTI_QUEUE).
   *
   * @throws Error `ERR_INVALID_STATE` where the device was not made with multiQueue. SystemError E2BIG: it has 256 queues.
   */
  openQueue(options?: Omit<SocketOptions, 'netns'>): TunSocket {
    const { handle } = internalsOf(this);
    const given = tunConfig(options);
    const { flags, mode, packetInfo, multiQueue } = this.info();
    if (!multiQueue) throw invalidState(`${this.name} has one queue: it was opened without multiQueue`);
    const config: TunConfig = {
      ...given,
      name: this.name,
      device: readlinkSync(`/proc/self/fd/${this.fd}`),
      tap: mode === 'tap',
      packetInfo,
      multiQueue: true,
      napi: (flags & IFF_NAPI_FRAGS) !== 0 ? 'frags' : (flags & IFF_NAPI) !== 0,
      offload: handle.virtioHeader() === 0 ? 'none' : this.offload === 'split' ? 'split' : 'raw',
      offloadFeatures: this.offloadFeatures && featureMask(this.offloadFeatures),
      up: false,
    };
    const queue = this.#inNamespace((owned) => TunSocket.#openHere(config, owned));
    // A new queue skips the device's filter (IFF_NOFILTER is IFF_NO_PI); set anew, it is that of all of them.
    const filter = handle.getFilter();
    if (typeof filter === 'object') handle.setFilter(filter);
    return queue;
  }

  /** Whether this queue is in service: attachQueue(), detachQueue(). */
  get queueAttached(): boolean {
    const told = (this.#control('TUNGETIFF', 0) & IFF_DETACH_QUEUE) === 0;
    // The kernel does not tell of a macvtap; there it is as this socket has set it.
    return told && !(this.#detachedQueue && tapDriverType(this.#link) !== undefined);
  }

  /**
   * Says which frames are received, by a classic BPF program; of a tap, and of all its queues (TUNATTACHFILTER). What is queued stays.
   *
   * @throws SystemError EINVAL (the kernel refuses the program, or the device is no tap); the filter before is then in force.
   */
  setFilter(program: readonly BpfInstruction[] | string): void {
    setTapFilter(internalsOf(this).handle, bpfProgram('program', program), this.#link, this.name);
  }

  /** Receives every frame again (TUNDETACHFILTER). */
  removeFilter(): void {
    setTapFilter(internalsOf(this).handle, new Uint32Array(), this.#link, this.name);
  }

  /**
   * The program that this socket has set and that is in force, undefined without one (TUNGETFILTER).
   *
   * @throws SystemError EBUSY: another socket has set one since, and the kernel does not tell which.
   */
  getFilter(): BpfInstruction[] | undefined {
    const words = internalsOf(this).handle.getFilter();
    if (typeof words === 'number') this.#checked(words, 'TUNGETFILTER');
    return typeof words === 'object' ? bpfInstructions(words) : undefined;
  }

  /**
   * Says which destinations a frame must have that the host sends to this tap, `null` for any (TUNSETTXFILTER). Eight addresses
   * are compared; further ones are for groups, of which a few others pass too.
   */
  setTransmitFilter(filter: { addresses: readonly string[]; allMulticast?: boolean } | null): void {
    const { flags, bytes } = filter === null ? { flags: 0, bytes: new Uint8Array() } : transmitFilter(filter);
    const { handle } = internalsOf(this);
    this.#checked(
      handle.setTransmitFilter(flags, bytes),
      'TUNSETTXFILTER',
      "transmit filters are for mode 'tap'",
    );
  }

  /** An eBPF program (BPF_PROG_TYPE_SOCKET_FILTER), by its descriptor, that says which queue gets a packet; `null` for none (TUNSETSTEERINGEBPF). */
  setSteering(programFd: number | null): void {
    this.#control('TUNSETSTEERINGEBPF', descriptorOrNone('programFd', programFd));
  }

  /** One that says how many bytes of a packet are received, 0 for a packet that is dropped; `null` for none (TUNSETFILTEREBPF). */
  setPacketFilter(programFd: number | null): void {
    this.#control('TUNSETFILTEREBPF', descriptorOrNone('programFd', programFd));
  }

  /** Says whether the device has a carrier, as a cable that is plugged in or not (TUNSETCARRIER). */
  setCarrier(carrier: boolean): void {
    this.#control('TUNSETCARRIER', carrier ? 1 : 0);
  }

  /**
   * Takes this queue of a multiQueue device out of service: what the host routes to the device goes to the other queues,
   * until attachQueue() (TUNSETQUEUE). Sending on it still works.
   */
  detachQueue(): void {
    this.#control('TUNSETQUEUE', IFF_DETACH_QUEUE);
    this.#detachedQueue = true;
  }

  /** Puts this queue back into service. */
  attachQueue(): void {
    this.#control('TUNSETQUEUE', IFF_ATTACH_QUEUE);
    this.#detachedQueue = false;
  }

  #inNamespace<T>(fn: (owned: Netns | undefined) => T): T {
    const { handle, interface: device } = internalsOf(this);
    const { place } = device;
    if (place === undefined) throw noNamespace(this.name);
    const descriptor = handle.networkNamespace();
    // A macvtap does not tell.
    return descriptor < 0 ? runAt(place, () => fn(undefined)) : inNamespace(descriptor, fn);
  }

  #control(request: string, value: number): number {
    return this.#checked(internalsOf(this).handle.control(request, value), request);
  }

  #checked(result: number, request: string, hint?: string): number {
    return checkRequest(result, request, this.#link, this.name, hint);
  }

  static #openHere(config: TunConfig, netns: Netns | undefined): TunSocket {
    const result = native().openTun(config.device, config.name, attachFlags(config), config.index ?? 0);
    const hints = 'syscall' in result ? openHintsOf(config.device) : openHints;
    const handle = opened(result, hints, (syscall) =>
      syscall === 'open' ? { path: config.device } : { interface: config.name },
    );
    const undo: Undo = [() => handle.close()];
    try {
      const name = interfaceNameOf(handle, 'TUNGETIFF');
      const link = Link.get(name);
      if (config.index !== undefined && config.index !== link.index) {
        throw invalidArgValue('options.index', `${link.index}, which ${name} has already`, config.index);
      }
      const { queues, disabledQueues } = link.tun ?? { queues: 1, disabledQueues: 0 };
      const shared = config.multiQueue && queues + disabledQueues > 1;
      if (config.multiQueue) checkSharedFraming(handle, link, config, shared);
      configure(handle, link, config, shared, undo);
      // Last, since some kernels take it only when the link is up.
      const context = { interface: name };
      const { offload: mode, offloadFeatures, vhost } = config;
      const offload = OffloadState.enable(
        handle,
        mode,
        shared,
        'TUNSETOFFLOAD',
        context,
        offloadFeatures,
        vhost,
      );
      configureOwnership(handle, link, config, undo);
      return new TunSocket(setupOf(config, handle, netns, offload, name, link));
    } catch (error) {
      for (const step of undo.reverse()) {
        try {
          step();
        } catch {
          // The step's own object is gone already; the error that led here is the one to report.
        }
      }
      throw error;
    }
  }
}

function setupOf(
  config: TunConfig,
  handle: SocketHandle,
  netns: Netns | undefined,
  offload: OffloadState,
  name: string,
  link: Link | undefined,
): TunSetup {
  return {
    handle,
    name,
    index: link?.index ?? 0,
    link,
    place: currentPlace(),
    release: netns && (() => netns.close()),
    receiveTimeout: config.receiveTimeout,
    sendQueueLimit: config.sendQueueLimit,
    signal: config.signal,
    metadata: 0,
    offload,
    moves: true,
    checkMeta: (meta) => checkTunMeta(meta, offload),
    hint,
  };
}

function noNamespace(name: string): Error {
  return invalidState(
    `${name} is in a network namespace that this process may not enter: configure it there, before its descriptor is handed over`,
  );
}

function descriptorOrNone(name: string, fd: number | null): number {
  return fd === null ? -1 : integer(name, fd, 0, 0x7fffffff);
}

function checkTunMeta({ kinds }: SendMeta, offload: OffloadState): void {
  if ((kinds & (META_DESTINATION | META_DATAGRAM)) !== 0)
    throw noDestination('a packet of a tun device has it in its own header');
  if (offload.mode === 'none') throw noOffload();
}

function hint(errno: number, syscall: string, flags: number | undefined): string | undefined {
  if (errno !== EINVAL) return undefined;
  if (!syscall.startsWith('send')) return unknownFlags(flags ?? 0, MSG_DONTWAIT | MSG_TRUNC | MSG_ERRQUEUE);
  return (
    unknownFlags(flags ?? 0, MSG_DONTWAIT | MSG_NOSIGNAL) ??
    "an IP packet starts with 0x4_ (IPv4) or 0x6_ (IPv6) and is not empty; Ethernet frames need mode: 'tap'"
  );
}
