import { net } from '../support/builtins';
import { invalidArgValue, outOfRange } from '../support/errors';
import { oneOf, string } from '../support/options';

/** Addresses as text: each function returns what it was given, checked, or throws what says what to pass. */

/** How far an address or route is good: RT_SCOPE_* of linux/rtnetlink.h. */
export type Scope = 'global' | 'site' | 'link' | 'host' | 'nowhere';

const scopes: { readonly [name in Scope]: number } = {
  global: 0,
  site: 200,
  link: 253,
  host: 254,
  nowhere: 255,
};
const scopeNames = Object.keys(scopes) as Scope[];

/** The number of a scope that was given by name. */
export function scopeNumber(name: string, value: unknown): number {
  return scopes[oneOf(name, value, scopeNames)];
}

/** The name of a scope; one that has none is told as the wider that has. */
export function scopeName(number: number): Scope {
  return scopeNames.filter((name) => scopes[name] <= number).at(-1) ?? 'global';
}

export type Family = 4 | 6;

/** Of an address or CIDR that is one. */
export function family(address: string): Family {
  return address.includes(':') ? 6 : 4;
}

/**
 * An IPv4 or IPv6 address, without a zone.
 *
 * @throws TypeError `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`
 */
export function ipAddress(name: string, value: unknown): string {
  const text = string(name, value);
  if (net().isIP(text) === 0 || text.includes('%')) {
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
      net().isIP(text) === 0
        ? "such as '10.0.0.1/24'"
        : `such as '${text}/${net().isIP(text) === 6 ? 64 : 24}'`;
    throw invalidArgValue(name, `an address with the length of its prefix, ${suggestion}`, text);
  }
  const address = text.slice(0, slash);
  const length = text.slice(slash + 1);
  if (net().isIP(address) === 0 || address.includes('%') || !/^\d+$/.test(length)) {
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

/** One value or an array of them, each checked by `item`; `undefined` is none. */
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
