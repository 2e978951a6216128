import type { HopData, RouteData } from '../native';
import { invalidArgType, invalidArgValue } from '../support/errors';
import { boolean, integer, interfaceName, knownOptions, oneOf, optionsObject } from '../support/options';
import { cidr, family, ipAddress, oneOrMany, type Scope, scopeName, scopeNumber } from './cidr';

/**
 * What becomes of packets that a route is for. 'unicast': they are sent on. 'blackhole', 'unreachable' and 'prohibit' drop them, without an answer, with one that the host is
 * unreachable, and with one that it is forbidden; 'throw' ends the search in this table. 'local' delivers to this host. The others are the
 * kernel's own.
 */
export type RouteType =
  | 'unicast'
  | 'local'
  | 'broadcast'
  | 'anycast'
  | 'multicast'
  | 'blackhole'
  | 'unreachable'
  | 'prohibit'
  | 'throw';

/** RTN_* of linux/rtnetlink.h, by number. */
const types: readonly (RouteType | 'unspecified')[] = [
  'unspecified',
  'unicast',
  'local',
  'broadcast',
  'anycast',
  'multicast',
  'blackhole',
  'unreachable',
  'prohibit',
  'throw',
];

/** Ways of a multipath route. */
export interface RouteHop {
  /** The next router's address. Without one the destination is reached on the link itself. */
  gateway?: string | undefined;
  /** The link's name. Default: the link that the route is added to. */
  interface?: string | undefined;
  /** 1 to 256: this way's part of the packets, in relation to the others'. Default 1. */
  weight?: number | undefined;
  /** The gateway is on the link, whatever its addresses say. Default false. */
  onlink?: boolean | undefined;
}

/** A route out of a link (ip-route(8)). In lists, what is the default is left out. */
export interface Route {
  /**
   * The network, such as `'10.1.0.0/16'` or `'fd00:1::/48'`; `'default'` is everything: of IPv6 where the gateway or
   * source is an IPv6 address, of IPv4 otherwise.
   */
  destination: string;
  /**
   * The next router's address, which for an IPv4 destination may be one of IPv6 (RTA_VIA). Without one the destination is reached on
   * the link itself.
   */
  gateway?: string | undefined;
  /** Several ways in place of a gateway. */
  multipath?: readonly RouteHop[] | undefined;
  /** The gateway is on the link, whatever its addresses say. Default false. */
  onlink?: boolean | undefined;
  /** The address that this host's packets get as their source (RTA_PREFSRC). */
  source?: string | undefined;
  /** IPv6: only for packets from this network. */
  from?: string | undefined;
  /** 0 to 4294967295; of two routes the lower wins. 0 or none lets the kernel choose: 0 for IPv4, 1024 for IPv6. */
  metric?: number | undefined;
  /** The table: 1 to 4294967295, of which 253 is 'default', 254 'main' and 255 'local'. Default 'main'. */
  table?: number | 'main' | 'default' | 'local' | undefined;
  /** Default 'unicast'. */
  type?: RouteType | undefined;
  /** IPv4. Default: 'link', and 'global' with a gateway; 'host' for type 'local'. IPv6 has none, and ignores it. */
  scope?: Scope | undefined;
  /** Bytes of the largest packet on this way: 1 to 65535. Default: the link's mtu. */
  mtu?: number | undefined;
  /** IPv4: only for packets with this type of service. Default 0: any. */
  tos?: number | undefined;
}

const tables: { readonly [name: string]: number } = { default: 253, main: 254, local: 255 };
const RTN_UNICAST = 1;
const MAX_NUMBER = 2 ** 32 - 1;
const MAX_WEIGHT = 256;
const known = [
  'destination',
  'gateway',
  'multipath',
  'onlink',
  'source',
  'from',
  'metric',
  'table',
  'type',
  'scope',
  'mtu',
  'tos',
] as const satisfies readonly (keyof Route)[];

/** A route that was checked; of its ways, those without a link's name are the link's own. */
export interface RouteSpec extends Omit<RouteData, 'multipath'> {
  multipath?: (Omit<HopData, 'index'> & { interface: string | undefined })[] | undefined;
}

/**
 * A route as text (its destination alone) or as an object; returned as an object whose destination is a CIDR.
 *
 * @throws TypeError `ERR_INVALID_ARG_TYPE`; `ERR_INVALID_ARG_VALUE` for bad addresses, for IPv4 and IPv6 where one route can't have both,
 * and for options that exclude one another
 * @throws RangeError `ERR_OUT_OF_RANGE` for a prefix length, metric or another number out of range
 */
export function route(name: string, value: unknown): RouteSpec {
  if (typeof value === 'string') return { destination: destination(name, value, undefined) };
  if (value === undefined) throw invalidArgType(name, 'a string or an object', value);
  const options = optionsObject(name, value);
  knownOptions(name, options, known);
  const checked: RouteSpec = { destination: '' };
  const take = <K extends (typeof known)[number] & keyof RouteSpec>(
    key: K,
    check: (name: string, value: unknown) => RouteSpec[K],
  ) => {
    if (options[key] !== undefined) checked[key] = check(`${name}.${key}`, options[key]);
  };
  take('gateway', ipAddress);
  take('source', ipAddress);
  take('from', cidr);
  take('onlink', boolean);
  take('metric', (key, metric) => integer(key, metric, 0, MAX_NUMBER));
  take('table', table);
  take('type', (key, type) => types.indexOf(oneOf(key, type, types.slice(1))));
  take('scope', scopeNumber);
  take('mtu', (key, mtu) => integer(key, mtu, 1, 65535));
  take('tos', (key, tos) => integer(key, tos, 0, 255));
  take('multipath', (key, hops) => oneOrMany(key, hops, hop));
  checked.destination = destination(
    `${name}.destination`,
    options.destination,
    checked.gateway ?? checked.source,
  );
  checkFamilies(name, checked);
  checkWays(name, checked);
  return checked;
}

/** A table by number or name. */
export function table(name: string, value: unknown): number {
  if (typeof value === 'string') return tables[oneOf(name, value, Object.keys(tables))] as number;
  return integer(name, value, 1, MAX_NUMBER);
}

/** Whether no link has a part in routes of this type. */
function rejects(type: number): boolean {
  return ['blackhole', 'unreachable', 'prohibit', 'throw'].includes(types[type] ?? '');
}

function checkFamilies(name: string, checked: RouteSpec): void {
  const version = family(checked.destination);
  const gateways = [checked.gateway, ...(checked.multipath ?? []).map(({ gateway }) => gateway)];
  for (const [key, text] of [
    ['source', checked.source],
    ['from', checked.from],
    // IPv4 goes through a router of either family.
    ...(version === 6 ? gateways.map((gateway) => ['gateway', gateway] as const) : []),
  ] as const) {
    if (text !== undefined && family(text) !== version) {
      throw invalidArgValue(`${name}.${key}`, `an IPv${version} address, as the destination is`, text);
    }
  }
  if (checked.from !== undefined && version === 4) {
    throw invalidArgValue(
      `${name}.from`,
      'given only with an IPv6 destination: IPv4 has rules for this',
      checked.from,
    );
  }
}

function checkWays(name: string, { type = RTN_UNICAST, gateway, onlink, multipath }: RouteSpec): void {
  if (multipath !== undefined && (multipath.length === 0 || gateway !== undefined || onlink !== undefined)) {
    throw invalidArgValue(
      `${name}.multipath`,
      'one way or several, in place of gateway and onlink',
      multipath,
    );
  }
  if (rejects(type) && (gateway !== undefined || onlink !== undefined || multipath !== undefined)) {
    throw invalidArgValue(`${name}.type`, 'one that has a gateway', types[type]);
  }
}

function hop(name: string, value: unknown): NonNullable<RouteSpec['multipath']>[number] {
  const options = optionsObject(name, value);
  knownOptions(name, options, ['gateway', 'interface', 'weight', 'onlink']);
  const { gateway, interface: link, weight, onlink } = options;
  return {
    gateway: gateway === undefined ? undefined : ipAddress(`${name}.gateway`, gateway),
    interface: link === undefined ? undefined : interfaceName(`${name}.interface`, link),
    weight: weight === undefined ? 1 : integer(`${name}.weight`, weight, 1, MAX_WEIGHT),
    onlink: onlink === undefined ? undefined : boolean(`${name}.onlink`, onlink),
  };
}

function destination(name: string, value: unknown, like: string | undefined): string {
  if (value !== 'default') return cidr(name, value);
  return like !== undefined && family(like) === 6 ? '::/0' : '0.0.0.0/0';
}

/** The scope that the kernel, or what asks it, chooses for a route that says none. */
function defaultScope({
  destination: network,
  type = RTN_UNICAST,
  gateway,
  multipath = [],
}: RouteData): Scope {
  if (family(network) === 6) return 'global';
  const kind = types[type];
  if (kind === 'local') return 'host';
  if (kind === 'broadcast' || kind === 'anycast' || kind === 'multicast') return 'link';
  const through = gateway !== undefined || multipath.some((way) => way.gateway !== undefined);
  return kind === 'unicast' && !through ? 'link' : 'global';
}

/** A route that the kernel told, with the names of links as `nameOf` gives them. */
export function routeOf(data: RouteData, nameOf: (index: number) => string): Route {
  const { destination: network, gateway, source, from, metric, mtu, tos, onlink, multipath } = data;
  const told: Route = { destination: network };
  if (gateway !== undefined) told.gateway = gateway;
  if (multipath !== undefined) {
    told.multipath = multipath.map((way) => ({
      ...(way.gateway === undefined ? {} : { gateway: way.gateway }),
      interface: nameOf(way.index),
      weight: way.weight,
      ...(way.onlink === undefined ? {} : { onlink: way.onlink }),
    }));
  }
  if (onlink !== undefined) told.onlink = onlink;
  if (source !== undefined) told.source = source;
  if (from !== undefined) told.from = from;
  if (metric !== undefined) told.metric = metric;
  if (data.table !== undefined && data.table !== tables.main) told.table = data.table;
  const type = types[data.type ?? RTN_UNICAST];
  if (type !== undefined && type !== 'unspecified' && type !== 'unicast') told.type = type;
  const scope = scopeName(data.scope ?? 0);
  if (scope !== defaultScope(data)) told.scope = scope;
  if (mtu !== undefined) told.mtu = mtu;
  if (tos !== undefined) told.tos = tos;
  return told;
}
