import { execFileSync, spawnSync } from 'node:child_process';
import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { Link, type LinkOptions, TunSocket } from '../../dist';
import { EMULATED } from '../helpers/kernel';
import { ip, ownNamespaces, refusal } from '../helpers/namespaces';
import { deviceFile, program } from '../helpers/optional';

const namespaces = ownNamespaces();
const { inNamespace, port } = namespaces;
const failure = (...parts: Parameters<typeof refusal>) => expect.objectContaining(refusal(...parts));

describe('kinds of link', () => {
  const kinds: [LinkOptions, string][] = [
    [{ type: 'macvlan', name: 'made', link: 'd0', mode: 'bridge' }, 'macvlan mode bridge'],
    [{ type: 'macvtap', name: 'made', link: 'd0', mode: 'private' }, 'macvtap mode private'],
    [{ type: 'ipvlan', name: 'made', link: 'd0', mode: 'l2' }, 'ipvlan  mode l2'],
    [{ type: 'ipvtap', name: 'made', link: 'd0', mode: 'l3' }, 'ipvtap  mode l3'],
    [
      { type: 'vxlan', name: 'made', id: 5, local: '10.0.0.1', remote: '10.0.0.2', port: 4790, ttl: 7 },
      'vxlan id 5 remote 10.0.0.2 local 10.0.0.1 srcport 0 0 dstport 4790 ttl 7',
    ],
    [
      { type: 'vxlan', name: 'made', id: 16777215, link: 'd0', remote: 'ff05::1' },
      'vxlan id 16777215 group ff05::1 dev d0 srcport 0 0 dstport 4789',
    ],
    [{ type: 'ifb', name: 'made' }, 'ifb'],
    [{ type: 'vrf', name: 'made', table: 51820 }, 'vrf table 51820'],
    [{ type: 'wireguard', name: 'made' }, 'wireguard'],
    [
      { type: 'gre', name: 'made', local: '10.0.0.1', remote: '10.0.0.2', id: 4, ttl: 9 },
      'gre remote 10.0.0.2 local 10.0.0.1 ttl 9',
    ],
    [{ type: 'sit', name: 'made', local: '10.0.0.1', remote: '10.0.0.2' }, 'sit'],
    [{ type: 'dummy', name: 'made' }, 'dummy'],
    [{ type: 'bridge', name: 'made' }, 'bridge'],
    [{ type: 'vlan', name: 'made', link: 'd0', id: 4094 }, 'vlan protocol 802.1Q id 4094'],
  ];
  it.each(kinds)('%j, or the name of what the kernel lacks', (options, shown) =>
    namespaces.current().run(() => {
      port();
      const { type } = options;
      let made: Link | undefined;
      try {
        made = Link.create(options);
      } catch (error) {
        expect(EMULATED, 'a guest has them all').toBe(false);
        expect(error).toMatchObject({ code: 'EOPNOTSUPP', syscall: 'RTM_NEWLINK', interface: 'made' });
        expect((error as Error).message).toContain(
          `the kernel can't make ${type} links: load its module with modprobe `,
        );
      }
      expect(Link.list().some(({ name }) => name === 'made')).toBe(made !== undefined);
      if (made === undefined) return;
      expect(made.type).toBe(type);
      expect(ip('-d', 'link', 'show', 'made')).toContain(shown);
      expect(made.device).toBe(type === 'macvtap' || type === 'ipvtap' ? `/dev/tap${made.index}` : undefined);
    }),
  );

  inNamespace('a macvtap is a device that TunSocket opens by its character device', () => {
    // Character devices are the whole host's, by the index alone: one that no other namespace has.
    for (let index = 0; index < 60; index++) Link.create({ type: 'bridge', name: `other${index}` });
    const link = Link.create({ type: 'macvtap', name: 'tap', link: port(), mode: 'bridge', up: true });
    const tap = TunSocket.open({ mode: 'tap', name: link.name, device: deviceFile(link.device as string) });
    expect(tap).toMatchObject({ name: 'tap', index: link.index });
    tap.close();
  });

  inNamespace('what one type has is refused for another', () => {
    port();
    const bad: object[] = [
      { type: 'macvlan', name: 'made' },
      { type: 'macvlan', name: 'made', link: 'd0', mode: 'l2' },
      { type: 'ipvlan', name: 'made', link: 'd0', mode: 'bridge' },
      { type: 'vxlan', name: 'made', id: 5, local: '10.0.0.1', remote: 'fd00::1' },
      { type: 'gre', name: 'made', remote: 'fd00::1' },
      { type: 'sit', name: 'made', id: 5 },
      { type: 'vrf', name: 'made' },
      { type: 'ifb', name: 'made', link: 'd0' },
    ];
    for (const options of bad)
      expect(() => Link.create(options as LinkOptions), JSON.stringify(options)).toThrow(TypeError);
    expect(() => Link.create({ type: 'vxlan', name: 'made', id: 2 ** 24 })).toThrow(RangeError);
    expect(() => Link.create({ type: 'macvlan', name: 'made', link: 'nope' })).toThrow(
      failure('ENODEV', 'RTM_GETLINK', 'nope'),
    );
  });

  it('a veth whose address is refused leaves nothing behind, also where no further descriptor can be had', () => {
    const script = `
      const { Link, Netns } = require(${JSON.stringify(require.resolve('../../dist'))});
      const fs = require('node:fs');
      Netns.create().enter();
      Link.list();
      const taken = [];
      // One descriptor is left for the socket of the request.
      try { for (;;) taken.push(fs.openSync('/dev/null')); } catch {}
      fs.closeSync(taken.pop());
      let code;
      try { Link.create({ type: 'veth', name: 'a', peer: { name: 'b' }, address: ['10.0.0.1/24', '10.0.0.1/24'] }); } catch (error) { code = error.code; }
      for (const fd of taken) fs.closeSync(fd);
      console.log(code, Link.list().map(({ name }) => name).join());`;
    const { stdout, stderr } = spawnSync(
      '/bin/sh',
      ['-c', 'ulimit -n 100; exec "$0" -e "$1"', process.execPath, script],
      { encoding: 'utf8' },
    );
    expect(stderr).toBe('');
    expect(stdout).toBe('EEXIST lo\n');
  });
});

describe('names', () => {
  inNamespace('of up to 127 bytes are names for Link.get', () => {
    const link = port();
    const long = 'x'.repeat(127);
    link.addAlternativeName(long);
    ip('link', 'property', 'add', 'dev', 'd0', 'altname', 'short');
    for (const name of [long, 'short']) expect(Link.get(name).index).toBe(link.index);
    expect(link.alternativeNames.sort()).toEqual(['short', long]);
    expect(() => link.addAlternativeName('short')).toThrow(failure('EEXIST', 'RTM_NEWLINKPROP', 'd0'));
    link.removeAlternativeName(long);
    expect(() => Link.get(long)).toThrow(failure('ENODEV', 'RTM_GETLINK', long));
    expect(() => Link.get('x'.repeat(128))).toThrow(RangeError);
  });
});

describe('impairment', () => {
  inNamespace('is what netem does, or refused where the kernel has none', () => {
    const link = port();
    link.setImpairment(null);
    link.setImpairment({});
    const impairment = {
      delayMs: 100,
      jitterMs: 10,
      lossPercent: 1,
      duplicatePercent: 2,
      reorderPercent: 25,
      rateBitsPerSecond: 1e6,
    };
    let refused: Error | undefined;
    try {
      link.setImpairment(impairment);
    } catch (error) {
      refused = error as Error;
    }
    if (refused !== undefined) {
      expect(EMULATED, 'a guest has it').toBe(false);
      expect(refused).toMatchObject(refusal('ENOENT', 'RTM_NEWQDISC', 'd0'));
      expect(refused.message).toContain('modprobe sch_netem');
      return;
    }
    const shown = () => execFileSync(program('tc'), ['qdisc', 'show', 'dev', 'd0'], { encoding: 'utf8' });
    expect(shown()).toMatch(/netem .* delay 100ms +10ms loss 1% duplicate 2% reorder 25% .*rate 1Mbit/);
    link.setImpairment({ delayMs: 5 });
    expect(shown()).toMatch(/netem .* delay 5ms/);
    expect(shown()).not.toMatch(/loss|rate|reorder/);
    link.setImpairment(null);
    expect(shown()).not.toContain('netem');
  });

  inNamespace('leaves a discipline alone that somebody else chose', () => {
    const link = port();
    const tc = (...words: string[]) => execFileSync(program('tc'), words, { encoding: 'utf8' });
    tc(
      'qdisc',
      'add',
      'dev',
      'd0',
      'root',
      'handle',
      '1:',
      'tbf',
      'rate',
      '1mbit',
      'burst',
      '10k',
      'latency',
      '10ms',
    );
    link.setImpairment(null);
    expect(() => link.setImpairment({ delayMs: 1 })).toThrow(
      expect.objectContaining({ syscall: 'RTM_NEWQDISC' }),
    );
    expect(tc('qdisc', 'show', 'dev', 'd0')).toContain('tbf 1: root');
  });

  inNamespace('that makes no sense is refused before the kernel sees it', () => {
    const link = port();
    for (const bad of [
      { delayMs: 1, jitterMs: 2 },
      { reorderPercent: 5 },
      { loss: 5 },
      { lossPercent: '5' },
      5,
    ])
      expect(() => link.setImpairment(bad as never), JSON.stringify(bad)).toThrow(TypeError);
    for (const bad of [
      { lossPercent: 101 },
      { delayMs: -1 },
      { delayMs: Number.NaN },
      { rateBitsPerSecond: 7 },
    ])
      expect(() => link.setImpairment(bad), JSON.stringify(bad)).toThrow(RangeError);
  });
});

inNamespace('console.log shows what a link is, also when it is gone', () => {
  const link = port();
  link.mac = '02:00:00:00:00:01';
  const flat = { breakLength: 200 };
  expect(inspect(link, flat)).toBe(
    `Link { name: 'd0', index: ${link.index}, type: 'veth', isUp: true, mtu: 1500, mac: '02:00:00:00:00:01' }`,
  );
  link.delete();
  expect(inspect(link, flat)).toBe(`Link { name: 'd0', index: ${link.index}, gone: true }`);
});
