import { expect, it } from 'vitest';
import { type LinkEvent, LinkTable } from '../../dist/host/link-table';
import type { HostRecord, LinkState } from '../../dist/native';

const UP = 1;
const link = (index: number, changes: Partial<LinkState> = {}): HostRecord => ({
  removed: false,
  index,
  link: {
    index,
    name: `eth${index}`,
    alternativeNames: [],
    type: 'veth',
    flags: 0,
    hardwareType: 1,
    mtu: 1500,
    mac: '02:00:00:00:00:01',
    txQueueLength: 1000,
    gsoMaxSize: 65536,
    master: 0,
    carrier: false,
    ...changes,
  },
});
const gone = (record: HostRecord): HostRecord => ({ ...record, removed: true });
const address = (index: number, text: string): HostRecord => ({ removed: false, index, address: text });
const route = (index: number, destination: string): HostRecord => ({
  removed: false,
  index,
  route: { destination },
});

/** In short: kind, index, and the address or destination. */
const short = (events: readonly LinkEvent[]) =>
  events.map(({ kind, link: { index }, address: of, route: by }) =>
    [kind, index, of ?? by?.destination].filter((part) => part !== undefined).join(' '),
  );
function applied(table: LinkTable, ...records: HostRecord[]): string[] {
  const events: LinkEvent[] = [];
  for (const record of records) table.apply(record, events);
  return short(events);
}
function difference(before: readonly HostRecord[], now: readonly HostRecord[]): string[] {
  const events: LinkEvent[] = [];
  LinkTable.of(before).changesTo(LinkTable.of(now), events);
  return short(events);
}

it.each<[string, Partial<LinkState>, string[]]>([
  ['nothing', {}, []],
  ['what is not told', { txQueueLength: 5 }, []],
  ['the name', { name: 'x' }, ['renamed 1']],
  ['the mtu', { mtu: 9000 }, ['mtu 1']],
  ['the address', { mac: '02:00:00:00:00:02' }, ['mac 1']],
  ['the bridge', { master: 7 }, ['master 1']],
  ['up with a carrier', { flags: UP, carrier: true }, ['up 1', 'carrier 1']],
])('%s of a link', (_what, changes, expected) => {
  expect(applied(LinkTable.of([link(1)]), link(1, changes))).toEqual(expected);
  expect(difference([link(1)], [link(1, changes)])).toEqual(expected);
});

it('tells what was before, and does not change it', () => {
  const events: LinkEvent[] = [];
  const table = LinkTable.of([link(1)]);
  table.apply(link(1, { mtu: 1400 }), events);
  table.apply(link(1, { mtu: 1300 }), events);
  expect(events.map(({ before, link: now }) => [before?.mtu, now.mtu])).toEqual([
    [1500, 1400],
    [1400, 1300],
  ]);
});

it('a link that goes takes its routes and addresses along, before it', () => {
  const table = LinkTable.of([link(1), address(1, '10.0.0.1/24'), route(1, '10.0.0.0/24'), link(2)]);
  expect(applied(table, gone(link(1)), gone(address(1, '10.0.0.1/24')))).toEqual([
    'route-removed 1 10.0.0.0/24',
    'address-removed 1 10.0.0.1/24',
    'removed 1',
  ]);
  expect(applied(table, { ...gone(link(2)), indexInNetns: 5 }, gone(link(2)))).toEqual(['moved 2']);
});

it('tells nothing twice, and nothing of links that it does not know', () => {
  const table = LinkTable.of([link(1)]);
  expect(applied(table, address(1, '10.0.0.1/24'), address(1, '10.0.0.1/24'))).toEqual([
    'address-added 1 10.0.0.1/24',
  ]);
  expect(applied(table, address(9, '10.0.0.1/24'), gone(link(9)), gone(route(1, '::/0')))).toEqual([]);
});

it('the difference between two states', () => {
  const before = [
    link(1),
    link(2),
    link(3),
    address(1, '10.0.0.1/24'),
    route(1, '10.0.0.0/24'),
    address(3, 'fd00::1/64'),
  ];
  const now = [link(1, { mtu: 1400 }), link(3), link(4), address(1, '10.0.0.2/24'), route(4, '0.0.0.0/0')];
  expect(difference(before, now)).toEqual([
    'removed 2',
    'mtu 1',
    'route-removed 1 10.0.0.0/24',
    'address-removed 1 10.0.0.1/24',
    'address-added 1 10.0.0.2/24',
    'address-removed 3 fd00::1/64',
    'added 4',
    'route-added 4 0.0.0.0/0',
  ]);
  expect(difference(now, now)).toEqual([]);
});

it('of another type at the same index is another link', () => {
  expect(difference([link(1), address(1, '10.0.0.1/24')], [link(1, { type: 'tun' })])).toEqual([
    'address-removed 1 10.0.0.1/24',
    'removed 1',
    'added 1',
  ]);
});

it('a copy stays as it was', () => {
  const table = LinkTable.of([link(1), address(1, '10.0.0.1/24')]);
  const copy = table.copy();
  applied(table, gone(address(1, '10.0.0.1/24')), link(1, { mtu: 1400 }), link(2));
  const events: LinkEvent[] = [];
  copy.changesTo(table, events);
  expect(short(events)).toEqual(['mtu 1', 'address-removed 1 10.0.0.1/24', 'added 2']);
});
