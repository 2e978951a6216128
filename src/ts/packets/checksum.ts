import { native } from '../native';

/** Below this many bytes a call of the addon costs more than summing here. */
const NATIVE_BYTES = 128;

type Sum = (bytes: Uint8Array, sum: number) => number;

let nativeSum: Sum | undefined;

/** The addon's sum; where there is none, as on a system that is not Linux, the one below does the same. */
function sumOfAddon(): Sum {
  try {
    const { internetSum } = native();
    return internetSum;
  } catch {
    return portableSum;
  }
}

/** The sum in plain JavaScript. */
export function portableSum(bytes: Uint8Array, sum: number): number {
  let total = sum;
  const even = bytes.length & ~1;
  // 2^53 has room for 2^37 words.
  for (let at = 0; at < even; at += 2) total += ((bytes[at] as number) << 8) | (bytes[at + 1] as number);
  if (even < bytes.length) total += (bytes[even] as number) << 8;
  while (total > 0xffff) total = (total % 0x10000) + Math.floor(total / 0x10000);
  return total;
}

/**
 * The one's complement sum of 16-bit words in network order, not complemented (RFC 1071): 0 to 65535. Pieces that are summed one by
 * one all have an even length but the last.
 *
 * @param sum - the sum of the pieces before; default 0.
 */
export function internetSum(bytes: Uint8Array, sum = 0): number {
  if (bytes.length < NATIVE_BYTES) return portableSum(bytes, sum);
  nativeSum ??= sumOfAddon();
  return nativeSum(bytes, sum);
}

/** The internet checksum (RFC 1071): the complement of internetSum(). Over bytes that hold their own right checksum it is 0. */
export function internetChecksum(bytes: Uint8Array, sum = 0): number {
  return ~internetSum(bytes, sum) & 0xffff;
}

/**
 * The sum of the pseudo header that UDP, TCP and ICMPv6 have in their checksum: addresses, length and protocol (RFC 768, RFC 9293, 3.1,
 * RFC 8200, 8.1).
 *
 * @param source - 4 or 16 bytes, and so `destination`.
 * @param length - bytes of the transport's header and payload.
 */
export function pseudoHeaderSum(
  source: Uint8Array,
  destination: Uint8Array,
  protocol: number,
  length: number,
): number {
  // The upper half of a length of more than 65535 is a word of its own, in IPv6.
  const words = (length >>> 16) + (length & 0xffff) + protocol;
  return portableSum(destination, portableSum(source, words));
}
