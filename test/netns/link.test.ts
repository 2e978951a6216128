import { createSocket, type Socket } from 'node:dgram';
import { readdirSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Link, Netns } from '../../dist';

// Each test has a namespace of its own, and does its work there, so there is nothing to take away afterwards.
let ns: Netns;
/** Has the other ends of the pairs. */
let beyond: Netns;
beforeEach(() => {
  ns = Netns.create();
  beyond = Netns.create();
  // No link-local addresses (IN6_ADDR_GEN_MODE_NONE): they and their routes come at a time of their own.
  ns.run(() => writeFileSync('/proc/sys/net/ipv6/conf/default/addr_gen_mode', '1'));
});
afterEach(() => {
  ns.close();
  beyond.close();
});

const inNamespace = (name: string, test: () => void) => it(name, () => ns.run(test));
/** A link that is up, with the same name at its other end. */
function port(name = 'd0'): Link {
  const link = Link.create({ type: 'veth', name, peer: { name, netns: beyond }, up: true });
  beyond.run(() => Link.get(name)).up();
  return link;
}
const failure = (code: string, syscall: string, link: string) =>
  expect.objectContaining({ code, syscall, interface: link });
/** Bound before this returns: dgram opens its descriptor once the address is looked up, and this needs no time for that. */
function socketInThisNamespace(type: 'udp4' | 'udp6', address: string): Socket {
  const family = type === 'udp4' ? 4 : 6;
  const socket = createSocket({ type, lookup: (host, _options, done) => done(null, host, family) });
  return socket.bind(0, address);
}
const descriptors = () => readdirSync('/proc/self/fd').length;

describe('finding links', () => {
  inNamespace('by name, by index and all of them', () => {
    const made = port();
    expect(Link.get('d0').index).toBe(made.index);
    expect(Link.byIndex(made.index).name).toBe('d0');
    expect(Link.list().map((link) => link.name)).toEqual(['lo', 'd0']);
    expect(Link.get('lo')).toMatchObject({ index: 1, type: '', isUp: true, mtu: 65536, master: null });
    expect(made.type).toBe('veth');
  });

  inNamespace('says which one there is not', () => {
    expect(() => Link.get('nope')).toThrow(failure('ENODEV', 'RTM_GETLINK', 'nope'));
    expect(() => Link.byIndex(4711)).toThrow(failure('ENODEV', 'RTM_GETLINK', 'index 4711'));
    expect(() => Link.get('a/b')).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }));
    expect(() => Link.byIndex(0)).toThrow(expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }));
  });

  inNamespace('lists more links than one answer holds', () => {
    const names = Array.from({ length: 60 }, (_, i) => `d${i}`);
    for (const name of names) Link.create({ type: 'bridge', name });
    expect(Link.list().map((link) => link.name)).toEqual(['lo', ...names]);
  });
});

describe('settings', () => {
  inNamespace('are read from the kernel and written to it', () => {
    const link = port();
    link.mtu = 1400;
    link.mac = '02:00:00:00:00:AB';
    link.txQueueLength = 77;
    link.gsoMaxSize = 20_000;
    expect(Link.get('d0')).toMatchObject({
      mtu: 1400,
      mac: '02:00:00:00:00:ab',
      txQueueLength: 77,
      gsoMaxSize: 20_000,
      isUp: true,
    });
    link.down();
    expect(link.isUp).toBe(false);
    expect(link.flags & 1).toBe(0);
    link.up();
    expect(Link.get('d0').isUp).toBe(true);
  });

  inNamespace('that the link does not allow are refused with the reason', () => {
    const link = Link.create({ type: 'veth', name: 'a', peer: { name: 'b' } });
    expect(() => (link.mtu = 70000)).toThrow(failure('EINVAL', 'RTM_SETLINK', 'a'));
    expect(() => (link.mtu = 70000)).toThrow('(mtu greater than device maximum)');
    expect(() => (link.mtu = -1)).toThrow(RangeError);
    // tso_max_size of a bridge; of veth it is more.
    const bridge = Link.create({ type: 'bridge', name: 'c' });
    expect(() => (bridge.gsoMaxSize = 524_280)).toThrow(failure('EINVAL', 'RTM_SETLINK', 'c'));
    for (const size of [1023, 524_281]) expect(() => (link.gsoMaxSize = size)).toThrow(RangeError);
    expect([link.gsoMaxSize, bridge.gsoMaxSize]).toEqual([65_536, 65_536]);
    expect(() => (link.mac = '01:00:00:00:00:01')).toThrow(TypeError);
  });

  inNamespace('a link keeps its identity under another name', () => {
    const link = port();
    const same = Link.get('d0');
    link.down();
    link.rename('d1');
    expect(link.name).toBe('d1');
    expect(same.name).toBe('d1');
    expect(() => Link.get('d0')).toThrow(failure('ENODEV', 'RTM_GETLINK', 'd0'));
    expect(() => link.rename('lo')).toThrow(failure('EEXIST', 'RTM_SETLINK', 'd1'));
  });

  inNamespace('a link that is gone says so, by its last name', () => {
    const link = port();
    link.delete();
    expect(link.name).toBe('d0');
    expect(() => link.mtu).toThrow(failure('ENODEV', 'RTM_GETLINK', 'd0'));
    expect(() => link.up()).toThrow(failure('ENODEV', 'RTM_SETLINK', 'd0'));
    expect(() => link.delete()).toThrow(failure('ENODEV', 'RTM_DELLINK', 'd0'));
  });
});

describe('addresses', () => {
  inNamespace('of both families come, are listed and go', () => {
    const link = port();
    expect(link.addresses()).toEqual([]);
    for (const address of ['10.0.0.1/24', '10.0.0.2/24', '192.0.2.1/32', 'fd00::1/64'])
      link.addAddress(address);
    expect(new Set(link.addresses())).toEqual(
      new Set(['10.0.0.1/24', '10.0.0.2/24', '192.0.2.1/32', 'fd00::1/64']),
    );
    expect(Link.get('lo').addresses()).toEqual(['127.0.0.1/8', '::1/128']);
    link.removeAddress('fd00::1/64');
    link.removeAddress('192.0.2.1/32');
    expect(new Set(link.addresses())).toEqual(new Set(['10.0.0.1/24', '10.0.0.2/24']));
  });

  inNamespace('of IPv6 can be bound to in the same tick', () => {
    port().addAddress('fd00::1/64');
    const socket = socketInThisNamespace('udp6', 'fd00::1');
    expect(socket.address().address).toBe('fd00::1');
    socket.close();
  });

  inNamespace('of loopback join those that the kernel gave it', () => {
    const lo = Link.get('lo');
    lo.addAddress('127.0.0.2/8');
    expect(lo.addresses()).toContain('127.0.0.2/8');
    lo.removeAddress('127.0.0.2/8');
    expect(lo.addresses()).toEqual(['127.0.0.1/8', '::1/128']);
  });

  inNamespace('that are there twice or not at all are errors', () => {
    const link = port();
    link.addAddress('10.0.0.1/24');
    expect(() => link.addAddress('10.0.0.1/24')).toThrow(failure('EEXIST', 'RTM_NEWADDR', 'd0'));
    expect(() => link.removeAddress('10.0.0.9/24')).toThrow(failure('EADDRNOTAVAIL', 'RTM_DELADDR', 'd0'));
    expect(() => link.addAddress('10.0.0.1')).toThrow('the length of its prefix');
    expect(() => link.addAddress('10.0.0.1/33')).toThrow(RangeError);
    expect(link.addresses().filter((address) => address.startsWith('10.'))).toEqual(['10.0.0.1/24']);
  });
});

describe('routes', () => {
  inNamespace('come with all that they have, and go back into removeRoute', () => {
    const link = port();
    link.addAddress('10.0.0.1/24');
    link.addAddress('fd00::1/64');
    const connected = link.routes();
    expect(connected).toContainEqual({ destination: '10.0.0.0/24', source: '10.0.0.1' });
    expect(connected).toContainEqual({ destination: 'fd00::/64', metric: 256 });

    const added = [
      { destination: '10.1.0.0/16' },
      { destination: '10.2.0.0/16', gateway: '10.0.0.2', metric: 7 },
      { destination: '10.3.0.0/16', source: '10.0.0.1' },
      { destination: '0.0.0.0/0', gateway: '10.0.0.2' },
      { destination: 'fd01::/48', gateway: 'fd00::2', metric: 1024 },
      { destination: 'fd02::/48', source: 'fd00::1', metric: 9 },
      { destination: '::/0', gateway: 'fd00::2', metric: 1024 },
    ];
    link.addRoute('10.1.0.0/16');
    link.addRoute({ destination: 'default', gateway: '10.0.0.2' });
    link.addRoute({ destination: 'default', gateway: 'fd00::2' });
    for (const route of added)
      if (!['10.1.0.0/16', '0.0.0.0/0', '::/0'].includes(route.destination)) link.addRoute(route);

    const all = link.routes();
    for (const route of added) expect(all).toContainEqual(route);
    expect(all).toHaveLength(connected.length + added.length);
    // Those through a gateway first: the others are the way to it.
    for (const route of all.sort(
      (a, b) => Number(b.gateway !== undefined) - Number(a.gateway !== undefined),
    )) {
      link.removeRoute(route);
    }
    expect(link.routes()).toEqual([]);
    expect(Link.get('lo').routes()).toEqual([]);
  });

  inNamespace('that the kernel refuses say why', () => {
    const link = port();
    link.addRoute('10.1.0.0/16');
    expect(() => link.addRoute('10.1.0.0/16')).toThrow(failure('EEXIST', 'RTM_NEWROUTE', 'd0'));
    expect(() => link.removeRoute('10.9.0.0/16')).toThrow(failure('ESRCH', 'RTM_DELROUTE', 'd0'));
    expect(() => link.addRoute('10.1.2.3/16')).toThrow('Invalid prefix for given prefix length');
    expect(() => link.addRoute({ destination: '10.2.0.0/16', gateway: '203.0.113.1' })).toThrow(
      failure('ENETUNREACH', 'RTM_NEWROUTE', 'd0'),
    );
    link.down();
    expect(() => link.addRoute('10.2.0.0/16')).toThrow(failure('ENETDOWN', 'RTM_NEWROUTE', 'd0'));
    expect(link.routes()).toEqual([]);
  });
});

describe('neighbours', () => {
  inNamespace('are added, replaced, listed and removed', () => {
    const link = Link.create({ type: 'veth', name: 'a', peer: { name: 'b' }, up: true });
    link.addNeighbour('10.0.0.2', '02:00:00:00:00:02');
    link.addNeighbour('fd00::2', '02:00:00:00:00:03');
    link.addNeighbour('10.0.0.2', '02:00:00:00:00:04');
    const permanent = link.neighbours().filter(({ state }) => state === 'permanent');
    expect(permanent).toHaveLength(2);
    expect(permanent).toContainEqual({ address: '10.0.0.2', mac: '02:00:00:00:00:04', state: 'permanent' });
    expect(permanent).toContainEqual({ address: 'fd00::2', mac: '02:00:00:00:00:03', state: 'permanent' });
    link.removeNeighbour('10.0.0.2');
    expect(link.neighbours().map(({ address }) => address)).not.toContain('10.0.0.2');
    expect(() => link.removeNeighbour('10.0.0.9')).toThrow(failure('ENOENT', 'RTM_DELNEIGH', 'a'));
    expect(() => link.addNeighbour('10.0.0.2/24', '02:00:00:00:00:02')).toThrow(TypeError);
  });
});

describe('making links', () => {
  inNamespace('a veth pair, its peer in another namespace', () => {
    using other = Netns.create();
    const near = Link.create({
      type: 'veth',
      name: 'near',
      peer: { name: 'far', netns: other },
      mtu: 1300,
      mac: '02:00:00:00:00:01',
      up: true,
      address: ['10.0.0.1/24', 'fd00::1/64'],
    });
    const far = other.run(() => Link.get('far'));
    expect(near).toMatchObject({ type: 'veth', mtu: 1300, mac: '02:00:00:00:00:01', isUp: true });
    expect(near.addresses()).toEqual(expect.arrayContaining(['10.0.0.1/24', 'fd00::1/64']));
    expect(far).toMatchObject({ name: 'far', mtu: 1300, isUp: false });
    expect(() => Link.get('far')).toThrow(failure('ENODEV', 'RTM_GETLINK', 'far'));
    near.delete();
    expect(() => far.mtu).toThrow(failure('ENODEV', 'RTM_GETLINK', 'far'));
  });

  inNamespace('a bridge with ports', () => {
    const bridge = Link.create({ type: 'bridge', name: 'br0', up: true });
    const link = port();
    link.setMaster(bridge);
    expect(link.master?.name).toBe('br0');
    link.setMaster(null);
    expect(link.master).toBeNull();
    const second = Link.create({ type: 'bridge', name: 'br1' });
    expect(() => second.setMaster(bridge)).toThrow(failure('ELOOP', 'RTM_SETLINK', 'br1'));
    using other = Netns.create();
    const foreign = other.run(() => Link.create({ type: 'bridge', name: 'br0' }));
    expect(() => link.setMaster(foreign)).toThrow('master must be a Link of the same network namespace');
  });

  it.each([
    ['dummy', 'dummy'],
    ['vlan', '8021q'],
  ] as const)('a %s; a kernel that has none says what it lacks', (type, module) =>
    ns.run(() => {
      const common = { name: 'made', up: true };
      const options = type === 'vlan' ? { ...common, type, link: port(), id: 7 } : { ...common, type };
      let made: Link | undefined;
      try {
        made = Link.create(options);
      } catch (error) {
        expect(error).toMatchObject({ code: 'EOPNOTSUPP', syscall: 'RTM_NEWLINK', interface: 'made' });
        expect((error as Error).message).toContain(`modprobe ${module}`);
      }
      expect(Link.list().some(({ name }) => name === 'made')).toBe(made !== undefined);
      if (made !== undefined) expect(made).toMatchObject({ type, isUp: true });
    }),
  );

  inNamespace('a vlan needs its link and its id', () => {
    const parent = port();
    expect(() => Link.create({ type: 'vlan', name: 'v', link: 'nope', id: 7 })).toThrow(
      failure('ENODEV', 'RTM_GETLINK', 'nope'),
    );
    expect(() => Link.create({ type: 'vlan', name: 'v', link: parent, id: 4095 })).toThrow(RangeError);
    expect(() => Link.create({ type: 'vlan', name: 'v', id: 1 } as never)).toThrow(TypeError);
  });

  inNamespace('leaves nothing behind when any of it fails', () => {
    const before = descriptors();
    port();
    expect(port).toThrow(failure('EEXIST', 'RTM_NEWLINK', 'd0'));
    expect(() =>
      Link.create({ type: 'bridge', name: 'd1', address: ['10.0.0.1/24', '10.0.0.1/24'] }),
    ).toThrow(failure('EEXIST', 'RTM_NEWADDR', 'd1'));
    const bad: unknown[] = [
      { type: 'dummy', name: 'd1', address: '10.0.0.1' },
      { type: 'dummy', name: 'd1', mac: 'x' },
      { type: 'dummy', name: 'd1', peer: { name: 'x' } },
      { type: 'dummy', name: 'd1', mtu: '1500' },
      { type: 'dummy' },
      { type: 'bond', name: 'd1' },
      { type: 'veth', name: 'd1' },
      { type: 'veth', name: 'd1', peer: { name: 'd2', netns: 3 } },
    ];
    for (const options of bad) expect(() => Link.create(options as never)).toThrow(TypeError);
    expect(Link.list().map(({ name }) => name)).toEqual(['lo', 'd0']);
    expect(descriptors()).toBe(before);
  });
});

describe('namespaces', () => {
  it('a link works on the one that it was got in, wherever the thread is', () => {
    using other = Netns.create();
    const link = ns.run(() => port());
    other.run(() => Link.create({ type: 'bridge', name: 'd0' }).addAddress('10.9.0.1/24'));
    link.addAddress('10.0.0.1/24');
    other.run(() => {
      link.addAddress('10.0.0.2/24');
      expect(link.addresses()).toEqual(expect.arrayContaining(['10.0.0.1/24', '10.0.0.2/24']));
    });
    const lo = Link.get('lo');
    const { mtu } = lo;
    ns.run(() => {
      Link.get('lo').mtu = 1280;
      expect(lo.mtu).toBe(mtu);
    });
    ns.close();
    expect(() => link.mtu).toThrow(expect.objectContaining({ code: 'ERR_SOCKET_CLOSED' }));
  });

  inNamespace('a link can move, and the object with it', () => {
    using other = Netns.create();
    other.run(() => Link.create({ type: 'bridge', name: 'br0' }));
    const link = port();
    link.addAddress('10.0.0.1/24');
    link.moveTo(other);
    expect(Link.list().map(({ name }) => name)).toEqual(['lo']);
    expect(link).toMatchObject({ name: 'd0', isUp: false });
    expect(link.addresses()).toEqual([]);
    expect(other.run(() => Link.get('d0').index)).toBe(link.index);
    const second = Link.create({ type: 'veth', name: 'd0', peer: { name: 'd1' } });
    expect(() => second.moveTo(other)).toThrow(failure('EEXIST', 'RTM_SETLINK', 'd0'));
    expect(() => second.moveTo({} as never)).toThrow(TypeError);
  });
});

it('counts what went through', async () => {
  const lo = ns.run(() => Link.get('lo'));
  const socket = ns.run(() => socketInThisNamespace('udp4', '127.0.0.1'));
  await new Promise<void>((resolve) => {
    socket.once('message', () => resolve());
    socket.send(Buffer.alloc(100), socket.address().port, '127.0.0.1');
  });
  socket.close();
  expect(lo.counters()).toEqual({
    ...{ rxPackets: 1, rxBytes: 128, rxErrors: 0, rxDropped: 0 },
    ...{ txPackets: 1, txBytes: 128, txErrors: 0, txDropped: 0 },
    ...{ multicast: 0, collisions: 0 },
  });
});

it('holds no descriptor', () => {
  const before = descriptors();
  const links = ns.run(() => Array.from({ length: 20 }, () => Link.get('lo')));
  for (const link of links) link.addresses();
  expect(descriptors()).toBe(before);
});
