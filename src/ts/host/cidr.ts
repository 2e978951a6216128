import { isIP } from 'node:net';
import { invalidArgType, invalidArgValue, outOfRange } from '../support/errors';
import { integer, knownOptions, optionsObject, string } from '../support/options';

/** Addresses and routes as text: each function returns what it was given, checked, or throws what says what to pass. */

/** A route out of one link. */
export interface Route {
  /**
   * The network, such as `'10.1.0.0/16'` or `'fd00:1::/48'`; `'default'` is everything: of IPv6 where the gateway or
   * source is an IPv6 address, of IPv4 otherwise.
   */
  destination: string;
  /** The next router's address. Without one the destination is reached on the link itself. */
  gateway?: string | undefined;
  /** The address that this host's packets get as their source (RTA_PREFSRC). */
  source?: string | undefined;
  /** 0 to 4294967295; of two routes the lower wins. 0 or none lets the kernel choose: 0 for IPv4, 1024 for IPv6. */
  metric?: number | undefined;
}

const MAX_METRIC = 2 ** 32 - 1;

type Family = 4 | 6;

function family(address: string): Family {
  return address.includes(':') ? 6 : 4;
}

/**
 * An IPv4 or IPv6 address, without a zone.
 *
 * @throws TypeError `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`
 */
export function ipAddress(name: string, value: unknown): string {
  const text = string(name, value);
  if (isIP(text) === 0 || text.includes('%')) {
    throw invalidArgValue(name, 'an IPv4 or IPv6 address without a zone', text);
  }
  return text;
}

/**
 * An address with the length of its network's prefix: `'10.0.0.1/24'`, `'fd00::1/64'`.
 *
 * @throws TypeError `ERR_INVALID_ARG_TYPE`; `ERR_INVALID_ARG_VALUE` for a bad address or no prefix length
 * @throws RangeError `ERR_OUT_OF_RANGE` for a prefix length over 32 (IPv4) or 128 (IPv6)
 */
export function cidr(name: string, value: unknown): string {
  const text = string(name, value);
  const slash = text.indexOf('/');
  if (slash < 0) {
    const suggestion =
      isIP(text) === 0 ? "such as '10.0.0.1/24'" : `such as '${text}/${isIP(text) === 6 ? 64 : 24}'`;
    throw invalidArgValue(name, `an address with the length of its prefix, ${suggestion}`, text);
  }
  const address = text.slice(0, slash);
  const length = text.slice(slash + 1);
  if (isIP(address) === 0 || address.includes('%') || !/^\d+$/.test(length)) {
    throw invalidArgValue(
      name,
      "an IPv4 or IPv6 address with the length of its prefix, such as '10.0.0.1/24'",
      text,
    );
  }
  const longest = family(address) === 6 ? 128 : 32;
  if (Number(length) > longest)
    throw outOfRange(name, `an address with a prefix length from 0 to ${longest}`, text);
  return text;
}

/**
 * A route as text (its destination alone) or as an object; returned as an object whose destination is a CIDR.
 *
 * @throws TypeError `ERR_INVALID_ARG_TYPE`; `ERR_INVALID_ARG_VALUE` for bad addresses, or IPv4 and IPv6 in one route
 * @throws RangeError `ERR_OUT_OF_RANGE` for a prefix length or metric out of range
 */
export function route(name: string, value: unknown): Route {
  if (typeof value === 'string') return { destination: destination(name, value, undefined) };
  if (value === undefined) throw invalidArgType(name, 'a string or an object', value);
  const options = optionsObject(name, value);
  knownOptions(name, options, ['destination', 'gateway', 'source', 'metric']);
  const checked: Route = { destination: '' };
  if (options.gateway !== undefined) checked.gateway = ipAddress(`${name}.gateway`, options.gateway);
  if (options.source !== undefined) checked.source = ipAddress(`${name}.source`, options.source);
  if (options.metric !== undefined) checked.metric = integer(`${name}.metric`, options.metric, 0, MAX_METRIC);
  checked.destination = destination(
    `${name}.destination`,
    options.destination,
    checked.gateway ?? checked.source,
  );
  for (const key of ['gateway', 'source'] as const) {
    const address = checked[key];
    if (address !== undefined && family(address) !== family(checked.destination)) {
      throw invalidArgValue(
        `${name}.${key}`,
        `an IPv${family(checked.destination)} address, as the destination is`,
        address,
      );
    }
  }
  return checked;
}

function destination(name: string, value: unknown, like: string | undefined): string {
  if (value !== 'default') return cidr(name, value);
  return like !== undefined && family(like) === 6 ? '::/0' : '0.0.0.0/0';
}

/** One value or an array of them, each checked by `item`: {@link cidr} or {@link route}; `undefined` is none. */
export function oneOrMany<T>(name: string, value: unknown, item: (name: string, value: unknown) => T): T[] {
  if (value === undefined) return [];
  if (!Array.isArray(value)) return [item(name, value)];
  return value.map((element, index) => item(`${name}[${index}]`, element));
}

/**
 * An Ethernet address that an interface can have: six bytes in hexadecimal between colons, neither a group address
 * (lowest bit of the first byte) nor all zeros. Returned in lower case.
 *
 * @throws TypeError `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`
 */
export function macAddress(name: string, value: unknown): string {
  const text = string(name, value);
  if (
    !/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text) ||
    Number.parseInt(text.slice(0, 2), 16) & 1 ||
    !/[1-9a-f]/i.test(text)
  ) {
    throw invalidArgValue(name, "an Ethernet address that is no group's, such as '02:00:00:00:00:01'", text);
  }
  return text.toLowerCase();
}
