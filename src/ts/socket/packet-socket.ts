import { Link } from '../host/link';
import type { Netns } from '../host/netns';
import { native, type SocketHandle } from '../native';
import { Offload } from '../packet/offload';
import { packetViews } from '../packet/packet-data';
import { check, invalidArgValue, systemError } from '../support/errors';
import { EINVAL } from '../support/io-errors';
import { flagBits, optionsObject } from '../support/options';
import type { LinkLayerInfo, PacketData, PacketSendOptions, ReceivedMessage } from '../support/types';
import { single } from './blocking-socket';
import { MessageSocket, type MessageSocketSetup } from './message-socket';
import { adopted, interfaceNameOf, opened, openWhere, watchLink } from './opening';
import {
  type NativeDestination,
  type PacketConfig,
  type PacketSocketOptions,
  packetConfig,
  packetDestination,
} from './options/packet-socket-options';
import { optionReader, type SocketConfig, socketConfig } from './options/socket-options';

const SOCK_DGRAM = 2;

interface PacketSetup extends MessageSocketSetup {
  name: string;
  index: number;
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
export class PacketSocket extends MessageSocket {
  readonly #index: number;
  readonly #datagram: boolean;
  #name: string;

  private constructor(setup: PacketSetup) {
    super(setup);
    this.#name = setup.name;
    this.#index = setup.index;
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
        if (index !== 0) watchLink(handle, index, name);
        const datagram = handle.control('SO_TYPE', 0) === SOCK_DGRAM;
        const config = socketConfig(optionReader({}));
        return new PacketSocket(setupOf(handle, netns, name, index, datagram, config, Offload.of(handle)));
      },
    );
  }

  get name(): string {
    this.rememberName();
    return this.#name;
  }

  get index(): number {
    return this.#index;
  }

  /** 'raw': frames with their link header; 'dgram': packets without it. */
  get type(): 'raw' | 'dgram' {
    return this.#datagram ? 'dgram' : 'raw';
  }

  /**
   * As MessageSocket.sendmsg(); a 'dgram' socket can be told where to send the packet, as `options.address` and `options.protocol`.
   *
   * @throws also SystemError ENETDOWN (the interface is down), EMSGSIZE (longer than the interface's mtu), EINVAL (a 'dgram' socket without a
   * destination, on a link that has addresses), ENOBUFS (the interface's queue is full).
   */
  override sendmsg(data: PacketData, flags = 0, options?: PacketSendOptions): number {
    if (options === undefined || optionsObject('options', options).offload !== undefined) {
      return super.sendmsg(data, flags, options);
    }
    const views = packetViews('data', data);
    flagBits('flags', flags);
    const { address, protocol } = this.#destination(options);
    return this.sendOne(flags, (timeout) =>
      this.handle.sendTo(single(views), flags, timeout, address, protocol),
    );
  }

  override recvmsg(data: PacketData, flags = 0): ReceivedMessage & LinkLayerInfo {
    // Of a packet socket each info is a PacketInfo.
    return super.recvmsg(data, flags) as ReceivedMessage & LinkLayerInfo;
  }

  /** Bytes that the kernel has for packets that wait to be received, bookkeeping included (SO_RCVBUF). */
  getReceiveBufferSize(): number {
    return check(this.handle.control('SO_RCVBUF', 0), 'getsockopt', { interface: this.#name });
  }

  /** Bytes that the kernel has for packets that wait to be sent, bookkeeping included (SO_SNDBUF). */
  getSendBufferSize(): number {
    return check(this.handle.control('SO_SNDBUF', 0), 'getsockopt', { interface: this.#name });
  }

  protected override rememberName(): void {
    if (this.closed || this.#index === 0) return;
    const name = this.handle.name();
    if (typeof name === 'string') this.#name = name;
  }

  protected override ioError(errno: number, syscall: string): Error {
    if (errno !== EINVAL || !this.#datagram || !syscall.startsWith('send')) {
      return super.ioError(errno, syscall);
    }
    const hint = "a packet of type 'dgram' needs a destination on this link";
    return systemError(errno, syscall, { interface: this.#name, hint });
  }

  #destination(options: PacketSendOptions): NativeDestination {
    if (!this.#datagram) {
      throw invalidArgValue(
        'options.address',
        "given only with type 'dgram': a frame has it in its header",
        options.address,
      );
    }
    const { offload: _, ...destination } = options;
    return packetDestination('options', destination);
  }

  static #openHere(config: PacketConfig, netns: Netns | undefined): PacketSocket {
    const name = config.interface;
    const { index } = Link.get(name);
    const handle = opened(native().openPacket({ ...config.settings, interfaceIndex: index }), hints, () => ({
      interface: name,
    }));
    try {
      watchLink(handle, index, name);
      const offload =
        config.offload === 'none'
          ? Offload.none
          : Offload.enable(handle, config.offload, false, 'PACKET_VNET_HDR', { interface: name });
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
  offload: Offload,
): PacketSetup {
  const common = { handle, netns, receiveTimeout, sendQueueLimit, signal, linkLayer: true, offload };
  return { ...common, name, index, datagram };
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
