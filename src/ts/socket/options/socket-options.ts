import { Netns } from '../../host/netns';
import { invalidArgType } from '../../support/errors';
import { abortSignal, integer, oneOf } from '../../support/options';
import type { OffloadMode } from '../../support/types';

/** Options that every socket has. */
export interface SocketOptions {
  /** The network namespace of the interface: a Netns, a path, a name of `ip netns`, or a process id. This thread stays. */
  netns?: Netns | string | number;
  /** Milliseconds that a blocking recvmsg() or recvmmsg() waits before EAGAIN. Default: for ever. */
  receiveTimeout?: number;
  /** Bytes that send() may queue before ENOBUFS. Default 16 MiB. */
  sendQueueLimit?: number;
  /** Closes the socket when it is aborted. */
  signal?: AbortSignal;
}

/** SocketOptions, validated and with defaults. */
export interface SocketConfig {
  netns: Netns | string | number | undefined;
  receiveTimeout: number | undefined;
  sendQueueLimit: number;
  signal: AbortSignal | undefined;
}

export const SOCKET_OPTIONS = [
  'netns',
  'receiveTimeout',
  'sendQueueLimit',
  'signal',
] as const satisfies readonly (keyof SocketOptions)[];

const DEFAULT_SEND_QUEUE_LIMIT = 16 * 1024 * 1024;
/** setTimeout's own limit. */
const MAX_TIMEOUT_MS = 0x7fffffff;

/** A check of a value that says in an error which one it was. */
type Check<T> = (name: string, value: unknown) => T;

/** Reads options that may be left out. */
export type OptionReader<K extends string> = <T>(key: K, check: Check<T>) => T | undefined;

export function optionReader<K extends string>(given: Record<string, unknown>): OptionReader<K> {
  return (key, check) => (given[key] === undefined ? undefined : check(`options.${key}`, given[key]));
}

/** A check for a whole number from `min` to `max`. */
export function wholeNumber(min: number, max: number): Check<number> {
  return (name, value) => integer(name, value, min, max);
}

export function socketConfig(optional: OptionReader<(typeof SOCKET_OPTIONS)[number]>): SocketConfig {
  return {
    netns: optional('netns', namespace),
    receiveTimeout: optional('receiveTimeout', wholeNumber(0, MAX_TIMEOUT_MS)),
    sendQueueLimit:
      optional('sendQueueLimit', wholeNumber(1, Number.MAX_SAFE_INTEGER)) ?? DEFAULT_SEND_QUEUE_LIMIT,
    signal: optional('signal', abortSignal),
  };
}

function namespace(name: string, value: unknown): Netns | string | number {
  if (value instanceof Netns || typeof value === 'string' || typeof value === 'number') return value;
  throw invalidArgType(name, 'a Netns, a path, a name or a process id', value);
}

export function offloadMode(name: string, value: unknown): OffloadMode {
  return oneOf(name, value, ['none', 'split', 'raw']);
}
