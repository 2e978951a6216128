import { invalidArgValue } from '../../support/errors';
import { type IpBytes, ipBytes } from '../../support/ip-bytes';
import { boolean, interfaceName, knownOptions, oneOf, optionsObject } from '../../support/options';
import type { OffloadMode } from '../../support/types';
import {
  offloadMode,
  optionReader,
  SOCKET_OPTIONS,
  type SocketConfig,
  type SocketOptions,
  socketConfig,
  wholeNumber,
} from './socket-options';

/** By the number of IP_PMTUDISC_* (linux/in.h). */
const discoveries = ['dont', 'want', 'do', 'probe', 'interface', 'omit'] as const;

/** How UdpSocket.open() opens a socket. Each option has its kernel's default where none is named. udp(7), ip(7), ipv6(7). */
export interface UdpSocketOptions extends SocketOptions {
  /** The numeric address to receive at. Default: all of the host's. */
  address?: string;
  /** The port to receive at: 0 to 65535, with 0 the kernel chooses one. Default 0. */
  port?: number;
  /** Default: that of `address`, IPv4 without one. An IPv6 socket carries IPv4 too, unless `ipv6Only`. */
  family?: 'IPv4' | 'IPv6' | 4 | 6;
  /** On an IPv6 socket, nothing of IPv4 (IPV6_V6ONLY). Default false. */
  ipv6Only?: boolean;
  /** Others may have the same address and port (SO_REUSEADDR), which matters for multicast. Default false. */
  reuseAddress?: boolean;
  /** Sockets of this user share the port, such as those of Workers: each flow goes to one of them (SO_REUSEPORT). Default false. */
  reusePort?: boolean;
  /** Bytes for datagrams that wait to be received, without CAP_NET_ADMIN up to net.core.rmem_max. The kernel doubles it. */
  receiveBuffer?: number;
  /** Bytes for datagrams that wait to be sent, without CAP_NET_ADMIN up to net.core.wmem_max. The kernel doubles it. */
  sendBuffer?: number;
  /** The mark of what is sent, for policy routing: 0 to 4294967295 (SO_MARK, which needs CAP_NET_ADMIN). */
  mark?: number;
  /** The interface that it sends and receives by, whatever the routes (SO_BINDTODEVICE). */
  interface?: string;
  /** May send to broadcast addresses (SO_BROADCAST). Default false. */
  broadcast?: boolean;
  /** Time to live, hop limit of IPv6: 1 to 255. */
  ttl?: number;
  /** The byte of DSCP and ECN that datagrams get: 0 to 255 (IP_TOS, IPV6_TCLASS). Default 0. */
  trafficClass?: number;
  /** Time to live of multicast datagrams: 0 to 255. Default 1. */
  multicastTtl?: number;
  /** Whether this host hears what it sends to a group. Default true. */
  multicastLoopback?: boolean;
  /** The interface that multicast datagrams leave by: its name, or an address of it. */
  multicastInterface?: string;
  /**
   * Whether datagrams may be cut on their way (IP_MTU_DISCOVER). 'do': never; one longer than the path's mtu fails with EMSGSIZE. 'want': only
   * by this host. 'dont': anywhere. 'probe': never, and the mtu that was learnt is not looked at. 'interface', 'omit': the mtu of the
   * interface counts, whatever was learnt; 'interface' never cuts. Default 'want', as net.ipv4.ip_no_pmtu_disc has it.
   */
  pathMtuDiscovery?: (typeof discoveries)[number];
  /** Say in `info` when each datagram came (SO_TIMESTAMPNS). Default false. */
  timestamps?: boolean;
  /**
   * UDP_SEGMENT and UDP_GRO. 'none': each message is one datagram. 'split': so too, but the kernel sees runs of datagrams of one length
   * both ways, which are cut and made here. 'raw': a message may be several datagrams of one length (`info.segmentSize`, and `segmentSize` of
   * send calls). Default 'none'.
   */
  offload?: OffloadMode;
}

/** UdpSocketOptions, validated and with defaults. */
export interface UdpConfig extends SocketConfig {
  six: boolean;
  address: IpBytes;
  port: number;
  interface: string | undefined;
  multicastInterface: string | undefined;
  receiveBuffer: number | undefined;
  sendBuffer: number | undefined;
  /** Requests to the kernel in their order, by name. */
  settings: [request: string, value: number][];
  offload: OffloadMode;
}

const KNOWN = [
  ...SOCKET_OPTIONS,
  'address',
  'port',
  'family',
  'ipv6Only',
  'reuseAddress',
  'reusePort',
  'receiveBuffer',
  'sendBuffer',
  'mark',
  'interface',
  'broadcast',
  'ttl',
  'trafficClass',
  'multicastTtl',
  'multicastLoopback',
  'multicastInterface',
  'pathMtuDiscovery',
  'timestamps',
  'offload',
] as const satisfies readonly (keyof UdpSocketOptions)[];

/** SO_RCVBUF doubles what it is given, which is an int. */
export const MAX_BUFFER = 0x3fffffff;

const ANY_4: IpBytes = { family: 4, bytes: new Uint8Array(4), zone: '' };
const ANY_6: IpBytes = { family: 6, bytes: new Uint8Array(16), zone: '' };

/** What an IPv6 socket needs for its IPv4 side too is asked for both ways. */
export function bothWays(
  six: boolean,
  request4: string,
  request6: string,
  value: number,
): [string, number][] {
  return six
    ? [
        [request4, value],
        [request6, value],
      ]
    : [[request4, value]];
}

/** Checks all options before anything is opened. */
export function udpConfig(options: UdpSocketOptions | undefined): UdpConfig {
  const given = optionsObject('options', options);
  knownOptions('options', given, KNOWN);
  const optional = optionReader<(typeof KNOWN)[number]>(given);
  const given6 = optional('family', familyNumber);
  const address = optional('address', ipBytes);
  if (address !== undefined && given6 === false && address.family === 6) {
    throw invalidArgValue('options.address', 'an IPv4 address with family IPv4', given.address);
  }
  const six = given6 ?? address?.family === 6;
  const ipv6Only = optional('ipv6Only', boolean);
  if (ipv6Only !== undefined && !six) {
    throw invalidArgValue('options.ipv6Only', 'given only with an IPv6 address or family', ipv6Only);
  }
  const settings: [string, number][] = [];
  const set = (request: string, value: boolean | number | undefined) => {
    if (value !== undefined) settings.push([request, Number(value)]);
  };
  const both = (request4: string, request6: string, value: boolean | number | undefined) => {
    if (value !== undefined) settings.push(...bothWays(six, request4, request6, Number(value)));
  };
  if (six) set('IPV6_V6ONLY', ipv6Only ?? false);
  set('SO_REUSEADDR', optional('reuseAddress', boolean));
  set('SO_REUSEPORT', optional('reusePort', boolean));
  // As the kernel has it: an int.
  const mark = optional('mark', wholeNumber(0, 0xffffffff));
  set('SO_MARK', mark === undefined ? undefined : mark | 0);
  set('SO_BROADCAST', optional('broadcast', boolean));
  set('SO_TIMESTAMPNS', optional('timestamps', boolean));
  both('IP_TTL', 'IPV6_UNICAST_HOPS', optional('ttl', wholeNumber(1, 255)));
  both('IP_TOS', 'IPV6_TCLASS', optional('trafficClass', wholeNumber(0, 255)));
  both('IP_MULTICAST_TTL', 'IPV6_MULTICAST_HOPS', optional('multicastTtl', wholeNumber(0, 255)));
  both('IP_MULTICAST_LOOP', 'IPV6_MULTICAST_LOOP', optional('multicastLoopback', boolean));
  both('IP_MTU_DISCOVER', 'IPV6_MTU_DISCOVER', optional('pathMtuDiscovery', discoveryNumber));
  return {
    ...socketConfig(optional),
    six,
    address: address ?? (six ? ANY_6 : ANY_4),
    port: optional('port', wholeNumber(0, 0xffff)) ?? 0,
    interface: optional('interface', (name, value) => interfaceName(name, value)),
    multicastInterface: optional('multicastInterface', multicastInterface),
    receiveBuffer: optional('receiveBuffer', wholeNumber(1, MAX_BUFFER)),
    sendBuffer: optional('sendBuffer', wholeNumber(1, MAX_BUFFER)),
    settings,
    offload: optional('offload', offloadMode) ?? 'none',
  };
}

function familyNumber(name: string, value: unknown): boolean {
  if (value === 4 || value === 6) return value === 6;
  return oneOf(name, value, ['IPv4', 'IPv6']) === 'IPv6';
}

function discoveryNumber(name: string, value: unknown): number {
  return discoveries.indexOf(oneOf(name, value, discoveries));
}

/** An interface as dgram takes it: an IPv4 address of it, or '::%name'; or its name alone. */
export function multicastInterface(name: string, value: unknown): string {
  if (typeof value === 'string' && /^\d+\.\d+\.\d+\.\d+$/.test(value)) {
    ipBytes(name, value);
    return value;
  }
  const text = typeof value === 'string' ? value.replace(/^::%/, '') : value;
  return interfaceName(name, text);
}
