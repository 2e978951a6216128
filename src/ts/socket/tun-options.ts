import { cidr, macAddress, oneOrMany, type Route, route } from '../host/cidr';
import { Netns } from '../host/netns';
import { invalidArgType, invalidArgValue } from '../support/errors';
import {
  abortSignal,
  boolean,
  integer,
  interfaceName,
  knownOptions,
  oneOf,
  optionsObject,
  string,
} from '../support/options';

/** How TunSocket.open() makes a device, or attaches to one. Each option has its kernel's default where none is named. */
export interface TunOptions {
  /** The interface's name, at most 15 bytes; one '%d' in it lets the kernel number it. Default 'tun%d' or 'tap%d'. */
  name?: string;
  /** 'tun' carries IP packets, 'tap' Ethernet frames. Default 'tun'. */
  mode?: 'tun' | 'tap';
  /** Each packet starts with 4 bytes of struct tun_pi: flags (host order) and EtherType (network order). Default false. */
  packetInfo?: boolean;
  /** 'none': packets as they are. Default 'none'. */
  offload?: 'none';
  /** One of several queues of the device (IFF_MULTI_QUEUE); each open() attaches one more. Default false. */
  multiQueue?: boolean;
  /** Fail with EBUSY where the device is there already (IFF_TUN_EXCL). Default false. */
  exclusive?: boolean;
  /** Whether the device stays when its last socket is closed (TUNSETPERSIST). Default: as it is. */
  persist?: boolean;
  /** The user id that may attach without CAP_NET_ADMIN. */
  owner?: number;
  /** The group id that may attach without CAP_NET_ADMIN. */
  group?: number;
  /** Receive through NAPI (IFF_NAPI); 'frags' on a tap device also from fragments (IFF_NAPI_FRAGS). Default false. */
  napi?: boolean | 'frags';
  /** The network namespace for the device: a Netns, a path, a name of `ip netns`, or a process id. This thread stays. */
  netns?: Netns | string | number;
  /** Addresses as CIDR ('10.0.0.1/24', 'fd00::1/64'): one or several. */
  address?: string | readonly string[];
  /** Routes through the device: destinations as CIDR or 'default', or objects as Link.addRoute() takes them. */
  routes?: string | Route | readonly (string | Route)[];
  /** Bytes of the largest packet without its link header: 68 to 65535. */
  mtu?: number;
  /** The device's hardware address ('02:00:00:00:00:01'); tap only. */
  mac?: string;
  /** Bring the interface up. Default true. */
  up?: boolean;
  /** Packets that wait for this socket to receive them; what overflows is dropped. The kernel's default is 500. */
  txQueueLength?: number;
  /** Milliseconds that a blocking recvmsg() or recvmmsg() waits before EAGAIN. Default: for ever. */
  receiveTimeout?: number;
  /** Bytes that send() may queue before ENOBUFS. Default 16 MiB. */
  sendQueueLimit?: number;
  /** Closes the socket when it is aborted. */
  signal?: AbortSignal;
  /** The device file. Default '/dev/net/tun'. */
  device?: string;
}

/** TunOptions, validated and with defaults. */
export interface TunConfig {
  name: string;
  tap: boolean;
  packetInfo: boolean;
  multiQueue: boolean;
  exclusive: boolean;
  napi: boolean | 'frags';
  persist: boolean | undefined;
  owner: number | undefined;
  group: number | undefined;
  netns: Netns | string | number | undefined;
  addresses: string[];
  routes: Route[];
  mtu: number | undefined;
  mac: string | undefined;
  up: boolean;
  txQueueLength: number | undefined;
  receiveTimeout: number | undefined;
  sendQueueLimit: number;
  signal: AbortSignal | undefined;
  device: string;
}

const KNOWN = [
  'name',
  'mode',
  'packetInfo',
  'offload',
  'multiQueue',
  'exclusive',
  'persist',
  'owner',
  'group',
  'napi',
  'netns',
  'address',
  'routes',
  'mtu',
  'mac',
  'up',
  'txQueueLength',
  'receiveTimeout',
  'sendQueueLimit',
  'signal',
  'device',
] as const satisfies readonly (keyof TunOptions)[];

const MAX_ID = 0x7fffffff;
const DEFAULT_SEND_QUEUE_LIMIT = 16 * 1024 * 1024;
/** setTimeout's own limit. */
const MAX_TIMEOUT_MS = 0x7fffffff;

/** Checks all options before anything is opened. */
export function tunConfig(options: TunOptions | undefined): TunConfig {
  const given = optionsObject('options', options);
  knownOptions('options', given, KNOWN);
  const optional = <T>(
    key: (typeof KNOWN)[number],
    read: (name: string, value: unknown) => T,
  ): T | undefined => (given[key] === undefined ? undefined : read(`options.${key}`, given[key]));
  const number = (min: number, max: number) => (name: string, value: unknown) =>
    integer(name, value, min, max);

  const tap = optional('mode', (name, value) => oneOf(name, value, ['tun', 'tap'])) === 'tap';
  const mac = optional('mac', macAddress);
  if (mac !== undefined && !tap)
    throw invalidArgValue('options.mac', "given only with mode 'tap': a tun device has none", mac);
  const napi = optional('napi', (name, value) => (value === 'frags' ? value : boolean(name, value))) ?? false;
  if (napi === 'frags' && !tap) throw invalidArgValue('options.napi', "'frags' only with mode 'tap'", napi);
  optional('offload', (name, value) => oneOf(name, value, ['none']));

  return {
    name:
      optional('name', (name, value) => interfaceName(name, value, { template: true })) ??
      (tap ? 'tap%d' : 'tun%d'),
    tap,
    packetInfo: optional('packetInfo', boolean) ?? false,
    multiQueue: optional('multiQueue', boolean) ?? false,
    exclusive: optional('exclusive', boolean) ?? false,
    napi,
    persist: optional('persist', boolean),
    owner: optional('owner', number(0, MAX_ID)),
    group: optional('group', number(0, MAX_ID)),
    netns: optional('netns', namespace),
    addresses: oneOrMany('options.address', given.address, cidr),
    routes: oneOrMany('options.routes', given.routes, route),
    mtu: optional('mtu', number(68, 65535)),
    mac,
    up: optional('up', boolean) ?? true,
    txQueueLength: optional('txQueueLength', number(0, 0xffffffff)),
    receiveTimeout: optional('receiveTimeout', number(0, MAX_TIMEOUT_MS)),
    sendQueueLimit:
      optional('sendQueueLimit', number(1, Number.MAX_SAFE_INTEGER)) ?? DEFAULT_SEND_QUEUE_LIMIT,
    signal: optional('signal', abortSignal),
    device: optional('device', string) ?? '/dev/net/tun',
  };
}

function namespace(name: string, value: unknown): Netns | string | number {
  if (value instanceof Netns || typeof value === 'string' || typeof value === 'number') return value;
  throw invalidArgType(name, 'a Netns, a path, a name or a process id', value);
}
