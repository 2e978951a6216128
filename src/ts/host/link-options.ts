import type { AddressData, LinkSettings, LinkSpec } from '../native';
import { invalidArgType, invalidArgValue } from '../support/errors';
import { boolean, integer, interfaceName, knownOptions, oneOf, optionsObject } from '../support/options';
import { type AddressOptions, address } from './address';
import { family, ipAddress, macAddress, oneOrMany } from './cidr';
import { type Netns, netnsDescriptor } from './netns';
import { table } from './route';

/** In bytes; each type of link has its own limit below this. @internal */
export const MAX_MTU = 2 ** 31 - 1;

/**
 * How a link gets its IPv6 link-local address. 'eui64': made of the hardware address. 'none': there is none. 'stable-secret': made of the secret in
 * /proc/sys/net/ipv6/conf/NAME/stable_secret. 'random': made of one that the kernel draws.
 */
export type AddressGeneration = 'eui64' | 'none' | 'stable-secret' | 'random';

/** IN6_ADDR_GEN_MODE_* of linux/if_link.h, by number. */
const addressGenerations: readonly AddressGeneration[] = ['eui64', 'none', 'stable-secret', 'random'];

/** As the kernel numbers it. @internal */
export function addressGenerationNumber(name: string, value: unknown): number {
  return addressGenerations.indexOf(addressGeneration(name, value));
}

/** @internal */
export function addressGeneration(name: string, value: unknown): AddressGeneration {
  return oneOf(name, value, addressGenerations);
}

/** @internal */
export function addressGenerationName(number: number | undefined): AddressGeneration | undefined {
  return number === undefined ? undefined : addressGenerations[number];
}

/** A link that carries another: a Link. */
export interface CarryingLink {
  readonly name: string;
  readonly index: number;
}

/** The other end of a veth pair. */
export interface VethPeer {
  name: string;
  /** Where it is made. Default: the same namespace. */
  netns?: Netns | undefined;
}

/** What each type of link can be made with. */
export interface CommonLinkOptions {
  name: string;
  /** In bytes, up to what the type allows; of a veth pair, for both ends. */
  mtu?: number | undefined;
  mac?: string | undefined;
  /** Whether it is brought up. Default false. */
  up?: boolean | undefined;
  /** One or several: a CIDR, or what Link.addAddress() takes. */
  address?: string | AddressOptions | readonly (string | AddressOptions)[] | undefined;
  /** How it gets its IPv6 link-local address. Default: as /proc/sys/net/ipv6/conf/default/addr_gen_mode says. */
  addressGeneration?: AddressGeneration | undefined;
}

/** A link that needs nothing of its own. */
export interface PlainLinkOptions extends CommonLinkOptions {
  /** 'wireguard' has no keys and peers yet: `wg set` gives it those. */
  type: 'dummy' | 'bridge' | 'ifb' | 'wireguard';
}

/** Two links, of which each receives what the other sends. */
export interface VethOptions extends CommonLinkOptions {
  type: 'veth';
  peer: VethPeer;
}

/** Frames with one VLAN tag on another link. */
export interface VlanOptions extends CommonLinkOptions {
  type: 'vlan';
  /** The link that carries the tagged frames, or its name. */
  link: CarryingLink | string;
  /** 0 to 4094. */
  id: number;
}

/** A link with a hardware address of its own on another; a macvtap also has a character device: `Link.device`. */
export interface MacvlanOptions extends CommonLinkOptions {
  type: 'macvlan' | 'macvtap';
  /** The link that carries it, or its name. */
  link: CarryingLink | string;
  /** What links on the same one see of each other. Default 'vepa': what the switch beyond sends back. */
  mode?: 'private' | 'vepa' | 'bridge' | 'passthru' | 'source' | undefined;
}

/** The same with the hardware address of the link that carries it; an ipvtap also has a character device. */
export interface IpvlanOptions extends CommonLinkOptions {
  type: 'ipvlan' | 'ipvtap';
  /** The link that carries it, or its name. */
  link: CarryingLink | string;
  /** Whether frames ('l2') or only packets pass; 'l3s' with connection tracking. Default 'l3'. */
  mode?: 'l2' | 'l3' | 'l3s' | undefined;
}

/** Ethernet in UDP (RFC 7348). */
export interface VxlanOptions extends CommonLinkOptions {
  type: 'vxlan';
  /** The network's number: 0 to 16777215. */
  id: number;
  /** The link that the tunnel's packets go out of, or its name; needed for a group. */
  link?: CarryingLink | string | undefined;
  /** The address of this end. */
  local?: string | undefined;
  /** The address of the other end, or of a multicast group. */
  remote?: string | undefined;
  /** UDP port: 1 to 65535. Default 4789. */
  port?: number | undefined;
  /** 1 to 255. Default: the kernel's own. */
  ttl?: number | undefined;
}

/** IPv4 in GRE (RFC 2784), and IPv6 in IPv4 ('sit', RFC 4213). */
export interface IpTunnelOptions extends CommonLinkOptions {
  type: 'gre' | 'sit';
  /** The IPv4 address of this end. Default: any. */
  local?: string | undefined;
  /** The IPv4 address of the other end. Default: any. */
  remote?: string | undefined;
  /** The link that the tunnel's packets go out of, or its name. */
  link?: CarryingLink | string | undefined;
  /** gre: the key (RFC 2890), 0 to 4294967295. */
  id?: number | undefined;
  /** 1 to 255. Default: that of the packet inside. */
  ttl?: number | undefined;
}

/** A link whose ports have a table of routes of their own. */
export interface VrfOptions extends CommonLinkOptions {
  type: 'vrf';
  /** 1 to 4294967295. */
  table: number;
}

/** Options of {@link Link.create}: of each type its own. */
export type LinkOptions =
  | PlainLinkOptions
  | VethOptions
  | VlanOptions
  | MacvlanOptions
  | IpvlanOptions
  | VxlanOptions
  | IpTunnelOptions
  | VrfOptions;

type LinkType = LinkOptions['type'];

const common = ['type', 'name', 'mtu', 'mac', 'up', 'address', 'addressGeneration'] as const;
const macvlan = { private: 1, vepa: 2, bridge: 4, passthru: 8, source: 16 };
const ipvlan = { l2: 0, l3: 1, l3s: 2 };
const VXLAN_PORT = 4789;

/** What one type has beyond the common options: each is there where it is named; those with '!' are needed. */
const ownOptions: { readonly [type in LinkType]: readonly string[] } = {
  dummy: [],
  bridge: [],
  ifb: [],
  wireguard: [],
  veth: ['peer!'],
  vlan: ['link!', 'id!'],
  macvlan: ['link!', 'mode'],
  macvtap: ['link!', 'mode'],
  ipvlan: ['link!', 'mode'],
  ipvtap: ['link!', 'mode'],
  vxlan: ['id!', 'link', 'local', 'remote', 'port', 'ttl'],
  gre: ['local', 'remote', 'link', 'id', 'ttl'],
  sit: ['local', 'remote', 'link', 'ttl'],
  vrf: ['table!'],
};
const linkTypes = Object.keys(ownOptions) as LinkType[];
const maxIds: { readonly [type: string]: number } = { vlan: 4094, vxlan: 2 ** 24 - 1 };

/** @internal */
export interface CheckedOptions {
  name: string;
  /** But for the link that carries it: what that may be is Link's to say. */
  spec: LinkSpec;
  link: unknown;
  addresses: AddressData[];
}

/** @internal */
export function checkOptions(value: unknown): CheckedOptions {
  const options = optionsObject('options', value);
  const type = oneOf('options.type', options.type, linkTypes);
  const own = ownOptions[type];
  knownOptions('options', options, [...common, ...own.map((key) => key.replace('!', ''))]);
  for (const key of own) {
    const bare = key.slice(0, -1);
    if (key.endsWith('!') && options[bare] === undefined) {
      throw invalidArgType(`options.${bare}`, `given for a ${type}`, undefined);
    }
  }
  const optional = <T>(key: string, check: (name: string, value: unknown) => T) =>
    options[key] === undefined ? undefined : check(`options.${key}`, options[key]);
  const name = interfaceName('options.name', options.name);
  const mtu = optional('mtu', (key, given) => integer(key, given, 0, MAX_MTU));
  const settings: LinkSettings = {
    name,
    mtu,
    mac: optional('mac', macAddress),
    up: optional('up', boolean),
    addressGeneration: optional('addressGeneration', addressGenerationNumber),
  };
  const spec: LinkSpec = {
    type,
    settings,
    peer: type === 'veth' ? { ...checkPeer(options.peer), mtu } : undefined,
    id: optional('id', (key, given) => integer(key, given, 0, maxIds[type] ?? 2 ** 32 - 1)),
    mode: optional('mode', (key, given) => {
      const modes: { [mode: string]: number } = type.startsWith('mac') ? macvlan : ipvlan;
      return modes[oneOf(key, given, Object.keys(modes))];
    }),
    local: optional('local', ipAddress),
    remote: optional('remote', ipAddress),
    port:
      optional('port', (key, given) => integer(key, given, 1, 65535)) ??
      (type === 'vxlan' ? VXLAN_PORT : undefined),
    ttl: optional('ttl', (key, given) => integer(key, given, 1, 255)),
    table: optional('table', table),
  };
  checkEnds(spec);
  return {
    name,
    spec,
    link: options.link,
    addresses: oneOrMany('options.address', options.address, address),
  };
}

/** Both ends of a tunnel are of one family, which for gre and sit is IPv4. */
function checkEnds({ type, local, remote }: LinkSpec): void {
  const version = type === 'vxlan' ? family(local ?? remote ?? '') : 4;
  for (const [key, end] of [
    ['local', local],
    ['remote', remote],
  ] as const) {
    if (end !== undefined && family(end) !== version) {
      throw invalidArgValue(`options.${key}`, `an IPv${version} address`, end);
    }
  }
}

function checkPeer(value: unknown): LinkSettings {
  const peer = optionsObject('options.peer', value);
  knownOptions('options.peer', peer, ['name', 'netns']);
  return {
    name: interfaceName('options.peer.name', peer.name),
    netns: peer.netns === undefined ? undefined : netnsDescriptor('options.peer.netns', peer.netns),
  };
}
