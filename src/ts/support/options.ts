import { invalidArgType, invalidArgValue, outOfRange } from './errors';

/** Checks for one argument or option each: they return the value, typed, or throw what says what to pass. */

/** A whole number from `min` to `max`. */
export function integer(name: string, value: unknown, min: number, max: number): number {
  if (typeof value !== 'number') throw invalidArgType(name, 'a number', value);
  if (!Number.isInteger(value) || value < min || value > max) {
    throw outOfRange(name, `a whole number from ${min} to ${max}`, value);
  }
  return value;
}

export function boolean(name: string, value: unknown): boolean {
  if (typeof value !== 'boolean') throw invalidArgType(name, 'a boolean', value);
  return value;
}

export function string(name: string, value: unknown): string {
  if (typeof value !== 'string') throw invalidArgType(name, 'a string', value);
  return value;
}

/** A plain object of options; `undefined` counts as one with none. */
export function optionsObject(name: string, value: unknown): Record<string, unknown> {
  if (value === undefined) return {};
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalidArgType(name, 'an object', value);
  }
  return value as Record<string, unknown>;
}

/** Refuses options that don't exist: a misspelt one would otherwise be ignored in silence. */
export function knownOptions(name: string, value: Record<string, unknown>, known: readonly string[]): void {
  for (const key of Object.keys(value)) {
    if (known.includes(key)) continue;
    const near = nearest(key, known);
    const meant = near === undefined ? '' : ` (did you mean '${near}'?)`;
    throw invalidArgValue(`${name}.${key}`, `one of ${known.join(', ')}${meant}`, key);
  }
}

/** The one of `words` that `word` was most likely meant to be. */
function nearest(word: string, words: readonly string[]): string | undefined {
  let best: string | undefined;
  // A third of its letters may be wrong.
  let least = Math.max(2, Math.floor(word.length / 3)) + 1;
  for (const candidate of words) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase());
    if (distance < least) {
      least = distance;
      best = candidate;
    }
  }
  return best;
}

/** How many letters must be put in, left out or changed to make `b` of `a` (Levenshtein). */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = (row[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(change, (row[j] as number) + 1, (next[j - 1] as number) + 1));
    }
    row = next;
  }
  return row[b.length] as number;
}

export function oneOf<T extends string>(name: string, value: unknown, values: readonly T[]): T {
  if (typeof value !== 'string') throw invalidArgType(name, `one of ${values.join(', ')}`, value);
  if (!values.includes(value as T)) throw invalidArgValue(name, `one of ${values.join(', ')}`, value);
  return value as T;
}

/** Flags of a system call: a 32-bit pattern of which the kernel, or what stands for it, knows the meaning. */
export function flagBits(name: string, value: unknown): number {
  return integer(name, value, 0, 0x7fffffff);
}

export function abortSignal(name: string, value: unknown): AbortSignal | undefined {
  if (value !== undefined && !(value instanceof AbortSignal))
    throw invalidArgType(name, 'an AbortSignal', value);
  return value;
}

export function callback(name: string, value: unknown): void {
  if (typeof value !== 'function') throw invalidArgType(name, 'a function', value);
}

const MAX_NAME = 15;
const MAX_ANY_NAME = 127;

/**
 * An interface's name: 1 to 15 bytes, none of them '/', ':' or white space, and not '.' or '..'
 * (dev_valid_name() in net/core/dev.c). `template` allows one '%d', for the kernel to number.
 */
export function interfaceName(name: string, value: unknown, { template = false } = {}): string {
  return checkedName(name, value, MAX_NAME, template);
}

/** The name of an interface that is there: its own or an alternative one, of up to 127 bytes (ALTIFNAMSIZ). */
export function anyInterfaceName(name: string, value: unknown): string {
  return checkedName(name, value, MAX_ANY_NAME, false);
}

function checkedName(name: string, value: unknown, max: number, template: boolean): string {
  const text = string(name, value);
  if (text.length === 0 || Buffer.byteLength(text) > max) {
    throw outOfRange(name, `an interface name of 1 to ${max} bytes`, text);
  }
  if (/[/:\s\0]/.test(text) || text === '.' || text === '..') {
    throw invalidArgValue(
      name,
      "an interface name without '/', ':', spaces and NUL, and not '.' or '..'",
      text,
    );
  }
  if (text.includes('%') && !(template && /^[^%]*%d[^%]*$/.test(text))) {
    throw invalidArgValue(
      name,
      template ? "an interface name with '%' only in one '%d'" : "an interface name without '%'",
      text,
    );
  }
  return text;
}
