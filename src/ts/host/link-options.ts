import type { LinkSettings } from '../native';
import { invalidArgType } from '../support/errors';
import { boolean, integer, interfaceName, knownOptions, oneOf, optionsObject } from '../support/options';
import { cidr, macAddress, oneOrMany } from './cidr';
import type { Link } from './link';
import { type Netns, netnsDescriptor } from './netns';

/** In bytes; each type of link has its own limit below this. @internal */
export const MAX_MTU = 2 ** 31 - 1;
const MAX_VLAN_ID = 4094;

const linkTypes = ['veth', 'dummy', 'bridge', 'vlan'] as const;

/** The other end of a veth pair. */
export interface VethPeer {
  name: string;
  /** Where it is made. Default: the same namespace. */
  netns?: Netns | undefined;
}

/** Options of {@link Link.create}. */
export interface LinkOptions {
  type: (typeof linkTypes)[number];
  name: string;
  /** veth, where it is required. */
  peer?: VethPeer | undefined;
  /** vlan, where it is required: the link that carries the tagged frames, or its name. */
  link?: Link | string | undefined;
  /** vlan, where it is required: 0 to 4094. */
  id?: number | undefined;
  /** In bytes, up to what the type allows; of a veth pair, for both ends. */
  mtu?: number | undefined;
  mac?: string | undefined;
  /** Whether it is brought up. Default false. */
  up?: boolean | undefined;
  /** One CIDR or several. */
  address?: string | readonly string[] | undefined;
}

/** @internal */
export interface CheckedOptions {
  type: (typeof linkTypes)[number];
  name: string;
  settings: LinkSettings;
  peer: LinkSettings | undefined;
  /** Not checked: what it may be is Link's to say. */
  link: unknown;
  id: number;
  addresses: string[];
}

/** Options of Link.create that one type alone has, and needs. */
const ownOptions: { [type: string]: readonly string[] } = { veth: ['peer'], vlan: ['link', 'id'] };

/** @internal */
export function checkOptions(value: unknown): CheckedOptions {
  const options = optionsObject('options', value);
  const type = oneOf('options.type', options.type, linkTypes);
  knownOptions('options', options, [
    'type',
    'name',
    'mtu',
    'mac',
    'up',
    'address',
    ...(ownOptions[type] ?? []),
  ]);
  const name = interfaceName('options.name', options.name);
  const mtu = options.mtu === undefined ? undefined : integer('options.mtu', options.mtu, 0, MAX_MTU);
  const mac = options.mac === undefined ? undefined : macAddress('options.mac', options.mac);
  const up = options.up === undefined ? undefined : boolean('options.up', options.up);
  return {
    type,
    name,
    settings: { name, mtu, mac, up },
    peer: type === 'veth' ? { ...checkPeer(options.peer), mtu } : undefined,
    link: options.link,
    id: type === 'vlan' ? integer('options.id', options.id, 0, MAX_VLAN_ID) : 0,
    addresses: oneOrMany('options.address', options.address, cidr),
  };
}

function checkPeer(value: unknown): LinkSettings {
  if (value === undefined)
    throw invalidArgType('options.peer', 'an object with the name of the other end', value);
  const peer = optionsObject('options.peer', value);
  knownOptions('options.peer', peer, ['name', 'netns']);
  return {
    name: interfaceName('options.peer.name', peer.name),
    netns: peer.netns === undefined ? undefined : netnsDescriptor('options.peer.netns', peer.netns),
  };
}
