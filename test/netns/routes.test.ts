import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { describe, expect } from 'vitest';
import { Link, type Route, TunSocket } from '../../dist';
import { EMULATED } from '../helpers/kernel';
import { ip, ownNamespaces, refusal } from '../helpers/namespaces';
import { program } from '../helpers/optional';

const { inNamespace, port } = ownNamespaces();
const failure = (...parts: Parameters<typeof refusal>) => expect.objectContaining(refusal(...parts));

function routed(): Link {
  const link = port();
  link.addAddress('10.0.0.1/24');
  link.addAddress('fd00::1/64');
  return link;
}

describe('routes', () => {
  inNamespace('are listed as they were set, are what the kernel has, and go back into removeRoute', () => {
    const link = routed();
    const before = link.routes();
    const added: [Route, string][] = [
      [{ destination: '10.5.0.0/16', gateway: 'fd00::2' }, '10.5.0.0/16 via inet6 fd00::2 dev d0'],
      [
        { destination: '10.7.0.0/16', gateway: '192.0.2.1', onlink: true },
        '10.7.0.0/16 via 192.0.2.1 dev d0',
      ],
      [{ destination: '10.8.0.0/16', scope: 'host' }, '10.8.0.0/16 dev d0 proto static scope host'],
      [{ destination: '10.10.0.0/16', tos: 16 }, '10.10.0.0/16 tos 0x10 dev d0'],
      [{ destination: '10.11.0.0/16', mtu: 1400, metric: 5, source: '10.0.0.1' }, 'metric 5 mtu 1400'],
      [{ destination: '10.12.0.0/16', table: 51820 }, '10.12.0.0/16 dev d0 table 51820'],
      [
        { destination: 'fd07::/48', gateway: 'fd99::1', onlink: true, metric: 1024 },
        'fd07::/48 via fd99::1 dev d0',
      ],
      [{ destination: 'fd0a::/48', from: 'fd0b::/48', metric: 9 }, 'fd0a::/48 from fd0b::/48 dev d0'],
      [{ destination: 'fd0c::/48', mtu: 1300, table: 300, metric: 2 }, 'fd0c::/48 dev d0 table 300'],
      ...(['blackhole', 'unreachable', 'prohibit', 'throw'] as const).flatMap(
        (type, i): [Route, string][] => [
          [{ destination: `10.2${i}.0.0/16`, type }, `${type} 10.2${i}.0.0/16`],
          [{ destination: `fd2${i}::/48`, type, metric: 1024 }, `${type} fd2${i}::/48`],
        ],
      ),
    ];
    for (const [route] of added) link.addRoute(route);
    const shown = ip('route', 'show', 'table', 'all') + ip('-6', 'route', 'show', 'table', 'all');
    const listed = link.routes();
    for (const [route, text] of added) {
      expect(listed).toContainEqual(route);
      expect(shown).toContain(text);
    }
    expect(listed).toHaveLength(before.length + added.length);
    expect(link.routes({ table: 51820 })).toEqual([{ destination: '10.12.0.0/16', table: 51820 }]);
    expect(link.routes({ table: 4711 })).toEqual([]);
    for (const [route] of added) link.removeRoute(route);
    expect(link.routes()).toEqual(before);
  });

  inNamespace('of several ways', () => {
    const link = routed();
    const other = port('d1');
    other.addAddress('10.1.0.1/24');
    const multipath = [
      { gateway: '10.0.0.2', interface: 'd0', weight: 3 },
      { gateway: '10.1.0.2', interface: 'd1', weight: 1 },
      { gateway: 'fd00::9', interface: 'd0', weight: 256 },
    ];
    link.addRoute({ destination: '10.6.0.0/16', multipath });
    link.addRoute({
      destination: 'fd06::/48',
      multipath: [{ gateway: 'fd00::2' }, { gateway: 'fd00::3', weight: 2 }],
    });
    expect(link.routes()).toContainEqual({ destination: '10.6.0.0/16', multipath });
    expect(other.routes()).toContainEqual({ destination: '10.6.0.0/16', multipath });
    expect(link.routes().find(({ destination }) => destination === 'fd06::/48')?.multipath).toEqual([
      { gateway: 'fd00::2', interface: 'd0', weight: 1 },
      { gateway: 'fd00::3', interface: 'd0', weight: 2 },
    ]);
    expect(ip('route')).toContain('nexthop via inet6 fd00::9 dev d0 weight 256');
    expect(() => link.removeRoute({ destination: '10.6.0.0/16', multipath: multipath.slice(1) })).toThrow(
      failure('ESRCH', 'RTM_DELROUTE', 'd0'),
    );
    link.removeRoute({ destination: '10.6.0.0/16', multipath });
    link.removeRoute('fd06::/48');
    expect(ip('route') + ip('-6', 'route')).not.toContain('nexthop');
  });

  inNamespace('with nexthop objects, which the kernel names or does not', () => {
    const link = routed();
    ip('nexthop', 'add', 'id', '7', 'via', '10.0.0.3', 'dev', 'd0');
    ip('nexthop', 'add', 'id', '8', 'via', 'fd00::3', 'dev', 'd0');
    ip('nexthop', 'add', 'id', '9', 'group', '7,2/8');
    ip('route', 'add', '10.11.0.0/16', 'nhid', '7');
    ip('route', 'add', '10.12.0.0/16', 'nhid', '9');
    ip('-6', 'route', 'add', 'fd0c::/48', 'nhid', '8');
    const expected = [
      { destination: '10.11.0.0/16', gateway: '10.0.0.3' },
      {
        destination: '10.12.0.0/16',
        multipath: [
          { gateway: '10.0.0.3', interface: 'd0', weight: 2 },
          { gateway: 'fd00::3', interface: 'd0', weight: 1 },
        ],
      },
      { destination: 'fd0c::/48', gateway: 'fd00::3', metric: 1024 },
    ];
    for (const named of ['1', '0']) {
      writeFileSync('/proc/sys/net/ipv4/nexthop_compat_mode', named);
      for (const route of expected) expect(link.routes()).toContainEqual(route);
    }
    for (const route of expected) link.removeRoute(route);
    expect(ip('route') + ip('-6', 'route')).not.toContain('nhid');
  });

  inNamespace('are removed by all that is given, and no other is', () => {
    const link = routed();
    link.addAddress('fd00::5/64');
    const near = { destination: 'fd70::/64', source: 'fd00::1', metric: 10 };
    const far = { destination: 'fd70::/64', source: 'fd00::5', metric: 20 };
    link.addRoute(near);
    link.addRoute(far);
    const ours = () => link.routes().filter(({ destination }) => destination === 'fd70::/64');
    expect(() => link.removeRoute({ destination: 'fd70::/64', source: 'fd00::9' })).toThrow(
      failure('ESRCH', 'RTM_DELROUTE', 'd0'),
    );
    expect(() => link.removeRoute({ ...near, source: far.source })).toThrow(
      failure('ESRCH', 'RTM_DELROUTE', 'd0'),
    );
    expect(ours()).toEqual([near, far]);
    link.removeRoute({ destination: 'FD70:0::/64', source: 'fd00:0::5' });
    expect(ours()).toEqual([near]);
    expect(() => link.removeRoute({ destination: 'fd70::/64', table: 7 })).toThrow(
      failure('ESRCH', 'RTM_DELROUTE', 'd0'),
    );
    expect(() => link.removeRoute({ destination: 'fd70::/64', type: 'blackhole' })).toThrow(
      failure('ESRCH', 'RTM_DELROUTE', 'd0'),
    );
    expect(ours()).toEqual([near]);
  });

  inNamespace('are replaced', () => {
    const link = routed();
    link.replaceRoute({ destination: '10.5.0.0/16', gateway: '10.0.0.2' });
    link.replaceRoute({ destination: '10.5.0.0/16', gateway: '10.0.0.3', mtu: 1300 });
    link.replaceRoute({ destination: 'fd05::/48', gateway: 'fd00::2', metric: 7 });
    link.replaceRoute({ destination: 'fd05::/48', gateway: 'fd00::3', metric: 7 });
    const ours = link.routes().filter(({ gateway }) => gateway !== undefined);
    expect(ours).toEqual([
      { destination: '10.5.0.0/16', gateway: '10.0.0.3', mtu: 1300 },
      { destination: 'fd05::/48', gateway: 'fd00::3', metric: 7 },
    ]);
  });

  inNamespace('that make no sense are refused before the kernel sees them', () => {
    const link = routed();
    const bad: object[] = [
      { destination: '10.5.0.0/16', type: 'blackhole', gateway: '10.0.0.2' },
      { destination: '10.5.0.0/16', type: 'nat' },
      { destination: '10.5.0.0/16', multipath: [] },
      { destination: '10.5.0.0/16', multipath: [{ gateway: '10.0.0.2' }], gateway: '10.0.0.2' },
      { destination: 'fd05::/48', gateway: '10.0.0.2' },
      { destination: '10.5.0.0/16', from: '10.0.0.0/8' },
      { destination: '10.5.0.0/16', scope: 'far' },
      { destination: '10.5.0.0/16', table: 'mine' },
      { destination: '10.5.0.0/16', multipath: [{ gateway: '10.0.0.2', via: 'd0' }] },
    ];
    for (const route of bad)
      expect(() => link.addRoute(route as Route), JSON.stringify(route)).toThrow(TypeError);
    for (const route of [
      { destination: '10.5.0.0/16', table: 0 },
      { destination: '10.5.0.0/16', mtu: 0 },
      { destination: '10.5.0.0/16', multipath: [{ gateway: '10.0.0.2', weight: 257 }] },
    ])
      expect(() => link.addRoute(route), JSON.stringify(route)).toThrow(RangeError);
    expect(() => link.addRoute({ destination: '10.5.0.0/16', gateway: '203.0.113.1' })).toThrow(
      'onlink: true',
    );
    expect(() =>
      link.addRoute({ destination: '10.5.0.0/16', multipath: [{ gateway: '10.0.0.2', interface: 'nope' }] }),
    ).toThrow(failure('ENODEV', 'RTM_GETLINK', 'nope'));
  });

  inNamespace(
    'a hundred thousand of them are listed, those that were added, within bounds of memory',
    () => {
      const link = routed();
      const count = EMULATED ? 10_000 : 100_000;
      const batch = Array.from({ length: count }, (_, i) => `11.${i >> 16}.${(i >> 8) & 255}.${i & 255}/32`);
      const commands = batch.map((destination) => `route add ${destination} dev d0 table 77\n`);
      execFileSync(program('ip'), ['-batch', '-'], { input: commands.join('') });
      const before = process.memoryUsage().rss;
      const listed = link.routes({ table: 77 });
      expect(process.memoryUsage().rss - before).toBeLessThan(250e6);
      expect(listed).toHaveLength(batch.length);
      const wanted = new Set(batch);
      expect(listed.every(({ destination, table }) => table === 77 && wanted.delete(destination))).toBe(true);
      expect(wanted.size).toBe(0);
    },
    300_000,
  );
});

describe('what is configured already is left alone', () => {
  inNamespace('in whatever spelling, on a persistent device and on a second queue', () => {
    const options = {
      name: 'p0',
      persist: true,
      multiQueue: true,
      address: ['10.8.0.1/024', 'fd00:5:0:0::1/64', 'FD00:6::1/64', 'fd00:7::1.2.3.4/64'],
      routes: [
        '10.9.0.0/16',
        { destination: 'FD01::/48', metric: 7 },
        { destination: 'fd02::/48', gateway: 'FD00:5::2' },
        { destination: '10.10.0.0/16', type: 'blackhole' as const },
      ],
      addressGeneration: 'none' as const,
    };
    const first = TunSocket.open(options);
    const configured = [first.link.addresses(), first.link.routes()];
    expect(first.link.addressGeneration).toBe('none');
    TunSocket.open(options).close();
    first.close();
    const again = TunSocket.open(options);
    expect([again.link.addresses(), again.link.routes()]).toEqual(configured);
    expect(again.link.addresses().sort()).toEqual(
      ['10.8.0.1/24', 'fd00:5::1/64', 'fd00:6::1/64', 'fd00:7::102:304/64'].sort(),
    );
    // Another route to the same place is not the same.
    expect(() =>
      TunSocket.open({ ...options, routes: { destination: '10.9.0.0/16', gateway: '10.8.0.2' } }),
    ).toThrow(failure('EEXIST', 'RTM_NEWROUTE', 'p0'));
    again.close();
    expect(Link.get('p0').addresses()).toEqual(configured[0]);
  });
});
