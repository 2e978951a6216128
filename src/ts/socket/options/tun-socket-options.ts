import { type AddressOptions, address } from '../../host/address';
import { macAddress, oneOrMany } from '../../host/cidr';
import { type AddressGeneration, addressGeneration } from '../../host/link-options';
import { type Route, type RouteSpec, route } from '../../host/route';
import type { AddressData } from '../../native';
import { invalidArgValue } from '../../support/errors';
import { boolean, interfaceName, knownOptions, oneOf, optionsObject, string } from '../../support/options';
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
import {
  VHOST_OPTIONS,
  type VhostConfig,
  type VhostOptions,
  vhostConfig,
  withoutVhost,
} from './vhost-options';

/** How TunSocket.open() makes a device, or attaches to one. Each option has its kernel's default where none is named. */
export interface TunOptions extends SocketOptions, VhostOptions {
  /** The interface's name, at most 15 bytes; one '%d' in it lets the kernel number it. Default 'tun%d' or 'tap%d'. */
  name?: string;
  /** 'tun' carries IP packets, 'tap' Ethernet frames. Default 'tun'. */
  mode?: 'tun' | 'tap';
  /** Each packet starts with 4 bytes of struct tun_pi: flags (host order) and EtherType (network order). Default false. */
  packetInfo?: boolean;
  /**
   * Segmentation offload (IFF_VNET_HDR, TUNSETOFFLOAD). 'none': each packet is whole, and no longer than the mtu. 'split': so too, but the
   * kernel sees superpackets of up to 64 KiB both ways; they are cut and made here, which pays for bulk transfers. 'raw': superpackets
   * as the kernel has them, each with what is still to be done to it (`info.offload`). All queues of a device need it alike. Default 'none'.
   */
  offload?: OffloadMode;
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
  /** Addresses as CIDR ('10.0.0.1/24', 'fd00::1/64'), or objects as Link.addAddress() takes them: one or several. */
  address?: string | AddressOptions | readonly (string | AddressOptions)[];
  /** How the device gets its IPv6 link-local address, if at all. Default: as it is. */
  addressGeneration?: AddressGeneration;
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
  /** The device file. Default '/dev/net/tun'. */
  device?: string;
}

/** TunOptions, validated and with defaults. */
export interface TunConfig extends SocketConfig {
  vhost: VhostConfig | undefined;
  name: string;
  tap: boolean;
  packetInfo: boolean;
  offload: OffloadMode;
  multiQueue: boolean;
  exclusive: boolean;
  napi: boolean | 'frags';
  persist: boolean | undefined;
  owner: number | undefined;
  group: number | undefined;
  addresses: AddressData[];
  addressGeneration: AddressGeneration | undefined;
  routes: RouteSpec[];
  mtu: number | undefined;
  mac: string | undefined;
  up: boolean;
  txQueueLength: number | undefined;
  device: string;
}

const KNOWN = [
  ...SOCKET_OPTIONS,
  ...VHOST_OPTIONS,
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
  'address',
  'addressGeneration',
  'routes',
  'mtu',
  'mac',
  'up',
  'txQueueLength',
  'device',
] as const satisfies readonly (keyof TunOptions)[];

const MAX_ID = 0x7fffffff;

/** Checks all options before anything is opened. */
export function tunConfig(options: TunOptions | undefined): TunConfig {
  const given = optionsObject('options', options);
  knownOptions('options', given, KNOWN);
  const optional = optionReader<(typeof KNOWN)[number]>(given);

  const tap = optional('mode', (name, value) => oneOf(name, value, ['tun', 'tap'])) === 'tap';
  const mac = optional('mac', macAddress);
  if (mac !== undefined && !tap)
    throw invalidArgValue('options.mac', "given only with mode 'tap': a tun device has none", mac);
  const napi = optional('napi', (name, value) => (value === 'frags' ? value : boolean(name, value))) ?? false;
  if (napi === 'frags' && !tap) throw invalidArgValue('options.napi', "'frags' only with mode 'tap'", napi);
  const offload = optional('offload', offloadMode) ?? 'none';
  const packetInfo = optional('packetInfo', boolean) ?? false;
  if (packetInfo && offload !== 'none') {
    throw invalidArgValue('options.packetInfo', "given only with offload 'none'", packetInfo);
  }

  let vhost = vhostConfig(optional);
  if (packetInfo) vhost = withoutVhost(vhost, 'packetInfo', 'a ring has no place for it');

  return {
    ...socketConfig(optional),
    vhost,
    name:
      optional('name', (name, value) => interfaceName(name, value, { template: true })) ??
      (tap ? 'tap%d' : 'tun%d'),
    tap,
    packetInfo,
    offload,
    multiQueue: optional('multiQueue', boolean) ?? false,
    exclusive: optional('exclusive', boolean) ?? false,
    napi,
    persist: optional('persist', boolean),
    owner: optional('owner', wholeNumber(0, MAX_ID)),
    group: optional('group', wholeNumber(0, MAX_ID)),
    addresses: oneOrMany('options.address', given.address, address),
    addressGeneration: optional('addressGeneration', addressGeneration),
    routes: oneOrMany('options.routes', given.routes, route),
    mtu: optional('mtu', wholeNumber(68, 65535)),
    mac,
    up: optional('up', boolean) ?? true,
    txQueueLength: optional('txQueueLength', wholeNumber(0, 0xffffffff)),
    device: optional('device', string) ?? '/dev/net/tun',
  };
}
