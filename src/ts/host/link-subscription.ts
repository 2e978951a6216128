import {
  HEAR_ADDRESSES,
  HEAR_LINKS,
  HEAR_ROUTES,
  type HostRecord,
  type MonitorHandle,
  native,
} from '../native';
import { systemError } from '../support/errors';
import { type LinkEvent, LinkTable } from './link-table';
import { type Place, placeInode, runAt } from './netns-place';

/** Messages that are read before other work of the loop has its turn. */
const MAX_MESSAGES = 64;
/** More than a receive buffer holds. */
const ALL_MESSAGES = 65536;
/** The kernel tells that a link is down before it drops that link's routes. */
const ROUTES_SETTLE_MS = 10;
const ENOBUFS = -105;

/** Who hears of a namespace's links. @internal */
export interface LinkListener {
  /** Whether it wants addresses and routes told too. */
  readonly everything: boolean;
  /** Whether it keeps the process alive. */
  readonly referenced: boolean;
  /** Before `table` changes, which changed() may follow: it is what was told so far. */
  changing?(table: LinkTable): void;
  changed(events: readonly LinkEvent[]): void;
  /** The subscription has ended: nothing more is heard. */
  failed(error: Error): void;
}

/** By the number of the namespace: as long as a subscription is open, its number is nobody else's. */
const subscriptions = new Map<number, LinkSubscription>();

/**
 * This thread's one subscription to the changes of a namespace, shared by all who listen there; closed with the last of them.
 *
 * @internal
 */
export class LinkSubscription {
  readonly #inode: number;
  readonly #handle: MonitorHandle;
  readonly #listeners = new Set<LinkListener>();
  #everything = false;
  #table: LinkTable;
  #settling: NodeJS.Timeout | undefined;
  #closed = false;

  /**
   * Lets `listener` hear of what changes in `place` from here on.
   *
   * @throws SystemError of netlink, or of entering the namespace
   */
  static join(place: Place, listener: LinkListener): LinkSubscription {
    const inode = placeInode(place);
    const subscription = subscriptions.get(inode) ?? new LinkSubscription(place, inode);
    subscription.#join(listener);
    return subscription;
  }

  private constructor(place: Place, inode: number) {
    this.#inode = inode;
    this.#handle = new (native().MonitorHandle)();
    try {
      checked(
        runAt(place, () => this.#handle.open()),
        'socket',
      );
      checked(this.#handle.hear(HEAR_LINKS), 'setsockopt');
      this.#table = LinkTable.of(listed(this.#handle, HEAR_LINKS));
      checked(
        this.#handle.listen(() => this.#onReadable()),
        'poll',
      );
    } catch (error) {
      this.#handle.close();
      throw error;
    }
    subscriptions.set(inode, this);
  }

  #join(listener: LinkListener): void {
    try {
      // What was queued before is news to the others alone, who hear of it on the next tick: not within this call.
      const others = [...this.#listeners];
      const events = this.#read(others, ALL_MESSAGES);
      if (events.length > 0) process.nextTick(() => this.#tell(others, events));
      this.#listeners.add(listener);
      this.#adjust();
    } catch (error) {
      this.leave(listener);
      throw error;
    }
  }

  leave(listener: LinkListener): void {
    this.#listeners.delete(listener);
    if (this.#closed) return;
    if (this.#listeners.size === 0) this.#close();
    else this.#adjust();
  }

  /** Does what follows from who listens: what is heard, and whether the process stays. */
  adjust(): void {
    if (!this.#closed) this.#adjust();
  }

  /** How things are now. */
  get table(): LinkTable {
    return this.#table;
  }

  #adjust(): void {
    let everything = false;
    let referenced = false;
    for (const listener of this.#listeners) {
      everything ||= listener.everything;
      referenced ||= listener.referenced;
    }
    this.#handle.setRef(referenced);
    if (everything === this.#everything) return;
    const kinds = HEAR_ADDRESSES | HEAR_ROUTES;
    checked(this.#handle.hear(everything ? HEAR_LINKS | kinds : HEAR_LINKS), 'setsockopt');
    if (everything) {
      for (const record of listed(this.#handle, kinds)) this.#table.apply(record, []);
    } else {
      this.#table.keepLinks();
    }
    this.#everything = everything;
  }

  #onReadable(): void {
    this.#hear(() => this.#read([...this.#listeners], MAX_MESSAGES));
  }

  /** Tells of what `read` has taken in; an error there is the end, one of a listener is not. */
  #hear(read: () => LinkEvent[]): void {
    let events: LinkEvent[];
    try {
      events = read();
    } catch (error) {
      this.#fail(error as Error);
      return;
    }
    this.#tell([...this.#listeners], events);
  }

  /** Takes in what is queued, `limit` messages of it at most: what is different then. */
  #read(listeners: readonly LinkListener[], limit: number): LinkEvent[] {
    for (const listener of listeners) listener.changing?.(this.#table);
    const events: LinkEvent[] = [];
    const records = this.#handle.read(limit);
    if (records === ENOBUFS) {
      this.#replace(LinkTable.of(listed(this.#handle, this.#kinds)), events);
    } else if (typeof records === 'number') {
      throw systemError(records, 'recvmsg');
    } else {
      for (const record of records) this.#table.apply(record, events);
    }
    if (this.#everything && events.some(({ kind }) => kind === 'down' || kind === 'address-removed')) {
      this.#settleRoutes();
    }
    return events;
  }

  get #kinds(): number {
    return this.#everything ? HEAR_LINKS | HEAR_ADDRESSES | HEAR_ROUTES : HEAR_LINKS;
  }

  #replace(table: LinkTable, events: LinkEvent[]): void {
    this.#table.changesTo(table, events);
    this.#table = table;
  }

  /**
   * IPv4 routes that go with a link that goes down, or with an address, are dropped without a word (fib_flush() in
   * net/ipv4/fib_frontend.c): only listing them tells.
   */
  #settleRoutes(): void {
    this.#settling ??= setTimeout(() => {
      this.#settling = undefined;
      if (this.#everything) this.#hear(() => this.#readRoutes());
    }, ROUTES_SETTLE_MS).unref();
  }

  #readRoutes(): LinkEvent[] {
    // What was queued before is older than the list.
    const events = this.#read([...this.#listeners], ALL_MESSAGES);
    this.#replace(this.#table.withRoutes(listed(this.#handle, HEAR_ROUTES)), events);
    return events;
  }

  #tell(listeners: readonly LinkListener[], events: readonly LinkEvent[]): void {
    if (events.length === 0) return;
    for (const listener of listeners) {
      if (!this.#listeners.has(listener)) continue;
      try {
        listener.changed(events);
      } catch (error) {
        // Uncaught, as what any other listener throws; the others hear of it all the same.
        process.nextTick(() => {
          throw error;
        });
      }
    }
  }

  #fail(error: Error): void {
    const listeners = [...this.#listeners];
    this.#listeners.clear();
    this.#close();
    for (const listener of listeners) listener.failed(error);
  }

  #close(): void {
    this.#closed = true;
    clearTimeout(this.#settling);
    this.#handle.close();
    if (subscriptions.get(this.#inode) === this) subscriptions.delete(this.#inode);
  }
}

/** Who hears of one link. @internal */
export interface LinkWatcher {
  /** 'moved' or 'removed' is the last. */
  linkChanged(event: LinkEvent): void;
  /** Nothing more is heard. */
  linkWatchFailed(error: Error): void;
}

/** Watchers that were collected need no subscription any more. */
const abandoned = new FinalizationRegistry<() => void>((leave) => leave());

/**
 * Tells `watcher` of changes of link `index` in `place` from here on, but not of addresses and routes. It is referred to weakly, and
 * never keeps the process alive: its owner holds it, and can be collected with it.
 *
 * @returns what stops it
 * @throws SystemError of netlink, or of entering the namespace
 * @internal
 */
export function watchLink(place: Place, index: number, watcher: LinkWatcher): () => void {
  const weak = new WeakRef(watcher);
  const token = {};
  const listener: LinkListener = {
    everything: false,
    referenced: false,
    changed(events) {
      for (const event of events) {
        if (event.link.index !== index) continue;
        const last = event.kind === 'removed' || event.kind === 'moved';
        if (last) stop();
        weak.deref()?.linkChanged(event);
        if (last) return; // whatever else is told is of a stranger that has its index
      }
    },
    failed: (error) => weak.deref()?.linkWatchFailed(error),
  };
  const subscription = LinkSubscription.join(place, listener);
  const leave = () => subscription.leave(listener);
  const stop = () => {
    abandoned.unregister(token);
    leave();
  };
  abandoned.register(watcher, leave, token);
  return stop;
}

function listed(handle: MonitorHandle, kinds: number): HostRecord[] {
  const records = handle.list(kinds);
  if (typeof records === 'number') throw systemError(records, 'RTM_GETLINK');
  return records;
}

function checked(result: number, syscall: string): void {
  if (result < 0) throw systemError(result, syscall);
}
