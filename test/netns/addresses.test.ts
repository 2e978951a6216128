import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { type AddressOptions, Link } from '../../dist';
import { ip, ownNamespaces, refusal } from '../helpers/namespaces';

const namespaces = ownNamespaces();
const { inNamespace, port } = namespaces;
const failure = (...parts: Parameters<typeof refusal>) => expect.objectContaining(refusal(...parts));

describe('addresses', () => {
  inNamespace('have peers, scopes, labels and lifetimes', () => {
    const link = port();
    link.addAddress({
      address: '10.20.0.1/32',
      peer: '10.20.0.2',
      label: 'd0:1',
      validLifetime: 1000,
      preferredLifetime: 100,
      scope: 'link',
      noPrefixRoute: true,
    });
    link.addAddress({ address: 'fd20::1/128', peer: 'fd20::2/128' });
    link.addAddress({ address: '10.21.0.0/31' });
    link.addAddress({ address: 'fd21::/127', noPrefixRoute: true });
    link.addAddress({ address: '10.22.0.1/24', broadcast: '10.22.0.255' });
    link.addAddress({ address: '10.23.0.1/32', peer: '10.24.0.0/16' });
    const shown = ip('address', 'show', 'd0');
    expect(shown).toMatch(
      /inet 10\.20\.0\.1 peer 10\.20\.0\.2\/32 scope link dynamic noprefixroute d0:1\s+valid_lft 1000sec preferred_lft 100sec/,
    );
    expect(shown).toContain('inet6 fd20::1 peer fd20::2/128 scope global');
    expect(shown).toContain('inet 10.22.0.1/24 brd 10.22.0.255');
    expect(shown).toContain('inet 10.23.0.1 peer 10.24.0.0/16');
    const plain = {
      scope: 'global',
      validLifetime: Number.POSITIVE_INFINITY,
      preferredLifetime: Number.POSITIVE_INFINITY,
      noPrefixRoute: false,
    };
    const details = link.addressDetails();
    for (const expected of [
      {
        address: '10.20.0.1/32',
        peer: '10.20.0.2',
        label: 'd0:1',
        scope: 'link',
        validLifetime: 1000,
        preferredLifetime: 100,
        noPrefixRoute: true,
      },
      { ...plain, address: 'fd20::1/128', peer: 'fd20::2' },
      { ...plain, address: '10.21.0.0/31' },
      { ...plain, address: 'fd21::/127', noPrefixRoute: true },
      { ...plain, address: '10.22.0.1/24', broadcast: '10.22.0.255' },
      { ...plain, address: '10.23.0.1/16', peer: '10.24.0.0' },
    ])
      expect(details).toContainEqual(expected);
    expect(link.addresses()).toContain('10.20.0.1/32');
    const routes = link.routes().map(({ destination }) => destination);
    expect(routes).toContain('10.21.0.0/31');
    expect(routes).not.toContain('fd21::/127');

    expect(() => link.removeAddress({ address: '10.20.0.1/32', peer: '10.20.0.3' })).toThrow(
      failure('EADDRNOTAVAIL', 'RTM_DELADDR', 'd0'),
    );
    link.removeAddress({ address: '10.20.0.1/32', peer: '10.20.0.2' });
    link.removeAddress('FD20:0::1/128');
    expect(link.addresses()).toHaveLength(4);
    link.flushAddresses();
    expect(link.addresses()).toEqual([]);
    link.flushAddresses();
  });

  inNamespace('that make no sense are refused before the kernel sees them', () => {
    const link = port();
    const bad: object[] = [
      { address: '10.0.0.1' },
      { address: '10.0.0.1/32', peer: 'fd00::1' },
      { address: '10.0.0.1/24', peer: '10.0.0.2/16' },
      { address: 'fd00::1/64', label: 'd0:1' },
      { address: 'fd00::1/64', broadcast: '10.0.0.255' },
      { address: '10.0.0.1/24', scope: 'world' },
      { address: '10.0.0.1/24', validLifetime: 10, preferredLifetime: 11 },
      { address: '10.0.0.1/24', label: 'a'.repeat(16) },
      { adress: '10.0.0.1/24' },
    ];
    for (const address of bad)
      expect(() => link.addAddress(address as AddressOptions), JSON.stringify(address)).toThrow(TypeError);
    expect(() => link.addAddress({ address: '10.0.0.1/24', validLifetime: 0 })).toThrow(RangeError);
    expect(link.addresses()).toEqual([]);
  });

  inNamespace('that the kernel refuses say what to do', () => {
    const link = port();
    link.mtu = 1000;
    expect(() => link.addAddress('fd00::1/64')).toThrow(
      "IPv6 needs an mtu of 1280 or more; the link's is 1000",
    );
    link.mtu = 1500;
    writeFileSync('/proc/sys/net/ipv6/conf/d0/disable_ipv6', '1');
    expect(() => link.addAddress('fd00::1/64')).toThrow(failure('EACCES', 'RTM_NEWADDR', 'd0'));
    expect(() => link.addAddress('fd00::1/64')).toThrow('net.ipv6.conf.NAME.disable_ipv6');
  });

  inNamespace('of IPv6 link-local are made as the link says', () => {
    const made = (addressGeneration: 'eui64' | 'none' | 'random', name: string) => {
      const link = Link.create({ type: 'bridge', name, addressGeneration, mac: '02:00:00:00:00:01' });
      link.up();
      return link;
    };
    // A bridge without ports has no carrier, and gets its address only with one.
    const link = port();
    for (const mode of ['eui64', 'random', 'none'] as const) {
      link.addressGeneration = mode;
      expect(link.addressGeneration).toBe(mode);
      link.down();
      link.mac = '02:00:00:00:00:01';
      link.up();
      const own = link.addresses().filter((address) => address.startsWith('fe80:'));
      if (mode === 'none') expect(own).toEqual([]);
      if (mode === 'eui64') expect(own).toEqual(['fe80::ff:fe00:1/64']);
      if (mode === 'random') expect(own).not.toEqual(['fe80::ff:fe00:1/64']);
      expect(made(mode, `br-${mode}`).addressGeneration).toBe(mode);
    }
    expect(() => (port('d1').addressGeneration = 'stable-secret')).toThrow(
      '/proc/sys/net/ipv6/conf/NAME/stable_secret',
    );
    expect(() => (link.addressGeneration = 'eui48' as never)).toThrow(TypeError);
  });
});

describe('while somebody else changes addresses', () => {
  /** Adds and takes away addresses of a link until it is killed, or at most so often. */
  const churn = (link: string) =>
    spawn(process.execPath, [
      '-e',
      `const { Link } = require(${JSON.stringify(require.resolve('../../dist'))});
       const link = Link.get('${link}');
       console.log('on');
       for (let i = 0; i < 60000; i++) {
         const address = '10.99.' + (i >> 8 & 255) + '.' + (i & 255) + '/32';
         link.addAddress({ address, scope: 'host' });
         link.removeAddress(address);
       }`,
    ]);

  it.each(['other', 'own'])('of the %s link, a list has all that did not change', async (whose) => {
    const ns = namespaces.current();
    const wanted = Array.from({ length: 1200 }, (_, i) => `10.${i >> 8}.${i & 255}.1/32`);
    const link = ns.run(() => {
      port('other');
      return port('own');
    });
    // Those that come and go stand in front of those that stay, for their scope, and so move them in the list.
    for (const address of wanted) link.addAddress(address);
    const child = ns.run(() => churn(whose));
    try {
      await once(child.stdout, 'data');
      for (let round = 0; round < 150; round++) {
        const listed = new Set(link.addresses());
        expect(wanted.filter((address) => !listed.has(address))).toEqual([]);
      }
      expect(child.exitCode).toBe(null);
    } finally {
      child.kill('SIGKILL');
      await once(child, 'close');
    }
  });
});
