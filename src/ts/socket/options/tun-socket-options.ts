import { type AddressOptions, address } from '../../host/address';
import { macAddress, oneOrMany } from '../../host/cidr';
import { type AddressGeneration, addressGeneration } from '../../host/link-options';
import { type Route, type RouteSpec, route } from '../../host/route';
import type { AddressData } from '../../native';
import { type BpfInstruction, bpfProgram } from '../../packet/bpf';
import { groupId, userId } from '../../support/accounts';
import { invalidArgType, invalidArgValue } from '../../support/errors';
import { boolean, interfaceName, knownOptions, oneOf, optionsObject, string } from '../../support/options';
import type { OffloadFeature, OffloadMode } from '../../support/types';
import { featureMask, offloadFeatures as offloadFeatureNames } from '../offload-state';
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

/** The order of bytes in virtio headers; 'native' is the machine's own. */
export type ByteOrder = 'native' | 'little' | 'big';
const byteOrders: readonly ByteOrder[] = ['native', 'little', 'big'];

/** What both modes of a device have. */
export interface CommonTunOptions extends SocketOptions, VhostOptions {
  /** The interface's name, at most 15 bytes; one '%d' in it lets the kernel number it. Default 'tun%d' or 'tap%d'. */
  name?: string;
  /** Each packet starts with 4 bytes of struct tun_pi: flags (host order) and EtherType (network order). Default false. */
  packetInfo?: boolean;
  /**
   * Segmentation offload (IFF_VNET_HDR, TUNSETOFFLOAD). 'none': each packet is whole, and no longer than the mtu. 'split': so too, but the
   * kernel sees superpackets of up to 64 KiB both ways; they are cut and made here, which pays for bulk transfers. 'raw': superpackets
   * as the kernel has them, each with what is still to be done to it (`info.offload`). All queues of a device need it alike. As
   * `{ mode, features }`: only these of what the kernel has. Default 'none'.
   */
  offload?: OffloadMode | OffloadRequest;
  /** One of several queues of the device (IFF_MULTI_QUEUE); each open() attaches one more. Default false. */
  multiQueue?: boolean;
  /** Fail with EBUSY where the device is there already (IFF_TUN_EXCL). Default false. */
  exclusive?: boolean;
  /** Whether the device stays when its last socket is closed (TUNSETPERSIST). Default: as it is. */
  persist?: boolean;
  /** The user that may attach without CAP_NET_ADMIN: an id, or a name that /etc/passwd has. */
  owner?: number | string;
  /** The group that may attach without CAP_NET_ADMIN: an id, or a name that /etc/group has. */
  group?: number | string;
  /** The number of a new device: 1 to 2147483647 (TUNSETIFINDEX). */
  index?: number;
  /** Attach with no carrier, until setCarrier(true) (IFF_NO_CARRIER, since Linux 6.1). Default false. */
  noCarrier?: boolean;
  /** What the interface says that it is: ARPHRD_* of linux/if_arp.h, while it is down (TUNSETLINK). */
  linkType?: number;
  /** What the driver writes into the kernel's log: NETIF_MSG_* bits (TUNSETDEBUG). */
  debug?: number;
  /**
   * Bytes of virtio header between descriptor and program: 10 to 24, with `offload` (TUNSETVNETHDRSZ). UDP tunnels need 24. All queues
   * of a device have the same. Default: what is needed.
   */
  virtioHeaderSize?: number;
  /**
   * The order of bytes in virtio headers, with `offload: 'raw'` (TUNSETVNETLE, TUNSETVNETBE; the latter needs a kernel with CONFIG_TUN_VNET_CROSS_LE).
   * Another than the machine's own is for a descriptor that is handed over: `info.offload` is read in the machine's own. Default 'native'.
   */
  byteOrder?: ByteOrder;
  /** Addresses as CIDR ('10.0.0.1/24', 'fd00::1/64'), or objects as Link.addAddress() takes them: one or several. */
  address?: string | AddressOptions | readonly (string | AddressOptions)[];
  /** How the device gets its IPv6 link-local address, if at all. Default: as it is. */
  addressGeneration?: AddressGeneration;
  /** Routes through the device: destinations as CIDR or 'default', or objects as Link.addRoute() takes them. */
  routes?: string | Route | readonly (string | Route)[];
  /** Bytes of the largest packet without its link header: 68 to 65535. */
  mtu?: number;
  /** Bring the interface up. Default true. */
  up?: boolean;
  /** Packets that wait for this socket to receive them; what overflows is dropped. The kernel's default is 500. */
  txQueueLength?: number;
  /** The device file. Default '/dev/net/tun'. */
  device?: string;
}

/** A device that carries IP packets. */
export interface IpTunOptions extends CommonTunOptions {
  /** 'tun' carries IP packets, 'tap' Ethernet frames. Default 'tun'. */
  mode?: 'tun';
  /** What the host receives goes through NAPI, whose GRO merges it (IFF_NAPI). Default false. */
  napi?: boolean;
  mac?: undefined;
  filter?: undefined;
}

/** A device that carries Ethernet frames. */
export interface TapOptions extends CommonTunOptions {
  mode: 'tap';
  /**
   * What the host receives goes through NAPI, whose GRO merges it (IFF_NAPI). 'frags': also from fragments (IFF_NAPI_FRAGS; then a packet that is
   * sent has 18 buffers at most). Default false.
   */
  napi?: boolean | 'frags';
  /** The device's hardware address ('02:00:00:00:00:01'). */
  mac?: string;
  /** A classic BPF program that says which frames are received. As setFilter(). */
  filter?: readonly BpfInstruction[] | string;
}

/** How TunSocket.open() makes a device, or attaches to one. Each option has its kernel's default where none is named. */
export type TunOptions = IpTunOptions | TapOptions;

/** Offload with some of what the kernel has. */
export interface OffloadRequest {
  mode: OffloadMode;
  /** All others need 'csum'; 'uso4' and 'uso6' go together. Default: all that the mode can do with. */
  features?: readonly OffloadFeature[];
}

/** TunOptions, validated and with defaults. */
export interface TunConfig extends SocketConfig {
  offloadFeatures: number | undefined;
  index: number | undefined;
  noCarrier: boolean;
  linkType: number | undefined;
  debug: number | undefined;
  virtioHeaderSize: number | undefined;
  byteOrder: ByteOrder | undefined;
  filter: Uint32Array | undefined;
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
  'index',
  'noCarrier',
  'linkType',
  'debug',
  'virtioHeaderSize',
  'byteOrder',
  'filter',
] as const satisfies readonly (keyof TunOptions)[];

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
  const { mode: offload, features: offloadFeatures } = offloadRequest(given.offload);
  const refuseUnless = (allowed: boolean, key: (typeof KNOWN)[number], when: string) => {
    if (!allowed && given[key] !== undefined) {
      throw invalidArgValue(`options.${key}`, `given only with ${when}`, given[key]);
    }
  };
  refuseUnless(tap, 'filter', "mode 'tap'");
  refuseUnless(offload !== 'none', 'virtioHeaderSize', "offload 'raw' or 'split'");
  refuseUnless(offload === 'raw', 'byteOrder', "offload 'raw'");
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
    offloadFeatures,
    index: optional('index', wholeNumber(1, 0x7fffffff)),
    noCarrier: optional('noCarrier', boolean) ?? false,
    linkType: optional('linkType', wholeNumber(0, 0xffff)),
    debug: optional('debug', wholeNumber(0, 0x7fffffff)),
    virtioHeaderSize: optional('virtioHeaderSize', wholeNumber(10, 24)),
    byteOrder: optional('byteOrder', (name, value) => oneOf(name, value, byteOrders)),
    filter: optional('filter', bpfProgram),
    multiQueue: optional('multiQueue', boolean) ?? false,
    exclusive: optional('exclusive', boolean) ?? false,
    napi,
    persist: optional('persist', boolean),
    owner: optional('owner', userId),
    group: optional('group', groupId),
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

function offloadRequest(value: unknown): { mode: OffloadMode; features: number | undefined } {
  const name = 'options.offload';
  if (typeof value !== 'object' || value === null) {
    return { mode: value === undefined ? 'none' : offloadMode(name, value), features: undefined };
  }
  const given = optionsObject(name, value);
  knownOptions(name, given, ['mode', 'features']);
  const mode = offloadMode(`${name}.mode`, given.mode);
  const list = given.features;
  if (list === undefined) return { mode, features: undefined };
  if (!Array.isArray(list)) throw invalidArgType(`${name}.features`, 'an array', list);
  const features = list.map((feature, at) => oneOf(`${name}.features[${at}]`, feature, offloadFeatureNames));
  const refuse = (expected: string) => {
    throw invalidArgValue(`${name}.features`, expected, features.join(', '));
  };
  if (features.length > 0 && !features.includes('csum')) refuse("with 'csum', which all others need");
  if (features.includes('uso4') !== features.includes('uso6'))
    refuse("with both of 'uso4' and 'uso6', or none");
  return { mode, features: featureMask(features) };
}
