import { inspect } from 'node:util';
import { expect } from 'vitest';
import { Rule, type RuleOptions } from '../../dist';
import { ip, ownNamespaces, refusal } from '../helpers/namespaces';

const { inNamespace } = ownNamespaces();
const failure = (...parts: Parameters<typeof refusal>) => expect.objectContaining(refusal(...parts));

inNamespace('the rules of a new namespace are the three of IPv4 and the two of IPv6', () => {
  expect(Rule.list().map((rule) => ({ ...rule }))).toEqual([
    { family: 4, priority: 0, table: 255 },
    { family: 4, priority: 32766, table: 254 },
    { family: 4, priority: 32767, table: 253 },
    { family: 6, priority: 0, table: 255 },
    { family: 6, priority: 32766, table: 254 },
  ]);
});

inNamespace('rules are listed as they were added, are what the kernel has, and are removed', () => {
  const before = Rule.list();
  const added: [RuleOptions, string][] = [
    [
      {
        priority: 1000,
        from: '10.0.0.0/24',
        to: '10.1.0.0/16',
        mark: 5,
        mask: 255,
        table: 100,
        interface: 'a',
        uidRange: [0, 0],
      },
      '1000:	from 10.0.0.0/24 to 10.1.0.0/16 fwmark 0x5/0xff iif a uidrange 0-0 lookup 100',
    ],
    [
      { priority: 999, not: true, mark: 51820, table: 51820 },
      '999:	not from all fwmark 0xca6c lookup 51820',
    ],
    [
      { priority: 998, family: 6, table: 254, suppressPrefixLength: 0 },
      '998:	from all lookup main suppress_prefixlength 0',
    ],
    [{ priority: 997, from: 'fd00::/64', table: 4294967295 }, '997:	from fd00::/64 lookup 4294967295'],
    [
      {
        priority: 996,
        type: 'prohibit',
        protocol: 17,
        sourcePorts: [10, 20],
        destinationPorts: [53, 53],
        tos: 4,
        outputInterface: 'b',
      },
      '996:	from all tos 0x04 oif b ipproto udp sport 10-20 dport 53 prohibit',
    ],
    [{ priority: 50, goto: 999 }, '50:	from all goto 999'],
  ];
  for (const [rule] of added) Rule.add(rule);
  // The interfaces that the rules name are not there.
  const shown = (ip('rule') + ip('-6', 'rule')).replaceAll(' [detached]', '');
  const listed = Rule.list();
  for (const [rule, text] of added) {
    expect(listed).toContainEqual(expect.objectContaining(rule));
    expect(shown).toContain(text);
  }
  for (const [rule] of added) Rule.remove(rule);
  expect(Rule.list()).toEqual(before);
});

inNamespace('what is in the list can be removed as it is there, and by a part of it', () => {
  Rule.add({ mark: 1, table: 10 });
  Rule.add({ mark: 1, table: 11 });
  const [second, first] = Rule.list().filter(({ mark }) => mark === 1);
  expect([second?.table, first?.table]).toEqual([11, 10]);
  Rule.remove(first as Rule);
  expect(Rule.list().filter(({ mark }) => mark === 1)).toEqual([second]);
  Rule.remove({ mark: 1 });
  expect(Rule.list().filter(({ mark }) => mark === 1)).toEqual([]);
  for (const wanted of [
    { mark: 1 },
    { table: 254, from: '10.0.0.0/8' },
    { family: 6 as const, priority: 5 },
  ]) {
    expect(() => Rule.remove(wanted)).toThrow(failure('ENOENT', 'RTM_DELRULE'));
  }
  expect(Rule.list()).toHaveLength(5);
});

inNamespace('a rule that is there is refused, and so is one that makes no sense', () => {
  Rule.add({ priority: 7, from: '10.0.0.0/8', table: 10 });
  expect(() => Rule.add({ priority: 7, from: '10.0.0.0/8', table: 10 })).toThrow(
    failure('EEXIST', 'RTM_NEWRULE'),
  );
  const bad: object[] = [
    { from: '10.0.0.0/8' },
    { from: '10.0.0.0', table: 1 },
    { from: '10.0.0.0/8', to: 'fd00::/8', table: 1 },
    { from: '10.0.0.0/8', family: 6, table: 1 },
    { uidRange: [5, 4], table: 1 },
    { tabel: 1 },
    { type: 'drop' },
    { family: 5, table: 1 },
  ];
  for (const rule of bad)
    expect(() => Rule.add(rule as RuleOptions), JSON.stringify(rule)).toThrow(TypeError);
  for (const rule of [{ table: 0 }, { mark: -1, table: 1 }, { table: 1, suppressPrefixLength: 129 }])
    expect(() => Rule.add(rule), JSON.stringify(rule)).toThrow(RangeError);
  expect(Rule.list()).toHaveLength(6);
});

inNamespace('console.log shows what a rule is', () => {
  Rule.add({ priority: 7, mark: 1, table: 10 });
  const rule = Rule.list().find(({ priority }) => priority === 7);
  expect(inspect(rule, { breakLength: 200 })).toBe(
    'Rule { family: 4, priority: 7, mark: 1, mask: 4294967295, table: 10 }',
  );
});
