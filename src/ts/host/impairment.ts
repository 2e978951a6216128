import type { ImpairmentData } from '../native';
import { invalidArgType, invalidArgValue, outOfRange } from '../support/errors';
import { knownOptions, optionsObject } from '../support/options';

/** What a link does to the packets that it sends (tc-netem(8)); what is left out is nothing. */
export interface Impairment {
  /** Milliseconds that each packet waits; fractions count, up to a nanosecond. */
  delayMs?: number | undefined;
  /** Milliseconds that the delay differs, at random, to either side; at most `delayMs`. */
  jitterMs?: number | undefined;
  /** Part of the packets that are lost, in percent: 0 to 100. */
  lossPercent?: number | undefined;
  /** Part of the packets that come twice, in percent. */
  duplicatePercent?: number | undefined;
  /** Part of the packets that don't wait, and so overtake others, in percent; needs `delayMs`. */
  reorderPercent?: number | undefined;
  /** Bits in a second; those of the link's header count. Default: no limit. */
  rateBitsPerSecond?: number | undefined;
}

const known = [
  'delayMs',
  'jitterMs',
  'lossPercent',
  'duplicatePercent',
  'reorderPercent',
  'rateBitsPerSecond',
] as const satisfies readonly (keyof Impairment)[];

const MAX_DELAY_MS = 3_600_000;
const MIN_RATE = 8;
/** Packets that wait: netem's own default, and enough for what a fast link sends during a long delay. */
const LIMIT = 1000;
const PACKETS_IN_A_MILLISECOND = 100;
const MAX_LIMIT = 1_000_000;

/**
 * Checked; undefined where nothing is impaired.
 *
 * @throws TypeError `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`; RangeError `ERR_OUT_OF_RANGE`
 */
export function impairment(name: string, value: unknown): ImpairmentData | undefined {
  const options = optionsObject(name, value ?? {});
  knownOptions(name, options, known);
  const number = (key: (typeof known)[number], max: number) => {
    const given = options[key];
    if (given === undefined) return 0;
    if (typeof given !== 'number') throw invalidArgType(`${name}.${key}`, 'a number', given);
    if (!(given >= 0 && given <= max)) throw outOfRange(`${name}.${key}`, `from 0 to ${max}`, given);
    return given;
  };
  const delay = number('delayMs', MAX_DELAY_MS);
  const jitter = number('jitterMs', MAX_DELAY_MS);
  const reorder = number('reorderPercent', 100);
  const rate = number('rateBitsPerSecond', Number.MAX_SAFE_INTEGER);
  if (jitter > delay) throw invalidArgValue(`${name}.jitterMs`, 'at most delayMs', jitter);
  if (reorder > 0 && delay === 0) {
    throw invalidArgValue(
      `${name}.reorderPercent`,
      'given only with delayMs: what does not wait overtakes what does',
      reorder,
    );
  }
  if (rate > 0 && rate < MIN_RATE)
    throw outOfRange(`${name}.rateBitsPerSecond`, `0 or at least ${MIN_RATE}`, rate);
  const data = {
    delayNs: Math.round(delay * 1e6),
    jitterNs: Math.round(jitter * 1e6),
    loss: number('lossPercent', 100) / 100,
    duplicate: number('duplicatePercent', 100) / 100,
    reorder: reorder / 100,
    rateBytes: Math.floor(rate / 8),
  };
  if (Object.values(data).every((part) => part === 0)) return undefined;
  const waiting = Math.ceil((delay + jitter) * PACKETS_IN_A_MILLISECOND);
  return { ...data, limit: Math.min(Math.max(LIMIT, waiting), MAX_LIMIT) };
}
