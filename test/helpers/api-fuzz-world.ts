import type {
  DescriptorChannel,
  Link,
  Netns,
  PacketBatch,
  PacketSocket,
  TunSocket,
  UdpSocket,
} from '../../dist';

/** What the fuzzer of the API knows and has: random numbers, what is open, what went wrong. */

export interface Report {
  steps: number;
  /** Calls that gave a value, and those that threw. */
  succeeded: number;
  failed: number;
  /** Each kind of call with the codes that it threw. */
  codes: Record<string, string[]>;
  /** What must not be: an error without a code, something left behind. Of each kind the first. */
  violations: string[];
}

/** What the values here throw when they are read: a library hands it on as it is. */
export class Thrown extends Error {}

export type Make = () => unknown;
export type Call = (...args: unknown[]) => unknown;

/** mulberry32. */
function generator(state: number): () => number {
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

export let random = generator(0);
/** From here on the same comes again. */
export function reseed(seed: number): void {
  random = generator(seed);
}
export const below = (limit: number) => Math.floor(random() * limit);
export const chance = (probability: number) => random() < probability;
export const pick = <T>(values: readonly T[]): T => values[below(values.length)] as T;
export const one =
  (...makes: (Make | Make[])[]): Make =>
  () =>
    pick(makes.flat())();
export const always =
  (...values: unknown[]): Make =>
  () =>
    pick(values);

/** What is there. Something old is closed when there is too much of a kind. */
export type AnySocket = TunSocket | PacketSocket | UdpSocket;
export const sockets: AnySocket[] = [];
export const batches: PacketBatch[] = [];
export const namespaces: Netns[] = [];
export const monitors: ReturnType<typeof Link.monitor>[] = [];
export const channels: DescriptorChannel[] = [];
export const listeners: ReturnType<typeof DescriptorChannel.listen>[] = [];
/** Take memory from under the views of it, or give them more. */
export const memories: (() => void)[] = [];
export const aborts: AbortController[] = [];

export const violations = new Map<string, string>();
export const codes = new Map<string, Set<string>>();
export const report: Report = { steps: 0, succeeded: 0, failed: 0, codes: {}, violations: [] };

export function violation(kind: string, what: string): void {
  if (!violations.has(kind)) violations.set(kind, `step ${report.steps}: ${kind}: ${what}`);
}

export function failed(what: string, error: unknown): void {
  report.failed++;
  if (error instanceof Thrown) return;
  const { code } = error as { code?: unknown };
  if (
    error instanceof Error &&
    typeof code === 'string' &&
    /^(E[A-Z0-9]+|ERR_[A-Z_]+|ABORT_ERR)$/.test(code)
  ) {
    const known = codes.get(what) ?? new Set();
    codes.set(what, known.add(code));
  } else {
    violation(`${what} has no code`, error instanceof Error ? `${error.stack}` : String(error));
  }
}

/** Calls, and whatever comes of it is looked at, now or later. */
export function attempt(what: string, call: () => unknown): unknown {
  try {
    const result = call();
    report.succeeded++;
    if (result instanceof Promise) result.catch((error) => failed(what, error));
    return result;
  } catch (error) {
    failed(what, error);
    return undefined;
  }
}

export const swallow = (close: () => unknown) => {
  try {
    close();
  } catch {}
};
/** What a call does not expect while it runs code that is not its own. */
export const disturb = () => {
  if (memories.length > 0 && chance(0.5)) swallow(pick(memories));
  if (sockets.length > 0 && chance(0.3)) swallow(() => pick(sockets).close());
  if (namespaces.length > 0 && chance(0.1)) swallow(() => pick(namespaces).close());
  if (aborts.length > 0 && chance(0.1)) pick(aborts).abort();
};
