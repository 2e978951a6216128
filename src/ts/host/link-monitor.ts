import { EventEmitter } from 'node:events';
import { inspect } from 'node:util';
import { abortError } from '../support/errors';
import { type LinkListener, LinkSubscription } from './link-subscription';
import { isUp, type LinkChangeKind, type LinkEvent, type LinkTable } from './link-table';
import type { Place } from './netns-place';
import { type Route, routeOf } from './route';

/** Changes that wait for a reader; those beyond are told later, as one difference. */
const MAX_QUEUED = 1024;

/** A link as it was at some time. */
export interface LinkSnapshot {
  index: number;
  name: string;
  /** 'veth', 'tun' ...; empty for hardware and loopback. */
  type: string;
  /** In bytes. */
  mtu: number;
  /** Empty where there is none. */
  mac: string;
  /** IFF_* of netdevice(7). */
  flags: number;
  /** Whether it was brought up (IFF_UP). */
  up: boolean;
  /** Whether there is a carrier, as a plugged cable (IFLA_CARRIER); also told of a link that is down. */
  carrier: boolean;
  /** The index of the bridge (or another such link) that it is a port of; 0 is none. */
  master: number;
}

/** One change of a link, or of its addresses and routes. `L` is Link. */
export interface LinkChangeOf<L> {
  /**
   * 'added' (made here, or moved here), 'removed', 'moved' (to another namespace), 'up', 'down', 'carrier', 'mtu', 'mac', 'renamed',
   * 'master' (joined or left a bridge or another such link), 'address-added', 'address-removed', 'route-added', 'route-removed'.
   */
  kind: LinkChangeKind;
  /** The link, which tells how it is now; of one that is gone only `name` and `index`, as they were last. */
  link: L;
  /** The link as it was before this change; absent with 'added' and with addresses and routes. */
  before?: LinkSnapshot;
  /** The link as it was after this change; absent when it is gone from here. */
  after?: LinkSnapshot;
  /** Of 'address-added' and 'address-removed', such as `'10.0.0.1/24'`. */
  address?: string;
  /** Of 'route-added' and 'route-removed': a route of any table but the local one, as Link.routes() has it. */
  route?: Route;
  /** Of 'moved': the link's index in its new namespace. */
  indexInNetns?: number;
}

/** Events of a {@link LinkMonitor}, with what their listeners get. */
export interface LinkMonitorEvents<L> {
  change: [change: LinkChangeOf<L>];
  error: [error: Error];
  close: [];
}

/** What Link.monitor() hands to a LinkMonitor. @internal */
export interface LinkMonitorSetup<L> {
  place: Place;
  signal: AbortSignal | undefined;
  makeLink(event: LinkEvent): L;
}

/** What users are told of an event. @internal */
export function linkChange<L>(event: LinkEvent, subject: L): LinkChangeOf<L> {
  const { kind, link, before, address, route, indexInNetns } = event;
  const change: LinkChangeOf<L> = { kind, link: subject };
  if (before !== undefined) change.before = snapshot(before);
  if (kind !== 'removed' && kind !== 'moved') change.after = snapshot(link);
  if (address !== undefined) change.address = address;
  if (route !== undefined) {
    // The other links of a multipath route are known by their numbers here.
    change.route = routeOf(route, (index) => (index === link.index ? link.name : `${index}`));
  }
  if (indexInNetns !== undefined) change.indexInNetns = indexInNetns;
  return change;
}

function snapshot(link: LinkEvent['link']): LinkSnapshot {
  const { index, name, type, mtu, mac, flags, carrier, master } = link;
  return { index, name, type, mtu, mac, flags, up: isUp(link), carrier, master };
}

/**
 * Tells what happens to the links, addresses and routes of one network namespace, whoever does it. Made by Link.monitor().
 *
 * As an EventEmitter it tells each change when it happens; as an async iterator it keeps them for a slow reader, up to some thousand:
 * those beyond are told as the difference between what was told last and how things are when the reader comes to them. In the same way
 * it tells what the kernel dropped because too much happened at once. So a reader always ends up knowing how things are.
 *
 * It keeps the process alive until it is closed, unless unref() was called.
 *
 * @example
 * ```ts
 * using monitor = Link.monitor();
 * for await (const { kind, link } of monitor) console.log(kind, link.name);
 * ```
 */
export class LinkMonitor<L> extends EventEmitter<LinkMonitorEvents<L>> {
  readonly #setup: LinkMonitorSetup<L>;
  readonly #subscription: LinkSubscription;
  readonly #listener: LinkListener;
  #referenced = true;
  #closed = false;
  #error: Error | undefined;
  /** What an iterator has not taken yet. */
  #queue: LinkEvent[] = [];
  /** Those before it are taken. */
  #head = 0;
  /** How things were after the last of the queue, when it was full; what is different since is told when it is empty. */
  #told: LinkTable | undefined;
  #iterated = false;
  readonly #waiting: {
    resolve(result: IteratorResult<LinkChangeOf<L>, undefined>): void;
    reject(error: Error): void;
  }[] = [];
  readonly #onAbort = () => this.close();

  /** @internal */
  constructor(setup: LinkMonitorSetup<L>) {
    super();
    if (setup.signal?.aborted) throw abortError(setup.signal);
    this.#setup = setup;
    const monitor = this;
    this.#listener = {
      everything: true,
      get referenced() {
        return monitor.#referenced;
      },
      changing: (table) => this.#changing(table),
      changed: (events) => this.#changed(events),
      failed: (error) => this.#end(error),
    };
    this.#subscription = LinkSubscription.join(setup.place, this.#listener);
    setup.signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Lets it keep the process alive, as it does from the start. */
  ref(): this {
    return this.#refer(true);
  }

  /** Lets the process end while it is open. */
  unref(): this {
    return this.#refer(false);
  }

  /** Ends it, and iteration over it; 'close' follows on the next tick. A second call does nothing. */
  close(): void {
    this.#end(undefined);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  /**
   * The changes since the monitor was made that were not iterated over yet; where 'change' had a listener before, those from here
   * on. All iterators of a monitor share them. Leaving the loop does not close the monitor.
   *
   * @throws from the loop, what the 'error' event has
   */
  [Symbol.asyncIterator](): AsyncIterableIterator<LinkChangeOf<L>, undefined> {
    this.#iterated = true;
    return {
      next: () => this.#next(),
      return: async () => ({ done: true, value: undefined }),
      [Symbol.asyncIterator]() {
        return this;
      },
    };
  }

  [inspect.custom](_depth: number, options: object): string {
    return `LinkMonitor ${inspect({ closed: this.#closed, queued: this.#queued }, options)}`;
  }

  #next(): Promise<IteratorResult<LinkChangeOf<L>, undefined>> {
    const event = this.#take();
    if (event !== undefined) return Promise.resolve({ done: false, value: this.#change(event) });
    if (this.#error !== undefined) {
      const error = this.#error;
      this.#error = undefined;
      return Promise.reject(error);
    }
    if (this.#closed) return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  #take(): LinkEvent | undefined {
    if (this.#head === this.#queue.length) {
      this.#queue = [];
      this.#head = 0;
      this.#tellDifference();
    }
    return this.#head < this.#queue.length ? this.#queue[this.#head++] : undefined;
  }

  /** Changes that wait for an iterator. */
  get #queued(): number {
    return this.#queue.length - this.#head;
  }

  /** Whether they wait for one at all. */
  get #keeping(): boolean {
    return this.#iterated || this.listenerCount('change') === 0;
  }

  #changing(table: LinkTable): void {
    if (this.#keeping && this.#queued >= MAX_QUEUED) this.#told ??= table.copy();
  }

  #tellDifference(): void {
    const told = this.#told;
    if (told === undefined) return;
    this.#told = undefined;
    told.changesTo(this.#subscription.table, this.#queue);
  }

  #changed(events: readonly LinkEvent[]): void {
    if (this.#keeping && this.#told === undefined) {
      for (const event of events) {
        const reader = this.#waiting.shift();
        if (reader === undefined) this.#queue.push(event);
        else reader.resolve({ done: false, value: this.#change(event) });
      }
    }
    for (const event of events) {
      if (this.#closed || this.listenerCount('change') === 0) return;
      this.emit('change', this.#change(event));
    }
  }

  #change(event: LinkEvent): LinkChangeOf<L> {
    return linkChange(event, this.#setup.makeLink(event));
  }

  #refer(referenced: boolean): this {
    this.#referenced = referenced;
    this.#subscription.adjust();
    return this;
  }

  #end(error: Error | undefined): void {
    if (this.#closed) return;
    this.#tellDifference();
    this.#closed = true;
    this.#subscription.leave(this.#listener);
    this.#setup.signal?.removeEventListener('abort', this.#onAbort);
    const waiting = this.#waiting.splice(0);
    if (error === undefined) {
      this.#queue = [];
      this.#head = 0;
      for (const reader of waiting) reader.resolve({ done: true, value: undefined });
    } else {
      // Who iterates has the error there, and need not listen for it too.
      for (const reader of waiting) reader.reject(error);
      if (waiting.length === 0 && this.#iterated) this.#error = error;
      if (!this.#iterated || this.listenerCount('error') > 0)
        process.nextTick(() => this.emit('error', error));
    }
    process.nextTick(() => this.emit('close'));
  }
}
