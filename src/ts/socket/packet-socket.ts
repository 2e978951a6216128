import { Link } from '../host/link';
import { currentPlace, type Netns } from '../host/netns';
import { native, type SocketHandle } from '../native';
import { type BpfInstruction, bpfProgram, wholePackets } from '../packet/bpf';
import {
  ADDRESS_LENGTH,
  META_DATAGRAM,
  META_DESTINATION,
  META_LINK,
  META_OFFLOAD,
  type SendMeta,
} from '../packet/packet-meta';
import { hardwareAddress } from '../packet/send-meta';
import { MSG_DONTWAIT, MSG_ERRQUEUE, MSG_NOSIGNAL, MSG_PEEK, MSG_TRUNC } from '../support/constants';
import { check, type SystemError } from '../support/errors';
import { EINVAL, unknownFlags } from '../support/io-errors';
import { integer, string } from '../support/options';
import type { PacketInfo } from '../support/types';
import { internalsOf, MessageSocket, type MessageSocketSetup } from './message-socket';
import { CHECKSUMS_ONLY, OffloadState } from './offload-state';
import {
  adopted,
  assertOpened,
  interfaceNameOf,
  noDestination,
  noOffload,
  opened,
  openWhere,
} from './opening';
import {
  MAX_BUFFER,
  type PacketConfig,
  type PacketSocketOptions,
  packetConfig,
  packetMark,
  packetPriority,
} from './options/packet-socket-options';
import { optionReader, type SocketConfig, socketConfig } from './options/socket-options';

const SOCK_DGRAM = 2;

/** PACKET_MR_* of linux/if_packet.h. */
const PACKET_MR_MULTICAST = 0;
const PACKET_MR_UNICAST = 3;
const memberships = new Map([
  ['promiscuous', 1],
  ['allMulticast', 2],
]);

interface PacketSetup extends MessageSocketSetup {
  datagram: boolean;
  /** It is in a fanout group that it joined when it was opened. */
  fanout?: boolean;
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
  readonly #fanout: boolean;

  private constructor(setup: PacketSetup) {
    assertOpened(setup, 'PacketSocket', 'PacketSocket.open() or PacketSocket.fromFd()');
    super(setup);
    this.#datagram = setup.datagram;
    this.#fanout = setup.fanout ?? false;
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
   * Takes over a packet socket that something else opened; it becomes close-on-exec, and is closed with the PacketSocket. One that is bound to no
   * interface has the index 0 and an empty name. With virtio headers (PACKET_VNET_HDR) its `offload` is 'raw'.
   *
   * @throws SystemError ENOTSOCK (no packet socket), EBADFD (its interface is deleted), EBADF (none
   * at all); the descriptor is then still the caller's.
   */
  static fromFd(fd: number): PacketSocket {
    return adopted(
      fd,
      (taken) => opened(native().adoptPacket(taken), hints),
      (handle, netns, place) => {
        const index = handle.control('sll_ifindex', 0);
        const name = index === 0 ? '' : interfaceNameOf(handle, 'SIOCGIFNAME');
        const datagram = handle.control('SO_TYPE', 0) === SOCK_DGRAM;
        const config = socketConfig(optionReader({}));
        const setup = setupOf(handle, netns, name, index, datagram, config, OffloadState.of(handle));
        return new PacketSocket({ ...setup, place });
      },
    );
  }

  /** 'raw': frames with their link header; 'dgram': packets without it. */
  get type(): 'raw' | 'dgram' {
    return this.#datagram ? 'dgram' : 'raw';
  }

  /** Bytes that the kernel has for packets that wait to be received, bookkeeping included (SO_RCVBUF). */
  getRecvBufferSize(): number {
    return this.#get('SO_RCVBUF');
  }

  /**
   * Changes them; what is queued already stays. Without CAP_NET_ADMIN up to net.core.rmem_max.
   *
   * @param size - 1 to 1073741823 bytes, which the kernel doubles.
   */
  setRecvBufferSize(size: number): void {
    this.#set('SO_RCVBUF', integer('size', size, 1, MAX_BUFFER));
  }

  /** Bytes that the kernel has for packets that wait to be sent, bookkeeping included (SO_SNDBUF). */
  getSendBufferSize(): number {
    return this.#get('SO_SNDBUF');
  }

  /**
   * Changes them. Without CAP_NET_ADMIN up to net.core.wmem_max.
   *
   * @param size - 1 to 1073741823 bytes, which the kernel doubles.
   */
  setSendBufferSize(size: number): void {
    this.#set('SO_SNDBUF', integer('size', size, 1, MAX_BUFFER));
    internalsOf(this).roomChanged();
  }

  /** The mark of what is sent from now on: 0 to 4294967295 (SO_MARK). Setting it needs CAP_NET_ADMIN. */
  get mark(): number {
    return this.#get('SO_MARK');
  }

  set mark(value: number) {
    this.#set('SO_MARK', packetMark('mark', value) | 0);
  }

  /** The priority of what is sent from now on: 0 to 6, with CAP_NET_ADMIN up to 2147483647 (SO_PRIORITY). */
  get priority(): number {
    return this.#get('SO_PRIORITY');
  }

  set priority(value: number) {
    this.#set('SO_PRIORITY', packetPriority('priority', value));
  }

  /** The number of the fanout group, `undefined` without one: what `group: 'unique'` has found. */
  get fanoutGroup(): number | undefined {
    const value = this.#get('PACKET_FANOUT');
    // The mode is in the upper half; a socket without a group has 0 for all of it.
    return value === 0 && !this.#fanout ? undefined : value & 0xffff;
  }

  /**
   * Says which packets are received from now on, as the option `filter`. Packets that came before are thrown away, so that all that follow
   * passed it. With `offload: 'split'` it lets a packet through whole or not at all, as that option says.
   *
   * @throws SystemError EINVAL (the kernel refuses the program) or EPERM (lockFilter() was called); the filter before is then in force.
   */
  setFilter(program: readonly BpfInstruction[] | string): void {
    const words = bpfProgram('program', program);
    this.#setFilter(this.offload === 'split' ? wholePackets('program', words) : words);
  }

  /** Receives everything again. Packets that came before are thrown away. @throws SystemError EPERM (lockFilter() was called). */
  removeFilter(): void {
    this.#setFilter(new Uint32Array());
  }

  /** From now on nobody changes or removes the filter of this descriptor, whoever gets it (SO_LOCK_FILTER). It can't be taken back without CAP_NET_ADMIN. */
  lockFilter(): void {
    this.#set('SO_LOCK_FILTER', 1);
  }

  /**
   * Has the interface receive more than what is for this host: 'promiscuous': everything; 'allMulticast'; or one hardware address, of a multicast
   * group (`'01:80:c2:00:00:0e'` for LLDP) or another unicast address. Counted, as dgram's memberships are not: each needs its
   * dropMembership(), and all end with the socket (PACKET_ADD_MEMBERSHIP).
   *
   * @throws SystemError ENODEV (the socket is on all interfaces, or its own is gone), EINVAL (not an address of this link).
   */
  addMembership(membership: 'promiscuous' | 'allMulticast' | (string & {})): void {
    this.#changeMembership(true, membership);
  }

  /** Takes an addMembership() back; without one it does nothing. The option `promiscuous` counts as one. */
  dropMembership(membership: 'promiscuous' | 'allMulticast' | (string & {})): void {
    this.#changeMembership(false, membership);
  }

  #changeMembership(add: boolean, membership: string): void {
    const { handle, errorContext } = internalsOf(this);
    const known = memberships.get(string('membership', membership));
    const address = known === undefined ? hardwareAddress('membership', membership) : new Uint8Array();
    const type = known ?? ((address[0] as number) & 1 ? PACKET_MR_MULTICAST : PACKET_MR_UNICAST);
    const syscall = add ? 'PACKET_ADD_MEMBERSHIP' : 'PACKET_DROP_MEMBERSHIP';
    check(handle.changeMembership(add, type, address), syscall, errorContext);
  }

  #setFilter(program: Uint32Array): void {
    const { handle, settle, errorContext } = internalsOf(this);
    // What nobody took came before.
    settle();
    const result = handle.setFilter(program);
    const hint = hints.get(`SO_ATTACH_FILTER ${result}`);
    check(result, 'SO_ATTACH_FILTER', { ...errorContext, hint });
  }

  #get(option: string): number {
    const { handle, errorContext } = internalsOf(this);
    return check(handle.control(option, 0), option, errorContext);
  }

  #set(option: string, value: number): void {
    const { handle, errorContext } = internalsOf(this);
    check(handle.control(`set ${option}`, value), option, errorContext);
  }

  static #openHere(config: PacketConfig, netns: Netns | undefined): PacketSocket {
    const name = config.interface;
    const index = name === '' ? 0 : Link.get(name).index;
    const handle = opened(native().openPacket({ ...config.settings, interfaceIndex: index }), hints, () => ({
      interface: name || undefined,
    }));
    try {
      const { datagram, fanout } = config.settings;
      const offload = offloadOf(handle, config);
      return new PacketSocket({
        ...setupOf(handle, netns, name, index, datagram, config, offload),
        fanout: fanout !== undefined,
      });
    } catch (error) {
      handle.close();
      throw error;
    }
  }
}

/** A link header that nobody here can look behind; with `vhost`, a kernel before 6.4 (PACKET_VNET_HDR_SZ). */
const NO_OFFLOAD: ReadonlySet<string> = new Set(['EOPNOTSUPP', 'ENOPROTOOPT']);

/** What of offload the options ask for, or by default as much as the link can have. */
function offloadOf(
  handle: SocketHandle,
  config: PacketConfig,
  mode = config.offload ?? 'split',
): OffloadState {
  const { offload, interface: name, settings, vhost } = config;
  if (mode === 'none' && vhost === undefined) return OffloadState.none;
  // Past the queueing discipline the kernel cuts no superpackets.
  const wanted = mode === 'split' && settings.qdiscBypass ? CHECKSUMS_ONLY : undefined;
  try {
    return OffloadState.enable(
      handle,
      mode,
      false,
      'PACKET_VNET_HDR',
      { interface: name || undefined },
      wanted,
      vhost,
    );
  } catch (error) {
    if (offload !== undefined || mode === 'none' || !NO_OFFLOAD.has((error as SystemError).code)) throw error;
    return offloadOf(handle, config, 'none');
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
    metadata: handle.vhost() ? 0 : META_LINK,
    offload,
    checkMeta: (meta) => checkPacketMeta(meta, datagram, offload),
    hint: (errno, syscall, flags) => hint(errno, syscall, flags, datagram),
    followMtu: offload.mode === 'split',
    countsDrops: true,
    countsArrivals: true,
  };
}

function checkPacketMeta({ bytes, kinds }: SendMeta, datagram: boolean, offload: OffloadState): void {
  if ((kinds & META_DATAGRAM) !== 0)
    throw noDestination('and an address there is one of the link, without a port');
  const addressed = (kinds & META_DESTINATION) !== 0 && bytes[ADDRESS_LENGTH] !== 0;
  if (addressed && !datagram) throw noDestination('a frame has it in its header');
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
  ['SO_ATTACH_FILTER -1', 'the filter is locked: lockFilter() was called'],
  [
    'PACKET_FANOUT -22',
    "the group's other sockets have another interface, protocol, mode, ignoreOutgoing, rollover, defrag or maxMembers",
  ],
  [
    'PACKET_FANOUT -28',
    'the group is full: it has at most maxMembers sockets, 256 unless the first of them said so',
  ],
  [
    'PACKET_FANOUT_DATA -22',
    'the kernel refuses the program, or the descriptor is that of another kind of program',
  ],
  ['PACKET_FANOUT_DATA -9', 'the descriptor of the program is none'],
  ['getsockopt -88', 'the descriptor is no packet socket'],
  ['PACKET_VNET_HDR_SZ -95', 'its virtio header is longer than the 24 bytes that tunsock knows'],
]);
