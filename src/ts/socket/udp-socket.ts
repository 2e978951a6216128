import { Link } from '../host/link';
import { currentPlace, type Netns } from '../host/netns';
import { native, type SocketHandle } from '../native';
import { addressIn, addressMeta, destination, isSegmented, zoneIndex } from '../packet/datagram-meta';
import { META_BYTES, META_DATAGRAM, type SendMeta } from '../packet/packet-meta';
import { MSG_DONTWAIT, MSG_ERRQUEUE, MSG_NOSIGNAL, MSG_PEEK, MSG_TRUNC } from '../support/constants';
import { check, invalidArgValue, type SystemErrorContext, systemError } from '../support/errors';
import { EINVAL, EOPNOTSUPP, EPERM, unknownFlags } from '../support/io-errors';
import { ipBytes } from '../support/ip-bytes';
import { boolean, integer } from '../support/options';
import type { DatagramAddress, DatagramInfo } from '../support/types';
import { internalsOf, MessageSocket, type MessageSocketSetup } from './message-socket';
import { OffloadState } from './offload-state';
import { adopted, assertOpened, noSegments, opened, openWhere } from './opening';
import { optionReader, type SocketConfig, socketConfig } from './options/socket-options';
import {
  bothWays,
  MAX_BUFFER,
  multicastInterface,
  type UdpConfig,
  type UdpSocketOptions,
  udpConfig,
} from './options/udp-socket-options';
import { networkErrors } from './udp-errors';

const AF_INET6 = 10;

interface UdpSetup extends MessageSocketSetup {
  six: boolean;
}

/**
 * A UDP socket with the face of the other sockets: each message is a datagram. The outer leg of a tunnel: batches, runs of datagrams that
 * cross into the kernel as one (`offload`), ECN, the path's mtu. For what node:dgram does well, use node:dgram. Made by
 * UdpSocket.open() and UdpSocket.fromFd(). udp(7).
 *
 * A datagram goes to the peer that connect() named, or to its own destination: `send(data, { to }, callback)`, `sendmsg(data, flags, { to })`,
 * `batch.push(data, { to })`. With `offload: 'raw'` and `{ segmentSize }` the data are several datagrams; where the kernel or the path refuses
 * these as one message they go out one by one, and with MSG_DONTWAIT sendmsg() may return less than all, whole datagrams, where there is room
 * for no more. An empty datagram is one, both ways. MSG_PEEK is allowed; recvmsg() into 0 bytes takes the datagram out of the queue.
 *
 * What the network says of datagrams that were sent to a connected peer (ICMP: ECONNREFUSED, EHOSTUNREACH, EMSGSIZE …) is an 'error' event for who
 * listens, with the properties `address` and `port` (whom the datagram was for) and `offender` (who told of it). It is counted in
 * `stats().received.errors`, never ends the socket and never fails another send. A blocking recvmsg() throws it; recvmsg() with MSG_ERRQUEUE reads
 * such messages one by one (`info.error`).
 *
 * @example
 * ```ts
 * const udp = UdpSocket.open({ address: '127.0.0.1', port: 7000, offload: 'split' });
 * udp.on('message', (data, { from }) => udp.send(data, { to: from }));
 * ```
 */
export class UdpSocket extends MessageSocket<DatagramInfo> {
  /** As it was before it had a peer. */
  readonly #bound: Uint8Array;
  readonly #six: boolean;

  private constructor(setup: UdpSetup) {
    assertOpened(setup, 'UdpSocket', 'UdpSocket.open() or UdpSocket.fromFd()');
    super(setup);
    this.#six = setup.six;
    this.#bound = this.#ask('getsockname');
  }

  /**
   * Opens a socket and binds it: the whole of it, or a thrown error with nothing left behind. Without `netns`, in the network namespace
   * of this thread.
   *
   * @throws TypeError and RangeError for options that make no sense; addresses are numeric. SystemError: EADDRINUSE (`reusePort` shares it),
   * EADDRNOTAVAIL (no address of this host), EACCES (a port below 1024 without CAP_NET_BIND_SERVICE), EPERM as `SO_MARK` (CAP_NET_ADMIN is
   * missing), ENODEV (no such interface). AbortError when `signal` is aborted already.
   */
  static open(options?: UdpSocketOptions): UdpSocket {
    const config = udpConfig(options);
    return openWhere(config, (netns) => UdpSocket.#openHere(config, netns));
  }

  /**
   * Takes over a UDP socket that something else opened; it becomes close-on-exec, and is closed with the UdpSocket. Where UDP_GRO is on, its `offload` is 'raw'.
   *
   * @throws SystemError ENOTSOCK (no UDP socket), EBADF (none at all); the descriptor is then still the caller's.
   */
  static fromFd(fd: number): UdpSocket {
    return adopted(
      fd,
      (taken) => opened(native().adoptUdp(taken), hints),
      (handle, netns, place) => {
        const name = handle.name();
        const bound = typeof name === 'string' ? name : '';
        const index = bound === '' ? 0 : Math.max(0, handle.control(`interface ${bound}`, 0));
        const six = handle.control('SO_DOMAIN', 0) === AF_INET6;
        const offload = OffloadState.found(handle.control('UDP_GRO', 0) > 0);
        const config = socketConfig(optionReader({}));
        return new UdpSocket({ ...setupOf(handle, netns, bound, index, six, config, offload), place });
      },
    );
  }

  /** Where it receives; the port is the one that the kernel chose where none was asked for. getsockname(2). */
  address(): DatagramAddress {
    return addressIn(this.#ask('getsockname'));
  }

  /**
   * Names the peer: datagrams go there that have no destination of their own, and only what comes from there is received. Another one can
   * be named later. connect(2).
   *
   * What anybody else sends from then on the kernel drops before it gets here: no counter of the socket's knows of it, only `NoPorts` of the
   * namespace (Udp in /proc/net/snmp, Udp6NoPorts in snmp6), and its sender hears ECONNREFUSED. What had come before is still handed out:
   * `info.from` says whose it is.
   *
   * @throws TypeError and RangeError for an address that is not numeric or a port outside 1 to 65535. SystemError ENETUNREACH (no route), EAFNOSUPPORT
   * (an IPv6 address on an IPv4 socket), EACCES (a broadcast address without `broadcast`).
   */
  connect(address: string, port: number): void {
    const to = destination(address, port);
    this.#request('connect', addressMeta(to.address, to.port, to.scope), {
      hint: connectHint(this.#six, to),
    });
  }

  /**
   * Forgets the peer, and what it has said.
   *
   * @throws Error `ERR_SOCKET_DGRAM_NOT_CONNECTED` without one.
   */
  disconnect(): void {
    this.remoteAddress();
    this.#request('disconnect', this.#bound.slice());
  }

  /**
   * The peer.
   *
   * @throws Error `ERR_SOCKET_DGRAM_NOT_CONNECTED` without one.
   */
  remoteAddress(): DatagramAddress {
    const meta = new Uint8Array(META_BYTES);
    const result = internalsOf(this).handle.address('getpeername', meta);
    if (result === ENOTCONN) {
      throw Object.assign(new Error('the socket has no peer: see connect()'), {
        code: 'ERR_SOCKET_DGRAM_NOT_CONNECTED',
      });
    }
    check(result, 'getpeername');
    return addressIn(meta);
  }

  /**
   * Bytes of the largest packet on the way to the peer, as far as it has been learnt (IP_MTU); a datagram has 28 less, over IPv6 48.
   *
   * @throws SystemError ENOTCONN without a peer.
   */
  get mtu(): number {
    const four = !this.#six || this.remoteAddress().family === 'IPv4';
    return this.#get(four ? 'IP_MTU' : 'IPV6_MTU');
  }

  /** Bytes that the kernel has for datagrams that wait to be received, bookkeeping included (SO_RCVBUF). */
  getRecvBufferSize(): number {
    return this.#get('SO_RCVBUF');
  }

  /** Bytes that the kernel has for datagrams that wait to be sent, bookkeeping included (SO_SNDBUF). */
  getSendBufferSize(): number {
    return this.#get('SO_SNDBUF');
  }

  /** @param size - 1 to 1073741823 bytes; without CAP_NET_ADMIN up to net.core.rmem_max. The kernel doubles it. */
  setRecvBufferSize(size: number): void {
    setBuffer(internalsOf(this).handle, 'SO_RCVBUF', integer('size', size, 1, MAX_BUFFER));
  }

  /** @param size - 1 to 1073741823 bytes; without CAP_NET_ADMIN up to net.core.wmem_max. The kernel doubles it. */
  setSendBufferSize(size: number): void {
    const internals = internalsOf(this);
    setBuffer(internals.handle, 'SO_SNDBUF', integer('size', size, 1, MAX_BUFFER));
    internals.roomChanged();
  }

  /** Whether it may send to broadcast addresses (SO_BROADCAST). */
  setBroadcast(broadcast: boolean): void {
    this.#set('SO_BROADCAST', Number(boolean('broadcast', broadcast)));
  }

  /** @param ttl - time to live, hop limit of IPv6: 1 to 255. */
  setTTL(ttl: number): void {
    this.#setBoth('IP_TTL', 'IPV6_UNICAST_HOPS', integer('ttl', ttl, 1, 255));
  }

  /** @param ttl - time to live of multicast datagrams: 0 to 255. */
  setMulticastTTL(ttl: number): void {
    this.#setBoth('IP_MULTICAST_TTL', 'IPV6_MULTICAST_HOPS', integer('ttl', ttl, 0, 255));
  }

  /** Whether this host hears what it sends to a group. */
  setMulticastLoopback(loopback: boolean): void {
    this.#setBoth('IP_MULTICAST_LOOP', 'IPV6_MULTICAST_LOOP', Number(boolean('loopback', loopback)));
  }

  /** @param name - the interface that multicast datagrams leave by: its name, '::%name', or an IPv4 address of it. */
  setMulticastInterface(name: string): void {
    setMulticastInterface(internalsOf(this).handle, multicastInterface('name', name));
  }

  /**
   * Joins a multicast group on `name`, or where the routes say.
   *
   * @param group - a multicast address.
   * @param name - an interface: its name, '::%name', or an IPv4 address of it.
   * @throws SystemError EADDRINUSE (it is joined already), ENODEV (no such interface, and without `name` no route to the group), EINVAL (no
   * multicast address).
   */
  addMembership(group: string, name?: string): void {
    this.#membership('add membership', group, name);
  }

  /**
   * Leaves a multicast group.
   *
   * @throws SystemError EADDRNOTAVAIL (it is not joined).
   */
  dropMembership(group: string, name?: string): void {
    this.#membership('drop membership', group, name);
  }

  /** Joins a multicast group for what one source sends. */
  addSourceSpecificMembership(source: string, group: string, name?: string): void {
    this.#membership('add membership', group, name, source);
  }

  /** Leaves a multicast group as far as one source is concerned. */
  dropSourceSpecificMembership(source: string, group: string, name?: string): void {
    this.#membership('drop membership', group, name, source);
  }

  #membership(request: string, group: string, name: string | undefined, source?: string): void {
    const address = ipBytes('group', group);
    const from = source === undefined ? undefined : ipBytes('source', source);
    const on = name === undefined ? undefined : multicastInterface('name', name);
    const { handle } = internalsOf(this);
    const index = on === undefined ? zoneIndex('group', address) : indexOf(handle, on);
    this.#request(request, addressMeta(address, 0, 0, index, from), {
      hint: 'a multicast address is in 224.0.0.0/4 or ff00::/8, and without an interface a route must lead to it',
    });
  }

  #ask(request: string): Uint8Array {
    return this.#request(request, new Uint8Array(META_BYTES));
  }

  #request(request: string, meta: Uint8Array, context: SystemErrorContext = {}): Uint8Array {
    const result = internalsOf(this).handle.address(request, meta);
    if (result < 0) throw systemError(result, syscalls[request] ?? request, context);
    return meta;
  }

  #get(request: string): number {
    return check(internalsOf(this).handle.control(request, 0), 'getsockopt');
  }

  #set(request: string, value: number): void {
    check(internalsOf(this).handle.control(`set ${request}`, value), request);
  }

  #setBoth(request4: string, request6: string, value: number): void {
    for (const [request, given] of bothWays(this.#six, request4, request6, value)) this.#set(request, given);
  }

  static #openHere(config: UdpConfig, netns: Netns | undefined): UdpSocket {
    const name = config.interface ?? '';
    const index = name === '' ? 0 : Link.get(name).index;
    const handle = opened(native().openUdp(config.six), hints);
    try {
      configure(handle, config, index);
      const offload =
        config.offload === 'none'
          ? OffloadState.none
          : OffloadState.enable(handle, config.offload, false, 'UDP_GRO', {});
      return new UdpSocket(setupOf(handle, netns, name, index, config.six, config, offload));
    } catch (error) {
      handle.close();
      throw error;
    }
  }
}

const ENOTCONN = -107;

const syscalls: Readonly<Record<string, string>> = {
  'add membership': 'IP_ADD_MEMBERSHIP',
  'drop membership': 'IP_DROP_MEMBERSHIP',
  'multicast interface': 'IP_MULTICAST_IF',
  disconnect: 'connect',
};

/** Before it is bound, so that nothing comes in that the options don't ask for. */
function configure(handle: SocketHandle, config: UdpConfig, index: number): void {
  for (const [request, value] of config.settings) {
    check(handle.control(`set ${request}`, value), request, { hint: hints.get(request) });
  }
  if (index !== 0) {
    check(handle.control('set SO_BINDTODEVICE', index), 'SO_BINDTODEVICE', {
      interface: config.interface,
    });
  }
  if (config.receiveBuffer !== undefined) setBuffer(handle, 'SO_RCVBUF', config.receiveBuffer);
  if (config.sendBuffer !== undefined) setBuffer(handle, 'SO_SNDBUF', config.sendBuffer);
  if (config.multicastInterface !== undefined) setMulticastInterface(handle, config.multicastInterface);
  const { address, port } = config;
  const bound = handle.address('bind', addressMeta(address, port, scopeOf(handle, address)));
  check(bound, 'bind', { hint: hints.get(`bind ${bound}`) });
}

/** As large as asked for where the user may (CAP_NET_ADMIN), else up to the system's limit, as setsockopt(2) has it. */
function setBuffer(handle: SocketHandle, request: 'SO_RCVBUF' | 'SO_SNDBUF', size: number): void {
  const forced = handle.control(`set ${request}FORCE`, size);
  check(forced === EPERM ? handle.control(`set ${request}`, size) : forced, request);
}

function setMulticastInterface(handle: SocketHandle, name: string): void {
  const meta = addressMeta({ family: 4, bytes: new Uint8Array(4), zone: '' }, 0, 0, indexOf(handle, name));
  check(handle.address('multicast interface', meta), 'IP_MULTICAST_IF');
}

/** The index of an interface of the socket's namespace, by its name or an address of it. */
function indexOf(handle: SocketHandle, name: string): number {
  return check(handle.control(`interface ${name}`, 0), 'SIOCGIFINDEX', { interface: name });
}

/** A zone may be a name where the socket is at hand. */
function scopeOf(handle: SocketHandle, address: UdpConfig['address']): number {
  const { zone } = address;
  return zone === '' || /^\d+$/.test(zone) ? zoneIndex('options.address', address) : indexOf(handle, zone);
}

function setupOf(
  handle: SocketHandle,
  netns: Netns | undefined,
  name: string,
  index: number,
  six: boolean,
  { receiveTimeout, sendQueueLimit, signal }: SocketConfig,
  offload: OffloadState,
): UdpSetup {
  return {
    handle,
    name,
    index,
    six,
    place: currentPlace(),
    release: netns && (() => netns.close()),
    receiveTimeout,
    sendQueueLimit,
    signal,
    metadata: META_DATAGRAM,
    countsDrops: true,
    offload,
    checkMeta: (meta) => checkUdpMeta(meta, offload),
    hint,
    networkErrors: networkErrors(handle),
  };
}

function checkUdpMeta(meta: SendMeta, offload: OffloadState): void {
  if ((meta.kinds & META_DATAGRAM) === 0) {
    throw invalidArgValue(
      'options',
      "what a datagram can be told: to: { address: '192.0.2.1', port: 7 }, from, ecn, segmentSize",
      'an offload or a hardware address',
    );
  }
  if (isSegmented(meta) && offload.mode !== 'raw') throw noSegments();
}

function connectHint(six: boolean, { address }: { address: { family: number } }): string | undefined {
  return !six && address.family === 6 ? 'open the socket with an IPv6 address or family for that' : undefined;
}

function hint(errno: number, syscall: string, flags = 0): string | undefined {
  if (errno === EINVAL) {
    if (syscall.startsWith('send')) {
      return (
        unknownFlags(flags, MSG_DONTWAIT | MSG_NOSIGNAL) ??
        'a message is 64 datagrams at most (128 from Linux 6.9)'
      );
    }
    const batch = syscall === 'recvmmsg' ? 0 : MSG_PEEK | MSG_ERRQUEUE;
    return unknownFlags(flags, MSG_DONTWAIT | MSG_TRUNC | batch);
  }
  if (errno === EOPNOTSUPP) {
    return "the message is several datagrams (segmentSize), or a packet that is to be cut: open the socket with offload 'raw' for the former";
  }
  return ioHints.get(errno);
}

const ioHints = new Map<number, string>([
  [-89, 'the datagram has no destination: give { to: { address, port } }, or call connect()'],
  [
    -90,
    'a datagram has at most 65507 bytes, over IPv6 65487 with segments, and no more than the mtu where it may not be cut',
  ],
  [-97, 'an IPv4 socket sends to IPv4 only: open it with an IPv6 address or family for both'],
  [-100, 'the interface on the way is down'],
  [-101, 'there is no route to that address'],
]);

const hints = new Map<string, string>([
  ['getsockopt -88', 'the descriptor is no UDP socket'],
  ['SO_MARK', 'SO_MARK needs CAP_NET_ADMIN (or CAP_NET_RAW)'],
  ['bind -98', 'another socket has that port: reusePort: true on both shares it'],
  ['bind -99', 'that is no address of this host, in this network namespace'],
  ['bind -13', 'ports below 1024 need CAP_NET_BIND_SERVICE'],
]);
