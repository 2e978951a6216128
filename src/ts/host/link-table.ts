import type { HostRecord, LinkState, RouteData } from '../native';

/** What can happen to a link, or to an address or route of it: see `kind` of a change. */
export type LinkChangeKind =
  | 'added'
  | 'removed'
  | 'up'
  | 'down'
  | 'carrier'
  | 'mtu'
  | 'mac'
  | 'renamed'
  | 'moved'
  | 'master'
  | 'address-added'
  | 'address-removed'
  | 'route-added'
  | 'route-removed';

/** One difference between two states of a {@link LinkTable}. */
export interface LinkEvent {
  kind: LinkChangeKind;
  /** As it is after this; as it was last, when it is gone. */
  link: LinkState;
  /** As it was before this; absent for one that is new, and for its addresses and routes. */
  before?: LinkState;
  address?: string;
  route?: RouteData;
  /** Of 'moved': the link's index where it is now. */
  indexInNetns?: number;
}

const IFF_UP = 1;

/** What is different in a link that is still there, in the order that it is told. */
const differences: readonly (readonly [LinkChangeKind, (before: LinkState, link: LinkState) => boolean])[] = [
  ['renamed', (before, link) => before.name !== link.name],
  ['master', (before, link) => before.master !== link.master],
  ['mac', (before, link) => before.mac !== link.mac],
  ['mtu', (before, link) => before.mtu !== link.mtu],
  ['down', (before, link) => isUp(before) && !isUp(link)],
  ['up', (before, link) => !isUp(before) && isUp(link)],
  ['carrier', (before, link) => before.carrier !== link.carrier],
];

/** @internal */
export function isUp(link: LinkState): boolean {
  return (link.flags & IFF_UP) !== 0;
}

/**
 * The links of one network namespace, their addresses and their routes, as they were last told; and what is different when more
 * is told. Records about links that it does not know are ignored: the kernel tells of a link first and last.
 */
export class LinkTable {
  readonly #links = new Map<number, LinkState>();
  /** By the link's index. */
  readonly #addresses = new Map<number, Set<string>>();
  /** By the link's index, then by all that a route has. */
  #routes = new Map<number, Map<string, RouteData>>();

  static of(records: readonly HostRecord[]): LinkTable {
    const table = new LinkTable();
    for (const record of records) table.apply(record, []);
    return table;
  }

  /** One that the next apply() does not change. */
  copy(): LinkTable {
    const copy = new LinkTable();
    for (const [index, link] of this.#links) copy.#links.set(index, link);
    for (const [index, addresses] of this.#addresses) copy.#addresses.set(index, new Set(addresses));
    for (const [index, routes] of this.#routes) copy.#routes.set(index, new Map(routes));
    return copy;
  }

  /** One with other routes, which `records` are. It shares the rest with this one. */
  withRoutes(records: readonly HostRecord[]): LinkTable {
    const table = this.copy();
    table.#routes = new Map();
    for (const record of records) table.apply(record, []);
    return table;
  }

  /** Forgets addresses and routes that are not listened for any more. */
  keepLinks(): void {
    this.#addresses.clear();
    this.#routes.clear();
  }

  /** Takes in what was told, and appends what is different. */
  apply(record: HostRecord, events: LinkEvent[]): void {
    const { index, removed } = record;
    if (record.link !== undefined) {
      if (removed) this.#forget(index, record.indexInNetns, events);
      else this.#change(record.link, events);
      return;
    }
    const link = this.#links.get(index);
    if (link === undefined) return;
    if (record.address !== undefined) this.#applyAddress(link, record.address, removed, events);
    if (record.route !== undefined) this.#applyRoute(link, record.route, removed, events);
  }

  /** Appends what is different in `next`. */
  changesTo(next: LinkTable, events: LinkEvent[]): void {
    const walked = this.copy();
    for (const [index, link] of this.#links) {
      const now = next.#links.get(index);
      // Of another type it is another link, which has the index now.
      if (now === undefined || now.type !== link.type) walked.#forget(index, undefined, events);
    }
    for (const link of next.#links.values()) {
      walked.#change(link, events);
      const { index } = link;
      const addresses = next.#addresses.get(index);
      const routes = next.#routes.get(index);
      for (const route of [...(walked.#routes.get(index) ?? [])]) {
        if (!routes?.has(route[0])) walked.#applyRoute(link, route[1], true, events);
      }
      for (const address of [...(walked.#addresses.get(index) ?? [])]) {
        if (!addresses?.has(address)) walked.#applyAddress(link, address, true, events);
      }
      for (const address of addresses ?? []) walked.#applyAddress(link, address, false, events);
      for (const route of routes?.values() ?? []) walked.#applyRoute(link, route, false, events);
    }
  }

  #change(link: LinkState, events: LinkEvent[]): void {
    const before = this.#links.get(link.index);
    this.#links.set(link.index, link);
    if (before === undefined) {
      events.push({ kind: 'added', link });
      return;
    }
    for (const [kind, differs] of differences) {
      if (differs(before, link)) events.push({ kind, link, before });
    }
  }

  #forget(index: number, indexInNetns: number | undefined, events: LinkEvent[]): void {
    const link = this.#links.get(index);
    if (link === undefined) return;
    for (const route of this.#routes.get(index)?.values() ?? []) {
      events.push({ kind: 'route-removed', link, route });
    }
    for (const address of this.#addresses.get(index) ?? []) {
      events.push({ kind: 'address-removed', link, address });
    }
    this.#routes.delete(index);
    this.#addresses.delete(index);
    this.#links.delete(index);
    if (indexInNetns === undefined) events.push({ kind: 'removed', link, before: link });
    else events.push({ kind: 'moved', link, before: link, indexInNetns });
  }

  #applyAddress(link: LinkState, address: string, removed: boolean, events: LinkEvent[]): void {
    const addresses = getOrSet(this.#addresses, link.index, () => new Set<string>());
    if (addresses.has(address) !== removed) return;
    if (removed) addresses.delete(address);
    else addresses.add(address);
    events.push({ kind: removed ? 'address-removed' : 'address-added', link, address });
  }

  #applyRoute(link: LinkState, route: RouteData, removed: boolean, events: LinkEvent[]): void {
    const routes = getOrSet(this.#routes, link.index, () => new Map<string, RouteData>());
    const key = JSON.stringify(route);
    if (routes.has(key) !== removed) return;
    if (removed) routes.delete(key);
    else routes.set(key, route);
    events.push({ kind: removed ? 'route-removed' : 'route-added', link, route });
  }
}

function getOrSet<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  let value = map.get(key);
  if (value === undefined) {
    value = make();
    map.set(key, value);
  }
  return value;
}
