import type { AddressData } from '../native';
import { invalidArgValue } from '../support/errors';
import { boolean, integer, knownOptions, optionsObject, string } from '../support/options';
import { cidr, family, ipAddress, type Scope, scopeName, scopeNumber } from './cidr';

/** An address of a link, with what is not the kernel's own choice (ip-address(8)). */
export interface AddressOptions {
  /** The address with the length of its network's prefix: `'10.0.0.1/24'`, `'fd00::1/64'`. */
  address: string;
  /**
   * The other end's address on a point-to-point link: `'10.0.0.2'`, or with the length of the prefix that is reached there, `'10.0.0.2/32'`.
   * Without one the prefix is the address's own.
   */
  peer?: string | undefined;
  /** IPv4: where broadcasts of the network go. */
  broadcast?: string | undefined;
  /** Default 'global', and 'host' for 127.0.0.0/8. The kernel alone decides for IPv6. */
  scope?: Scope | undefined;
  /** IPv4: a name for old programs, at most 15 bytes; by custom the link's with a suffix, `'eth0:1'`. */
  label?: string | undefined;
  /** Seconds until it is removed: 1 to 4294967294, or Infinity, which is the default. */
  validLifetime?: number | undefined;
  /** Seconds until it isn't chosen for new connections any more: at most `validLifetime`. Default: that. */
  preferredLifetime?: number | undefined;
  /** Whether the kernel makes no route to its network (IFA_F_NOPREFIXROUTE). Default false. */
  noPrefixRoute?: boolean | undefined;
}

/** An address as the kernel tells; lifetimes are Infinity where they don't end. */
export interface AddressInfo {
  address: string;
  peer?: string;
  broadcast?: string;
  scope: Scope;
  label?: string;
  validLifetime: number;
  preferredLifetime: number;
  noPrefixRoute: boolean;
}

const FOREVER = 2 ** 32 - 1;
const known = [
  'address',
  'peer',
  'broadcast',
  'scope',
  'label',
  'validLifetime',
  'preferredLifetime',
  'noPrefixRoute',
] as const satisfies readonly (keyof AddressOptions)[];

/**
 * An address as text (a CIDR) or as an object.
 *
 * @throws TypeError `ERR_INVALID_ARG_TYPE`; `ERR_INVALID_ARG_VALUE` for what is no address, and for IPv4 and IPv6 in one
 * @throws RangeError `ERR_OUT_OF_RANGE` for a prefix length or lifetime out of range
 */
export function address(name: string, value: unknown): AddressData {
  if (typeof value !== 'object' || value === null) return { address: cidr(name, value) };
  const options = optionsObject(name, value);
  knownOptions(name, options, known);
  const optional = <T>(key: (typeof known)[number], check: (name: string, value: unknown) => T) =>
    options[key] === undefined ? undefined : check(`${name}.${key}`, options[key]);
  const checked: AddressData = {
    address: cidr(`${name}.address`, options.address),
    broadcast: optional('broadcast', ipAddress),
    scope: optional('scope', scopeNumber),
    label: optional('label', label),
    validLifetime: optional('validLifetime', lifetime),
    preferredLifetime: optional('preferredLifetime', lifetime),
    noPrefixRoute: optional('noPrefixRoute', boolean),
  };
  setPeer(
    checked,
    name,
    optional('peer', (key, peer) => string(key, peer)),
  );
  const version = family(checked.address);
  for (const key of ['broadcast', 'label'] as const) {
    if (checked[key] !== undefined && version === 6) {
      throw invalidArgValue(`${name}.${key}`, 'given only with an IPv4 address', checked[key]);
    }
  }
  const { validLifetime = FOREVER, preferredLifetime } = checked;
  if (preferredLifetime !== undefined && preferredLifetime > validLifetime) {
    throw invalidArgValue(`${name}.preferredLifetime`, 'at most the validLifetime', preferredLifetime);
  }
  return checked;
}

/** The kernel keeps one length of prefix, which is the peer's. */
function setPeer(checked: AddressData, name: string, peer: string | undefined): void {
  if (peer === undefined) return;
  const [own, length] = checked.address.split('/') as [string, string];
  const [other, given] = peer.includes('/')
    ? cidr(`${name}.peer`, peer).split('/')
    : [ipAddress(`${name}.peer`, peer)];
  if (family(other as string) !== family(own)) {
    throw invalidArgValue(`${name}.peer`, `an IPv${family(own)} address, as the address is`, peer);
  }
  const whole = family(own) === 6 ? 128 : 32;
  if (given !== undefined && Number(length) !== whole && Number(length) !== Number(given)) {
    throw invalidArgValue(
      `${name}.address`,
      `with a prefix length of ${given}, as the peer's is, or of ${whole}`,
      checked.address,
    );
  }
  checked.peer = other;
  checked.address = `${own}/${given ?? length}`;
}

function label(name: string, value: unknown): string {
  const text = string(name, value);
  if (text === '' || Buffer.byteLength(text) > 15 || text.includes('\0')) {
    throw invalidArgValue(name, 'a label of 1 to 15 bytes', text);
  }
  return text;
}

function lifetime(name: string, value: unknown): number {
  return value === Number.POSITIVE_INFINITY ? FOREVER : integer(name, value, 1, FOREVER - 1);
}

/** Of an address that the kernel told of a link with this name, which is the label of those without one of their own. */
export function addressInfo(data: AddressData, link: string): AddressInfo {
  const { address: text, peer, broadcast, scope = 0, label: own, noPrefixRoute = false } = data;
  return {
    address: text,
    ...(peer === undefined ? {} : { peer }),
    ...(broadcast === undefined ? {} : { broadcast }),
    scope: scopeName(scope),
    ...(own === undefined || own === link ? {} : { label: own }),
    validLifetime: data.validLifetime ?? Number.POSITIVE_INFINITY,
    preferredLifetime: data.preferredLifetime ?? Number.POSITIVE_INFINITY,
    noPrefixRoute,
  };
}
