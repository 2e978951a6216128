import { net } from '../support/builtins';
import { invalidArgType, invalidArgValue } from '../support/errors';

/** Addresses as text, and as the bytes that stand in a header. */

/**
 * The bytes of an IP address: 4 or 16.
 *
 * @throws TypeError `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE` (no address, or one with a zone).
 */
export function ipBytes(text: string): Buffer {
  if (typeof text !== 'string') throw invalidArgType('address', 'a string', text);
  if (net().isIPv4(text)) return Buffer.from(text.split('.').map(Number));
  if (!net().isIPv6(text) || text.includes('%')) {
    throw invalidArgValue('address', 'an IPv4 or IPv6 address without a zone', text);
  }
  // The last 32 bits may be written as IPv4 (RFC 4291, 2.2).
  const mapped = /^(.*:)(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(text);
  const hex = (high: number, low: number) =>
    ((Number(mapped?.[high]) << 8) | Number(mapped?.[low])).toString(16);
  const plain = mapped === null ? text : `${mapped[1]}${hex(2, 3)}:${hex(4, 5)}`;
  const [head = '', tail] = plain.split('::');
  const words = (part: string) =>
    part === '' ? [] : part.split(':').map((word) => Number.parseInt(word, 16));
  const [first, last] = [words(head), words(tail ?? '')];
  const bytes = Buffer.alloc(16);
  for (const [index, word] of first.entries()) bytes.writeUInt16BE(word, index * 2);
  for (const [index, word] of last.entries()) bytes.writeUInt16BE(word, 16 - (last.length - index) * 2);
  return bytes;
}

/**
 * An IP address of 4 or 16 bytes as text; IPv6 as RFC 5952 has it.
 *
 * @throws TypeError `ERR_INVALID_ARG_VALUE` for another length.
 */
export function ipText(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join('.');
  if (bytes.length !== 16) throw invalidArgValue('bytes', '4 or 16 bytes long', `${bytes.length} bytes`);
  const words = Array.from(
    { length: 8 },
    (_, index) => ((bytes[index * 2] as number) << 8) | (bytes[index * 2 + 1] as number),
  );
  // The first of the longest runs of zeros, of two at least, is left out.
  let [start, length] = [0, 1];
  for (let at = 0; at < 8; at++) {
    let end = at;
    while (end < 8 && words[end] === 0) end += 1;
    if (end - at > length) [start, length] = [at, end - at];
  }
  const text = (part: number[]) => part.map((word) => word.toString(16)).join(':');
  if (length < 2) return text(words);
  return `${text(words.slice(0, start))}::${text(words.slice(start + length))}`;
}

/**
 * The six bytes of an Ethernet address such as '02:00:00:00:00:01'.
 *
 * @throws TypeError `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`.
 */
export function macBytes(text: string): Buffer {
  if (typeof text !== 'string') throw invalidArgType('mac', 'a string', text);
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text)) {
    throw invalidArgValue('mac', "an Ethernet address such as '02:00:00:00:00:01'", text);
  }
  return Buffer.from(text.replaceAll(':', ''), 'hex');
}

/** An Ethernet address as text: '02:00:00:00:00:01'. */
export function macText(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(':');
}

/** A view of the same memory that is a Buffer. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
