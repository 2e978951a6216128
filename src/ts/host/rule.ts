import { inspect } from 'node:util';
import type { RuleData } from '../native';
import { invalidArgValue } from '../support/errors';
import { boolean, integer, interfaceName, knownOptions, oneOf, optionsObject } from '../support/options';
import { cidr, family } from './cidr';
import { table } from './route';
import { answered, rtnetlink } from './rtnetlink';

/** What a rule does. 'lookup' searches a table, 'goto' goes on with another rule, 'nop' with the next; the others drop, as routes of that type do. */
export type RuleType = 'lookup' | 'goto' | 'nop' | 'blackhole' | 'unreachable' | 'prohibit';

/** FR_ACT_* of linux/fib_rules.h. */
const actions: Readonly<Record<RuleType, number>> = {
  lookup: 1,
  goto: 2,
  nop: 3,
  blackhole: 6,
  unreachable: 7,
  prohibit: 8,
};

/** A rule of policy routing (ip-rule(8)): which packets, and the table that is searched for them. */
export interface RuleOptions {
  /** 4 or 6. Default: that of `from` or `to`; without them 4. */
  family?: 4 | 6 | undefined;
  /** 0 to 4294967295: lower ones come first. Default: one less than the lowest but 0. */
  priority?: number | undefined;
  /** Packets from this network, as CIDR. */
  from?: string | undefined;
  /** Packets to this network, as CIDR. */
  to?: string | undefined;
  /** Packets that came by the interface of this name; 'lo' for those of this host. It need not exist. */
  interface?: string | undefined;
  /** Packets of sockets that are bound to the interface of this name. */
  outputInterface?: string | undefined;
  /** Packets with this mark (SO_MARK): 0 to 4294967295. */
  mark?: number | undefined;
  /** Bits of the mark that count. Default all. */
  mask?: number | undefined;
  /** The first and the last user id whose packets are meant, or one alone. */
  uidRange?: readonly [first: number, last: number] | number | undefined;
  /** Type of service: 0 to 255. */
  tos?: number | undefined;
  /** IP protocol: 1 to 255. */
  protocol?: number | undefined;
  /** The first and the last port, or one alone; with a `protocol` that has ports. */
  sourcePorts?: readonly [first: number, last: number] | number | undefined;
  /** The same of the destination. */
  destinationPorts?: readonly [first: number, last: number] | number | undefined;
  /** All packets but those. Default false. */
  not?: boolean | undefined;
  /** Default 'lookup', or 'goto' where that is given. */
  type?: RuleType | undefined;
  /** The table that is searched: 1 to 4294967295, or its name. */
  table?: number | 'main' | 'default' | 'local' | undefined;
  /** The priority of the rule to go on with. */
  goto?: number | undefined;
  /** What the table gives counts only if its prefix is longer than this: 0 leaves out a default route. 0 to 128. */
  suppressPrefixLength?: number | undefined;
}

const MAX_NUMBER = 2 ** 32 - 1;
const known = [
  'family',
  'priority',
  'from',
  'to',
  'interface',
  'outputInterface',
  'mark',
  'mask',
  'uidRange',
  'tos',
  'protocol',
  'sourcePorts',
  'destinationPorts',
  'not',
  'type',
  'table',
  'goto',
  'suppressPrefixLength',
] as const satisfies readonly (keyof RuleOptions)[];

/**
 * A rule of policy routing, in the namespace that this thread is in (ip-rule(8), net/core/fib_rules.c). Routes of tables other than main are
 * added by Link.addRoute().
 *
 * ```ts
 * // Whatever has no mark goes by table 51820, and so into the tunnel: as wg-quick(8) does it.
 * Rule.add({ not: true, mark: 51820, table: 51820 });
 * Rule.add({ table: 'main', suppressPrefixLength: 0 });
 * ```
 */
export class Rule implements RuleOptions {
  readonly family!: 4 | 6;
  readonly priority!: number;
  declare readonly from?: string;
  declare readonly to?: string;
  declare readonly interface?: string;
  declare readonly outputInterface?: string;
  declare readonly mark?: number;
  declare readonly mask?: number;
  declare readonly uidRange?: [number, number];
  declare readonly tos?: number;
  declare readonly protocol?: number;
  declare readonly sourcePorts?: [number, number];
  declare readonly destinationPorts?: [number, number];
  declare readonly not?: boolean;
  /** Absent for 'lookup'. */
  declare readonly type?: RuleType;
  declare readonly table?: number;
  declare readonly goto?: number;
  declare readonly suppressPrefixLength?: number;

  private constructor({ action, ...data }: RuleData) {
    Object.assign(this, data);
    const type = (Object.keys(actions) as RuleType[]).find((name) => actions[name] === action);
    if (type !== undefined && type !== 'lookup') this.type = type;
  }

  /** All rules of IPv4 and then of IPv6, each in the order in which they are tried. */
  static list(): Rule[] {
    const rules = answered(rtnetlink().listRules(), 'RTM_GETRULE', undefined) as RuleData[];
    return rules.map((data) => new Rule(data));
  }

  /**
   * Adds a rule.
   *
   * @throws SystemError `EEXIST` where there is the same already; `EPERM` without CAP_NET_ADMIN
   * @throws TypeError `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`; RangeError `ERR_OUT_OF_RANGE`
   */
  static add(rule: RuleOptions): void {
    const data = ruleData('rule', rule);
    data.action ??= data.goto === undefined ? actions.lookup : actions.goto;
    if (data.action === actions.lookup && data.table === undefined) {
      throw invalidArgValue('rule.table', 'given: the table that is searched', undefined);
    }
    answered(rtnetlink().addRule(data), 'RTM_NEWRULE', data.interface);
  }

  /**
   * Removes the first rule that has all that is given, and no other.
   *
   * @throws SystemError `ENOENT` when there is none
   */
  static remove(rule: RuleOptions): void {
    const data = ruleData('rule', rule);
    answered(rtnetlink().removeRule(data), 'RTM_DELRULE', data.interface);
  }

  /** As `console.log` shows it. */
  [inspect.custom](_depth: number, options: object): string {
    return `Rule ${inspect({ ...this }, options)}`;
  }
}

function ruleData(name: string, value: unknown): RuleData {
  const options = optionsObject(name, value);
  knownOptions(name, options, known);
  const optional = <T>(key: (typeof known)[number], check: (name: string, value: unknown) => T) =>
    options[key] === undefined ? undefined : check(`${name}.${key}`, options[key]);
  const number = (min: number, max: number) => (key: string, given: unknown) => integer(key, given, min, max);
  const from = optional('from', cidr);
  const to = optional('to', cidr);
  const version = optional('family', ipVersion) ?? ((from ?? to) ? family((from ?? to) as string) : 4);
  for (const [key, prefix] of [
    ['from', from],
    ['to', to],
  ] as const) {
    if (prefix !== undefined && family(prefix) !== version) {
      throw invalidArgValue(`${name}.${key}`, `a network of IPv${version}, as the rule's family is`, prefix);
    }
  }
  const action = optional(
    'type',
    (key, type) => actions[oneOf(key, type, Object.keys(actions) as RuleType[])],
  );
  return {
    family: version,
    from,
    to,
    priority: optional('priority', number(0, MAX_NUMBER)),
    interface: optional('interface', (key, given) => interfaceName(key, given)),
    outputInterface: optional('outputInterface', (key, given) => interfaceName(key, given)),
    mark: optional('mark', number(0, MAX_NUMBER)),
    mask: optional('mask', number(0, MAX_NUMBER)),
    uidRange: optional('uidRange', range(0, MAX_NUMBER - 1)),
    tos: optional('tos', number(0, 255)),
    protocol: optional('protocol', number(1, 255)),
    sourcePorts: optional('sourcePorts', range(1, 65535)),
    destinationPorts: optional('destinationPorts', range(1, 65535)),
    not: optional('not', boolean),
    action,
    table: optional('table', table),
    goto: optional('goto', number(1, MAX_NUMBER)),
    suppressPrefixLength: optional('suppressPrefixLength', number(0, 128)),
  };
}

function ipVersion(name: string, value: unknown): 4 | 6 {
  if (value !== 4 && value !== 6) throw invalidArgValue(name, '4 or 6', value);
  return value;
}

/** One number, or the first and the last of several. */
function range(min: number, max: number): (name: string, value: unknown) => [number, number] {
  return (name, value) => {
    const [first, last, ...more] = Array.isArray(value) ? value : [value, value];
    const from = integer(name, first, min, max);
    const to = integer(name, last, min, max);
    if (from > to || more.length > 0) throw invalidArgValue(name, 'the first number and the last', value);
    return [from, to];
  };
}
