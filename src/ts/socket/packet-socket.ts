import { Link } from '../host/link';
import { currentPlace, type Netns } from '../host/netns';
import { native, type SocketHandle } from '../native';
import {
  META_DATAGRAM,
  META_DESTINATION,
  META_LINK,
  META_OFFLOAD,
  type SendMeta,
} from '../packet/packet-meta';
import { MSG_DONTWAIT, MSG_ERRQUEUE, MSG_NOSIGNAL, MSG_PEEK, MSG_TRUNC } from '../support/constants';
import { check } from '../support/errors';
import { EINVAL, unknownFlags } from '../support/io-errors';
import type { PacketInfo } from '../support/types';
import { internalsOf, MessageSocket, type MessageSocketSetup } from './message-socket';
import { OffloadState } from './offload-state';
import {
  adopted,
  assertOpened,
  interfaceNameOf,
  noDestination,
  noOffload,
  opened,
  openWhere,
} from './opening';
import { type PacketConfig, type PacketSocketOptions, packetConfig } from './options/packet-socket-options';
import { optionReader, type SocketConfig, socketConfig } from './options/socket-options';

const SOCK_DGRAM = 2;

interface PacketSetup extends MessageSocketSetup {
  datagram: boolean;
}

/**
 * A packet socket (AF_PACKET): what is sent on it leaves by the interface, what comes to the interface or leaves it is
 * received. The same face as TunSocket, which is at the other end of an interface: what one sends the host receives, what the
 * other sends the host's neighbours receive. `info` says whom a packet was for (`packetType`), and what else the link layer
 * knows. Made by PacketSocket.open() and PacketSocket.fromFd(). packet(7).
 *
 * Where it differs from a TunSocket: MSG_PEEK is allowed; recvmsg() into 0 bytes takes the packet out of the queue; a packet
 * that is sent while the interface is down fails with ENETDOWN, as does once a recvmsg() or recvmmsg() after it went down.
 */
export class PacketSocket extends MessageSocket<PacketInfo> {
  readonly #datagram: boolean;

  private constructor(setup: PacketSetup) {
    assertOpened(setup, 'PacketSocket', 'PacketSocket.open() or PacketSocket.fromFd()');
    super(setup);
    this.#datagram = setup.datagram;
  }

  /**
   * Opens a packet socket on an interface: the whole of it, or a thrown error with nothing left behind. It receives nothing
   * that the options don't ask for, not even between the steps. Without `netns`, in the network namespace of this thread.
   *
   * @throws TypeError and RangeError for options that make no sense. SystemError: EPERM (CAP_NET_RAW is missing), ENODEV (no
   * such interface), EINVAL as `SO_ATTACH_FILTER` (the kernel refuses the filter) or as `PACKET_FANOUT` (the group's sockets
   * were opened otherwise). AbortError when `signal` is aborted already.
   */
  static open(options: PacketSocketOptions): PacketSocket {
    const config = packetConfig(options);
    return openWhere(config, (netns) => PacketSocket.#openHere(config, netns));
  }

  /**
   * Takes over a packet socket that something else opened; it is closed with the PacketSocket. One that is bound to no
   * interface has the index 0 and an empty name. With virtio headers (PACKET_VNET_HDR) its `offload` is 'raw'.
   *
   * @throws SystemError ENOTSOCK (no packet socket), EBADFD (its interface is deleted), EBADF (none
   * at all); the descriptor is then still the caller's.
   */
  static fromFd(fd: number): PacketSocket {
    return adopted(
      fd,
      (taken) => opened(native().adoptPacket(taken), hints),
      (handle, netns) => {
        const index = handle.control('sll_ifindex', 0);
        const name = index === 0 ? '' : interfaceNameOf(handle, 'SIOCGIFNAME');
        const datagram = handle.control('SO_TYPE', 0) === SOCK_DGRAM;
        const config = socketConfig(optionReader({}));
        return new PacketSocket(
          setupOf(handle, netns, name, index, datagram, config, OffloadState.of(handle)),
        );
      },
    );
  }

  /** 'raw': frames with their link header; 'dgram': packets without it. */
  get type(): 'raw' | 'dgram' {
    return this.#datagram ? 'dgram' : 'raw';
  }

  /** Bytes that the kernel has for packets that wait to be received, bookkeeping included (SO_RCVBUF). */
  getRecvBufferSize(): number {
    return this.#control('SO_RCVBUF');
  }

  /** Bytes that the kernel has for packets that wait to be sent, bookkeeping included (SO_SNDBUF). */
  getSendBufferSize(): number {
    return this.#control('SO_SNDBUF');
  }

  #control(request: string): number {
    const { handle, errorContext } = internalsOf(this);
    return check(handle.control(request, 0), 'getsockopt', errorContext);
  }

  static #openHere(config: PacketConfig, netns: Netns | undefined): PacketSocket {
    const name = config.interface;
    const { index } = Link.get(name);
    const handle = opened(native().openPacket({ ...config.settings, interfaceIndex: index }), hints, () => ({
      interface: name,
    }));
    try {
      const offload =
        config.offload === 'none'
          ? OffloadState.none
          : OffloadState.enable(handle, config.offload, false, 'PACKET_VNET_HDR', { interface: name });
      return new PacketSocket(setupOf(handle, netns, name, index, config.settings.datagram, config, offload));
    } catch (error) {
      handle.close();
      throw error;
    }
  }
}

function setupOf(
  handle: SocketHandle,
  netns: Netns | undefined,
  name: string,
  index: number,
  datagram: boolean,
  { receiveTimeout, sendQueueLimit, signal }: SocketConfig,
  offload: OffloadState,
): PacketSetup {
  return {
    handle,
    name,
    index,
    datagram,
    place: currentPlace(),
    release: netns && (() => netns.close()),
    receiveTimeout,
    sendQueueLimit,
    signal,
    metadata: META_LINK,
    offload,
    checkMeta: (meta) => checkPacketMeta(meta, datagram, offload),
    hint: (errno, syscall, flags) => hint(errno, syscall, flags, datagram),
    followMtu: offload.mode === 'split',
  };
}

function checkPacketMeta({ kinds }: SendMeta, datagram: boolean, offload: OffloadState): void {
  if ((kinds & META_DATAGRAM) !== 0)
    throw noDestination('and an address there is one of the link, without a port');
  if ((kinds & META_DESTINATION) !== 0 && !datagram) throw noDestination('a frame has it in its header');
  if ((kinds & META_OFFLOAD) !== 0 && offload.mode === 'none') throw noOffload();
}

function hint(errno: number, syscall: string, flags = 0, datagram: boolean): string | undefined {
  if (errno !== EINVAL) return undefined;
  if (!syscall.startsWith('send')) {
    const batch = syscall === 'recvmmsg' ? 0 : MSG_PEEK | MSG_ERRQUEUE;
    return unknownFlags(flags, MSG_DONTWAIT | MSG_TRUNC | batch);
  }
  const unknown = unknownFlags(flags, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (unknown !== undefined) return unknown;
  return datagram ? "a packet of type 'dgram' needs a destination on this link" : undefined;
}

const hints = new Map<string, string>([
  ['socket -1', 'this needs CAP_NET_RAW: run as root, grant it with setcap, or start under unshare -Urn'],
  ['bind -19', 'there is no such interface in this network namespace'],
  [
    'SO_ATTACH_FILTER -22',
    'the kernel refuses the program: it must end in a return, jump forward only, and load from a packet, not from elsewhere',
  ],
  ['PACKET_FANOUT -22', "the group's other sockets have another interface, type, protocol or mode"],
  ['PACKET_FANOUT -28', 'the group is full: it has at most 256 sockets'],
  ['getsockopt -88', 'the descriptor is no packet socket'],
  ['PACKET_VNET_HDR_SZ -95', 'its virtio header is longer than the 24 bytes that tunsock knows'],
]);
