import { execFileSync, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, statSync } from 'node:fs';
import { inspect } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Link, type LinkChange, type LinkMonitor, Netns, TunSocket } from '../../dist';
import { enterQuietNamespace } from '../helpers/namespace';
import { program } from '../helpers/optional';

enterQuietNamespace();

/** More messages than a receive buffer holds (net.core.rmem_default); each is about a kilobyte. */
const BURST = 10_000;

const descriptors = () => readdirSync('/proc/self/fd').length;
const here = () => statSync('/proc/thread-self/ns/net').ino;
const elsewhere = Netns.create();
const ip = (...words: string[]) => execFileSync(program('ip'), words, { stdio: 'pipe' });

let monitor: LinkMonitor;
let changes: LinkChange[];
const made: string[] = [];
beforeEach(() => {
  monitor = Link.monitor();
  changes = [];
  monitor.on('change', (change) => changes.push(change));
});
afterEach(() => {
  monitor.close();
  for (const name of made.splice(0)) {
    if (Link.list().some((link) => link.name === name)) Link.get(name).delete();
  }
});

/** One end of a pair, whose other end is down and elsewhere: so it has no carrier, and nothing happens to it by itself. */
function single(name: string): Link {
  made.push(name);
  return Link.create({ type: 'veth', name, peer: { name: `${name}p`, netns: elsewhere } });
}

/** What was told about one link until `kind` was, each as kind and what is of it. */
async function told(kind: string, index?: number): Promise<LinkChange[]> {
  const of = () => changes.filter(({ link }) => index === undefined || link.index === index);
  while (!of().some((change) => change.kind === kind)) await once(monitor, 'change');
  await new Promise(setImmediate);
  return of();
}
const kinds = (list: readonly LinkChange[]) => list.map(({ kind }) => kind);

describe('each kind', () => {
  it('of a link that tunsock made', async () => {
    const link = single('mon0');
    const { index } = link;
    link.mtu = 1400;
    link.mac = '02:00:00:00:00:09';
    link.rename('mon1');
    made.push('mon1');
    link.up();
    link.down();
    link.delete();
    const list = await told('removed', index);
    expect(kinds(list)).toEqual(['added', 'mtu', 'mac', 'renamed', 'up', 'down', 'removed']);
    const [added, mtu, mac, renamed, up, down, removed] = list;
    expect(added).toMatchObject({ after: { name: 'mon0', type: 'veth', mtu: 1500, up: false } });
    expect(added?.before).toBeUndefined();
    expect([mtu?.before?.mtu, mtu?.after?.mtu]).toEqual([1500, 1400]);
    expect(mac?.after?.mac).toBe('02:00:00:00:00:09');
    expect(mac?.before?.mac).not.toBe('02:00:00:00:00:09');
    expect([renamed?.before?.name, renamed?.after?.name]).toEqual(['mon0', 'mon1']);
    expect([up?.before?.up, up?.after?.up]).toEqual([false, true]);
    expect([down?.before?.up, down?.after?.up]).toEqual([true, false]);
    expect(removed?.link).toBeInstanceOf(Link);
    expect([removed?.link.name, removed?.link.index]).toEqual(['mon1', index]);
    expect(removed?.after).toBeUndefined();
  });

  it('of a link that something else made', async () => {
    made.push('mon2');
    ip('link', 'add', 'mon2', 'type', 'veth', 'peer', 'name', 'mon2p');
    ip('link', 'set', 'mon2', 'mtu', '1300');
    ip('addr', 'add', '192.0.2.1/24', 'dev', 'mon2');
    ip('link', 'set', 'mon2', 'up');
    ip('route', 'add', '198.51.100.0/24', 'via', '192.0.2.254');
    ip('addr', 'del', '192.0.2.1/24', 'dev', 'mon2');
    const { index } = Link.get('mon2');
    ip('link', 'del', 'mon2');
    const list = await told('removed', index);
    expect(list.map(({ kind, address, route }) => [kind, address ?? route?.destination])).toEqual([
      ['added', undefined],
      ['mtu', undefined],
      ['address-added', '192.0.2.1/24'],
      ['up', undefined],
      ['route-added', '192.0.2.0/24'],
      ['route-added', '198.51.100.0/24'],
      ['address-removed', '192.0.2.1/24'],
      ['route-removed', '192.0.2.0/24'],
      // The kernel says nothing of the route that went with the link.
      ['down', undefined],
      ['route-removed', '198.51.100.0/24'],
      ['removed', undefined],
    ]);
  });

  it('carrier, and master of a port that comes and goes', async () => {
    made.push('mon3', 'monbr');
    const bridge = Link.create({ type: 'bridge', name: 'monbr' });
    const link = Link.create({ type: 'veth', name: 'mon3', peer: { name: 'mon4' }, up: true });
    link.setMaster(bridge);
    Link.get('mon4').up();
    await told('carrier', link.index);
    link.setMaster(null);
    const masters = (await told('master', link.index)).filter(({ kind }) => kind === 'master');
    while (masters.length < 2) {
      await once(monitor, 'change');
      masters.splice(
        0,
        2,
        ...changes.filter(({ kind, link: { index } }) => kind === 'master' && index === link.index),
      );
    }
    expect(masters.map(({ before, after }) => [before?.master, after?.master])).toEqual([
      [0, bridge.index],
      [bridge.index, 0],
    ]);
    const carrier = changes.find((change) => change.kind === 'carrier' && change.link.index === link.index);
    expect([carrier?.before?.carrier, carrier?.after?.carrier]).toEqual([false, true]);
    expect(Link.list().map(({ name }) => name)).toContain('mon3'); // no 'removed' of AF_BRIDGE
    expect(kinds(changes)).not.toContain('removed');
  });

  it('moved, with its index there; and added where it comes to', async () => {
    using other = Netns.create();
    using there = Link.monitor({ netns: other });
    const link = single('mon5');
    const { index } = link;
    const arrived = once(there, 'change') as Promise<[LinkChange]>;
    link.moveTo(other);
    const list = await told('moved', index);
    expect(kinds(list)).toEqual(['added', 'moved']);
    expect(list[1]?.indexInNetns).toBe(link.index);
    expect(list[1]?.before?.name).toBe('mon5');
    const [added] = await arrived;
    expect([added.kind, added.link.name, added.link.index]).toEqual(['added', 'mon5', link.index]);
  });

  it('IPv6 addresses and routes', async () => {
    const link = single('mon6');
    link.up();
    link.addAddress('fd00:77::1/64');
    link.addRoute('fd00:78::/64');
    // The kernel tells of an IPv6 address a little later (addrconf_dad_work()), unless it is gone by then.
    await told('address-added', link.index);
    link.removeRoute('fd00:78::/64');
    link.removeAddress('fd00:77::1/64');
    const list = await told('address-removed', link.index);
    const ofRoute = list.filter(({ route }) => route?.destination === 'fd00:78::/64');
    expect(kinds(ofRoute)).toEqual(['route-added', 'route-removed']);
    expect(list.filter(({ address }) => address === 'fd00:77::1/64').length).toBe(2);
  });

  it('routes that the kernel drops without a word when their link goes down', async () => {
    const link = single('mon7');
    link.up();
    link.addAddress('192.0.2.1/24');
    link.addRoute({ destination: '203.0.113.0/24', gateway: '192.0.2.2' });
    await told('route-added', link.index);
    link.down();
    const list = await told('route-removed', link.index);
    expect(
      list
        .filter(({ kind }) => kind === 'route-removed')
        .map(({ route }) => route?.destination)
        .sort(),
    ).toEqual(['192.0.2.0/24', '203.0.113.0/24']);
  });
});

describe('a burst that overflows the socket', () => {
  it('of ten thousand changes ends in the exact state', async () => {
    const link = single('flood0');
    const gone = single('flood1');
    await told('added', gone.index);
    changes.length = 0;
    for (let n = 0; n < BURST; n++) link.mtu = 1000 + (n % 400);
    gone.delete();
    link.rename('flood2');
    made.push('flood2');
    link.addAddress('192.0.2.9/24');
    link.up();
    const late = single('flood3');
    const list = await told('added', late.index).then(() => changes);
    // Lost, not queued: with every message told there would be ten thousand.
    expect(list.filter(({ kind }) => kind === 'mtu').length).toBeLessThan(BURST);
    const of = (index: number) => list.filter((change) => change.link.index === index);
    expect(kinds(of(gone.index))).toEqual(['removed']);
    expect(
      of(link.index)
        .filter(({ kind }) => kind === 'mtu')
        .at(-1)?.after?.mtu,
    ).toBe(1000 + ((BURST - 1) % 400));
    expect(kinds(of(link.index)).filter((kind) => kind !== 'mtu')).toEqual(
      expect.arrayContaining(['renamed', 'up', 'address-added', 'route-added']),
    );
    // And it hears on.
    link.down();
    await told('down', link.index);
  });
});

describe('a namespace', () => {
  it('of others is monitored from here: this thread does not move', async () => {
    using other = Netns.create();
    const before = here();
    using there = Link.monitor({ netns: other });
    expect(here()).toBe(before);
    const change = once(there, 'change') as Promise<[LinkChange]>;
    other.run(() => Link.create({ type: 'bridge', name: 'far0' }));
    const [{ kind, link }] = await change;
    expect([kind, link.name, link.mtu, here()]).toEqual(['added', 'far0', 1500, before]);
    expect(changes).toEqual([]);
  });

  it('has one subscription in a thread, which goes with the last that listens', async () => {
    using other = Netns.create();
    const before = descriptors();
    const first = Link.monitor({ netns: other });
    const one = descriptors();
    expect(one).toBeGreaterThan(before);
    const more = Array.from({ length: 10 }, () => Link.monitor({ netns: `/proc/self/fd/${other.fd}` }));
    // Each of the ten holds the namespace that it opened, and nothing else.
    expect(descriptors()).toBe(one + 10);
    for (const each of [first, ...more]) each.close();
    await new Promise(setImmediate);
    expect(descriptors()).toBe(before + 10);
  });

  it('tells a new monitor only what happens after it was made', async () => {
    const old = single('mon8');
    using late = Link.monitor();
    const heard: string[] = [];
    late.on('change', ({ kind, link }) => heard.push(`${kind} ${link.name}`));
    single('mon9');
    await told('added', old.index);
    while (heard.length === 0) await once(late, 'change');
    expect(heard).toEqual(['added mon9']);
    expect(changes.map(({ kind, after }) => `${kind} ${after?.name}`)).toEqual(['added mon8', 'added mon9']);
  });
});

describe('iteration', () => {
  it('gives what happened since the monitor was made, and ends with it', async () => {
    const mine = Link.monitor();
    const link = single('iter0');
    await told('added', link.index);
    link.up();
    const seen: string[] = [];
    for await (const change of mine) {
      seen.push(`${change.kind} ${change.link.name}`);
      if (change.kind === 'up') setImmediate(() => mine.close());
    }
    expect(seen).toEqual(['added iter0', 'up iter0']);
    expect(mine.closed).toBe(true);
  });

  it('keeps little for a slow reader, who still ends up knowing how things are', async () => {
    using slow = Link.monitor();
    const link = single('slow0');
    const rounds = 40;
    for (let round = 0; round < rounds; round++) {
      // Few enough at a time that the socket loses none.
      for (let n = 0; n < 100; n++) link.mtu = 1000 + round * 10 + (n % 7);
      await new Promise(setImmediate);
      await new Promise(setImmediate);
      await new Promise(setImmediate);
    }
    link.up();
    await told('up', link.index);
    expect(changes.length).toBeGreaterThan(3000);
    const [, queued] = /queued: (\d+)/.exec(inspect(slow)) ?? [];
    expect(Number(queued)).toBeLessThan(1200);
    let mtu: number | undefined;
    let count = 0;
    for await (const change of slow) {
      count++;
      if (change.kind === 'added') mtu = change.after?.mtu;
      if (change.kind === 'mtu') {
        expect(change.before?.mtu).toBe(mtu);
        mtu = change.after?.mtu;
      }
      if (change.kind === 'up') break;
    }
    expect(mtu).toBe(link.mtu);
    expect(count).toBeLessThan(1200);
  });

  it('ends when the signal is aborted, waiting or not', async () => {
    const controller = new AbortController();
    const mine = Link.monitor({ signal: controller.signal });
    const closed = once(mine, 'close');
    setImmediate(() => controller.abort());
    for await (const change of mine) throw new Error(`unexpected ${change.kind}`);
    await closed;
    expect(mine.closed).toBe(true);
    expect(() => Link.monitor({ signal: controller.signal })).toThrow(
      expect.objectContaining({ name: 'AbortError' }),
    );
    mine.close();
    mine.ref().unref();
  });
});

it('refuses options that make no sense, and leaves no descriptor', () => {
  const before = descriptors();
  expect(() => Link.monitor({ names: [] } as never)).toThrow(TypeError);
  expect(() => Link.monitor({ signal: {} } as never)).toThrow(TypeError);
  expect(() => Link.monitor({ netns: {} } as never)).toThrow(TypeError);
  expect(() => Link.monitor({ netns: 'tunsock-test-none' })).toThrow(
    expect.objectContaining({ code: 'ENOENT' }),
  );
  expect(descriptors()).toBe(before);
});

it('a listener that throws is uncaught, and the others hear all', () => {
  const program = `${PRELUDE}
    process.on('uncaughtException', ({ message }) => console.log('uncaught', message));
    const a = Link.monitor().on('change', () => { throw new Error('mine'); });
    const b = Link.monitor().on('change', ({ kind }) => { console.log(kind); a.close(); b.close(); });
    Link.create({ type: 'bridge', name: 'd0' });`;
  expect(run(program).split('\n').sort()).toEqual(['added', 'uncaught mine']);
});

const PRELUDE = `const { Link, Netns, TunSocket } = require(process.argv[1]);
  const { watchLink } = require(process.argv[1] + '/dist/host/link-subscription');
  const { currentPlace } = require(process.argv[1] + '/dist/host/netns-place');
  const descriptors = () => require('fs').readdirSync('/proc/self/fd').length;
  Netns.create().enter();`;
function run(program: string): string {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    ['--expose-gc', '-e', program, process.cwd()],
    { encoding: 'utf8', timeout: 20_000 },
  );
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return stdout.trim();
}

describe('a program', () => {
  it('stays while a monitor is open, and ends after unref()', () => {
    expect(run(`${PRELUDE} Link.monitor().on('change', () => {}).unref(); console.log('end')`)).toBe('end');
    const program = `${PRELUDE} const monitor = Link.monitor();
      setTimeout(() => { console.log('stayed'); monitor.close(); }, 50).unref();`;
    expect(run(program)).toBe('stayed');
  });

  it('ends in a Worker that has an open monitor', () => {
    const program = `${PRELUDE} const { Worker } = require('worker_threads');
      const worker = new Worker("const { Link } = require(process.argv[2]); Link.monitor().on('change', () => {}); require('worker_threads').parentPort.postMessage(1)", { eval: true, argv: [process.argv[1]] });
      worker.once('message', async () => console.log(await worker.terminate()));`;
    expect(run(program)).toBe('1');
  });
});

describe('the watch of one link', () => {
  it('tells of it alone, keeps nothing alive, and ends with its owner', () => {
    const program = `${PRELUDE}
      const before = descriptors();
      const one = Link.create({ type: 'bridge', name: 'one' });
      Link.create({ type: 'bridge', name: 'two' });
      let owner = { linkChanged: ({ kind, link }) => console.log(kind, link.name) };
      watchLink(currentPlace(), one.index, owner);
      console.log(descriptors() > before);
      Link.get('two').up();
      one.up();
      (async () => {
        for (let n = 0; n < 3; n++) await new Promise(setImmediate);
        owner = undefined;
        for (let n = 0; n < 50 && descriptors() > before; n++) { await new Promise(setImmediate); gc(); }
        console.log(descriptors() <= before);
      })();`;
    expect(run(program)).toBe('true\nup one\ntrue');
    const forgotten = `${PRELUDE} globalThis.watcher = { linkChanged() {} };
      watchLink(currentPlace(), 1, watcher); console.log('end');`;
    expect(run(forgotten)).toBe('end');
  });

  it('ends when the link goes, and is not fooled by who has its index then', () => {
    const program = `${PRELUDE}
      const one = Link.create({ type: 'veth', name: 'one', peer: { name: 'two' } });
      const { index } = one;
      const seen = [];
      globalThis.watcher = { linkChanged: ({ kind, indexInNetns }) => seen.push([kind, indexInNetns]) };
      watchLink(currentPlace(), index, watcher);
      const other = Netns.create();
      one.moveTo(other);
      const home = Netns.current();
      // The same index is free here: a stranger takes it.
      const stranger = other.run(() => one);
      stranger.moveTo(home);
      stranger.up();
      setTimeout(() => console.log(JSON.stringify(seen) === JSON.stringify([['moved', index]]), index === stranger.index), 50);`;
    expect(run(program)).toBe('true true');
  });

  it('of a tun device tells of what ip does to it', async () => {
    const tun = TunSocket.open({ name: 'montun' });
    ip('link', 'set', 'montun', 'down');
    const list = await told('down', tun.index);
    expect(kinds(list)).toEqual(expect.arrayContaining(['added', 'up', 'down']));
    tun.close();
    await told('removed');
  });
});
