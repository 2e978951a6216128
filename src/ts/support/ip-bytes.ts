import { net } from './builtins';
import { invalidArgValue } from './errors';
import { string } from './options';

/** A numeric address as the kernel has it. */
export interface IpBytes {
  family: 4 | 6;
  /** 4 or 16. */
  bytes: Uint8Array;
  /** The zone of a link-local address as it was given: an index or a name; '' for none. */
  zone: string;
}

/** Addresses that were given lately: reading one costs as much as sending a datagram. */
const known = new Map<string, IpBytes>();
const MAX_KNOWN = 256;

/**
 * Reads `'192.0.2.1'`, `'2001:db8::1'` or `'fe80::1%2'`.
 *
 * @throws TypeError `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`: names of hosts are not looked up
 */
export function ipBytes(name: string, value: unknown): IpBytes {
  const text = string(name, value);
  const found = known.get(text);
  if (found !== undefined) return found;
  const kind = net().isIP(text);
  if (kind === 0) {
    throw invalidArgValue(
      name,
      'a numeric IPv4 or IPv6 address; names of hosts are not looked up here, see dns.lookup()',
      text,
    );
  }
  const [address = '', zone = ''] = text.split('%');
  const parsed: IpBytes =
    kind === 4
      ? { family: 4, bytes: bytesOf4(address), zone }
      : { family: 6, bytes: bytesOf6(address), zone };
  if (known.size >= MAX_KNOWN) known.clear();
  known.set(text, parsed);
  return parsed;
}

function bytesOf4(text: string): Uint8Array {
  return Uint8Array.from(text.split('.'), Number);
}

function bytesOf6(text: string): Uint8Array {
  const groupsOf = (part: string | undefined) =>
    (part ?? '')
      .split(':')
      .filter((group) => group !== '')
      .flatMap((group) => {
        if (!group.includes('.')) return [Number.parseInt(group, 16)];
        const [a, b, c, d] = bytesOf4(group) as unknown as [number, number, number, number];
        return [a * 256 + b, c * 256 + d];
      });
  const [head, tail] = text.split('::');
  const first = groupsOf(head);
  const last = groupsOf(tail);
  const groups = [...first, ...new Array<number>(8 - first.length - last.length).fill(0), ...last];
  return Uint8Array.from(groups.flatMap((group) => [group >> 8, group & 0xff]));
}

/** The texts of addresses that were seen lately. Whoever sends from ever new ones must not make this grow. */
const texts4 = new Map<number, string>();
const texts6 = new Map<string, string>();

/** The address at `at` of `view` as text, IPv6 as RFC 5952 has it; with its zone, an index, where that is not 0. */
export function ipText(view: DataView, at: number, family: number, zone: number): string {
  if (family === 4) {
    const key = view.getUint32(at);
    let text = texts4.get(key);
    if (text === undefined) {
      text = `${key >>> 24}.${(key >>> 16) & 0xff}.${(key >>> 8) & 0xff}.${key & 0xff}`;
      remember(texts4, key, text);
    }
    return text;
  }
  // Four words make a key that is cheaper than the text.
  const key = `${view.getUint32(at)},${view.getUint32(at + 4)},${view.getUint32(at + 8)},${view.getUint32(at + 12)},${zone}`;
  let text = texts6.get(key);
  if (text === undefined) {
    text = zone === 0 ? text6(view, at) : `${text6(view, at)}%${zone}`;
    remember(texts6, key, text);
  }
  return text;
}

function remember<K>(texts: Map<K, string>, key: K, text: string): void {
  if (texts.size >= MAX_KNOWN) texts.clear();
  texts.set(key, text);
}

function text6(view: DataView, at: number): string {
  const groups: string[] = [];
  for (let index = 0; index < 8; index++) groups.push(view.getUint16(at + 2 * index).toString(16));
  // The first of the longest runs of two zeros or more.
  let best = { start: 0, length: 1 };
  for (let start = 0; start < 8; start++) {
    let length = 0;
    while (start + length < 8 && groups[start + length] === '0') length += 1;
    if (length > best.length) best = { start, length };
  }
  if (best.length < 2) return groups.join(':');
  return `${groups.slice(0, best.start).join(':')}::${groups.slice(best.start + best.length).join(':')}`;
}
