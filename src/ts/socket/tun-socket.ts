import { Link } from '../host/link';
import { currentPlace, type Netns } from '../host/netns';
import { native, type SocketHandle } from '../native';
import { META_DESTINATION, type SendMeta } from '../packet/packet-meta';
import { MSG_DONTWAIT, MSG_ERRQUEUE, MSG_NOSIGNAL, MSG_TRUNC } from '../support/constants';
import { check, invalidArgValue } from '../support/errors';
import { EINVAL, unknownFlags } from '../support/io-errors';
import { integer } from '../support/options';
import { internalsOf, MessageSocket, type MessageSocketSetup } from './message-socket';
import { OffloadState } from './offload-state';
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
import { type TunConfig, type TunOptions, tunConfig } from './options/tun-socket-options';

/** Flags of TUNSETIFF (include/uapi/linux/if_tun.h). */
const IFF_TUN = 0x0001;
const IFF_TAP = 0x0002;
const IFF_NAPI = 0x0010;
const IFF_NAPI_FRAGS = 0x0020;
const IFF_MULTI_QUEUE = 0x0100;
const IFF_ATTACH_QUEUE = 0x0200;
const IFF_DETACH_QUEUE = 0x0400;
const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;
const IFF_TUN_EXCL = 0x8000;

/** What opening a socket has changed, and how to undo it should a later step fail. */
type Undo = (() => void)[];

interface TunSetup extends MessageSocketSetup {
  link: Link;
}

/**
 * A TUN/TAP device as a socket: what is sent on it, the host's network stack receives; what the host routes to the device,
 * it receives. Made by TunSocket.open() and TunSocket.fromFd().
 */
export class TunSocket extends MessageSocket {
  readonly #link: Link;

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
   * Takes over the descriptor of a tun device that something else opened and attached. It becomes O_NONBLOCK, and
   * is closed with the socket. With virtio headers (IFF_VNET_HDR) its `offload` is 'raw'.
   *
   * @throws SystemError ENOTSOCK (no tun device), EBADFD (a tun descriptor that is attached to no device), EBADF (none at all);
   * the descriptor is then still the caller's.
   */
  static fromFd(fd: number): TunSocket {
    return adopted(
      fd,
      (taken) => {
        const { name, netns } = opened(native().inspectTun(taken), openHints);
        const packetInfo = inNamespace(netns, (owned) => {
          const answer = Link.get(name).tun?.packetInfo ?? false;
          owned?.close();
          return answer;
        });
        return opened(native().adoptTun(taken, packetInfo), openHints);
      },
      (handle, netns) => {
        const name = interfaceNameOf(handle, 'TUNGETIFF');
        const link = Link.get(name);
        return new TunSocket(setupOf(tunConfig({}), handle, netns, OffloadState.of(handle), name, link));
      },
    );
  }

  /** The interface, for its addresses, routes and counters: `tun.link.counters().txDropped` is what overflowed. */
  get link(): Link {
    return internalsOf(this).interface.moved ?? this.#link;
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

  /** Whether the device stays when its last socket is closed (TUNSETPERSIST). */
  setPersist(persist: boolean): void {
    this.#control('TUNSETPERSIST', persist ? 1 : 0);
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
  }

  /** Puts this queue back into service. */
  attachQueue(): void {
    this.#control('TUNSETQUEUE', IFF_ATTACH_QUEUE);
  }

  #control(request: string, value: number): number {
    const { handle, errorContext } = internalsOf(this);
    return check(handle.control(request, value), request, errorContext);
  }

  static #openHere(config: TunConfig, netns: Netns | undefined): TunSocket {
    const handle = opened(
      native().openTun(config.device, config.name, attachFlags(config)),
      openHints,
      (syscall) => (syscall === 'open' ? { path: config.device } : { interface: config.name }),
    );
    const undo: Undo = [() => handle.close()];
    try {
      const name = interfaceNameOf(handle, 'TUNGETIFF');
      const link = Link.get(name);
      if (config.multiQueue) checkSharedFraming(handle, link, config);
      configure(handle, link, config, undo);
      // Last, since some kernels take it only when the link is up.
      const shared = config.multiQueue && (link.tun?.queues ?? 1) > 1;
      const context = { interface: name };
      const { offload: mode, vhost } = config;
      const offload = OffloadState.enable(handle, mode, shared, 'TUNSETOFFLOAD', context, undefined, vhost);
      // Nothing that can fail comes after it: a device that stays would be left behind.
      const persist = config.persist === undefined ? undefined : Number(config.persist);
      control(handle, 'TUNSETPERSIST', persist, name);
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
  link: Link,
): TunSetup {
  return {
    handle,
    name,
    index: link.index,
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

function checkTunMeta({ kinds }: SendMeta, offload: OffloadState): void {
  if ((kinds & META_DESTINATION) !== 0)
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

function attachFlags(config: TunConfig): number {
  return (
    (config.tap ? IFF_TAP : IFF_TUN) |
    (config.packetInfo ? 0 : IFF_NO_PI) |
    (config.offload === 'none' ? 0 : IFF_VNET_HDR) |
    (config.multiQueue ? IFF_MULTI_QUEUE : 0) |
    (config.exclusive ? IFF_TUN_EXCL : 0) |
    (config.napi !== false ? IFF_NAPI : 0) |
    (config.napi === 'frags' ? IFF_NAPI_FRAGS : 0)
  );
}

const NO_DRIVER = 'load the tun module with modprobe tun, or start the container with --device /dev/net/tun';
const openHints = new Map<string, string>([
  ['open -2', NO_DRIVER],
  ['open -6', NO_DRIVER],
  ['open -19', NO_DRIVER],
  ['open -13', 'the file may not be opened: chmod 0666 it, as most systems have it, or run as root'],
  [
    'TUNSETIFF -1',
    'this needs CAP_NET_ADMIN: run as root, grant it with setcap, start under unshare -Urn, or let root make a persistent device with this user as its owner',
  ],
  [
    'TUNSETIFF -16',
    'the device is in use: open it with multiQueue: true everywhere to share it, close the other user, or choose another name; with exclusive: true it must not exist',
  ],
  [
    'TUNSETIFF -22',
    'an interface of that name is of another kind: not a tun device, of the other mode, or with another multiQueue',
  ],
  ['TUNGETIFF -88', 'the descriptor is no tun device'],
]);

/** A second queue's wish for packet info or a virtio header is ignored by the kernel: the first queue has decided. */
function checkSharedFraming(handle: SocketHandle, link: Link, config: TunConfig): void {
  const has = handle.virtioHeader() !== 0;
  if (has !== (config.offload !== 'none')) {
    throw invalidArgValue(
      'options.offload',
      `${has ? "'raw' or 'split'" : "'none'"}, as it is for the other queues of ${link.name}`,
      config.offload,
    );
  }
  const granted = link.tun?.packetInfo;
  if (granted !== undefined && granted !== config.packetInfo) {
    throw invalidArgValue(
      'options.packetInfo',
      `${granted}, as it is for the other queues of ${link.name}`,
      config.packetInfo,
    );
  }
}

/**
 * Brings the interface to what the options say. What is so already is left alone, so that a user without privilege can
 * attach to a persistent device that root has configured.
 */
function configure(handle: SocketHandle, link: Link, config: TunConfig, undo: Undo): void {
  const set = <K extends 'mtu' | 'mac' | 'txQueueLength' | 'addressGeneration'>(
    key: K,
    value: Link[K] | undefined,
  ) => {
    if (value === undefined) return;
    const before = link[key];
    if (value === before) return;
    link[key] = value;
    undo.push(() => {
      link[key] = before;
    });
  };
  set('mtu', config.mtu);
  set('txQueueLength', config.txQueueLength);
  set('mac', config.mac);
  set('addressGeneration', config.addressGeneration);

  const ensured = (takeBack: (() => void) | undefined) => {
    if (takeBack !== undefined) undo.push(takeBack);
  };
  for (const address of config.addresses) ensured(link.ensureAddress(address));
  if (config.up && !link.isUp) {
    link.up();
    undo.push(() => link.down());
  }
  for (const route of config.routes) ensured(link.ensureRoute(route));

  control(handle, 'TUNSETOWNER', config.owner, link.name);
  control(handle, 'TUNSETGROUP', config.group, link.name);
}

function control(handle: SocketHandle, request: string, value: number | undefined, name: string): void {
  if (value !== undefined) check(handle.control(request, value), request, { interface: name });
}
