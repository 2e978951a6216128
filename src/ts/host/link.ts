import { inspect } from 'node:util';
import type { AddressData, Failure, LinkData, LinkSettings, RouteData, Rtnetlink, TunData } from '../native';
import { invalidArgType, invalidArgValue } from '../support/errors';
import {
  abortSignal,
  anyInterfaceName,
  integer,
  interfaceName,
  knownOptions,
  optionsObject,
} from '../support/options';
import { type AddressInfo, type AddressOptions, address, addressInfo } from './address';
import { ipAddress, macAddress } from './cidr';
import { type Impairment, impairment } from './impairment';
import { type LinkChangeOf, LinkMonitor as LinkMonitorOf } from './link-monitor';
import {
  type AddressGeneration,
  addressGenerationName,
  addressGenerationNumber,
  checkOptions,
  type LinkOptions,
  MAX_MTU,
} from './link-options';
import { Netns, netnsDescriptor } from './netns';
import { currentPlace, isSamePlace, type Place, runAt } from './netns-place';
import { type Route, type RouteSpec, route, routeOf, table } from './route';
import { answered, refused, rtnetlink } from './rtnetlink';

export type { LinkSnapshot } from './link-monitor';

const ENODEV = -19;
const EINVAL = -22;
const EOPNOTSUPP = -95;
const EADDRNOTAVAIL = -99;
const IFF_UP = 1;
const MAX_INDEX = 2 ** 31 - 1;
const MAX_QUEUE_LENGTH = 2 ** 32 - 1;
/** More than TCP's headers, of which older kernels make sure nowhere (MAX_TCP_HEADER of net/tcp.h); GSO_MAX_SIZE of linux/netdevice.h. */
const MIN_GSO_SIZE = 1024;
const MAX_GSO_SIZE = 8 * 65535;

/** The module that makes links of a type, where its name is another. */
const modules: { [type: string]: string } = { vlan: '8021q', gre: 'ip_gre' };
/** Below it a link has no IPv6 (RFC 8200, 5). */
const MIN_IPV6_MTU = 1280;

/** What went through a link since it was made (`struct rtnl_link_stats64`, linux/if_link.h); exact up to 2^53. */
export interface LinkCounters {
  rxPackets: number;
  rxBytes: number;
  rxErrors: number;
  rxDropped: number;
  txPackets: number;
  txBytes: number;
  txErrors: number;
  txDropped: number;
  /** Multicast packets received. */
  multicast: number;
  collisions: number;
}

/** By the bit of its NUD_* (linux/neighbour.h). */
const neighbourStates = [
  'incomplete',
  'reachable',
  'stale',
  'delay',
  'probe',
  'failed',
  'noarp',
  'permanent',
] as const;

/** A neighbour on a link, found by ARP or neighbour discovery or added by hand. */
export interface Neighbour {
  address: string;
  /** `undefined` while it isn't known. */
  mac: string | undefined;
  state: (typeof neighbourStates)[number];
}

/** One change that a {@link LinkMonitor} tells. */
export type LinkChange = LinkChangeOf<Link>;
/** What {@link Link.monitor} returns. */
export type LinkMonitor = LinkMonitorOf<Link>;

/** Options of {@link Link.monitor}. */
export interface LinkMonitorOptions {
  /** Where the links are: a Netns, or what Netns.open() takes. Default: this thread's namespace. */
  netns?: Netns | string | number | undefined;
  /** Closes the monitor when it is aborted. */
  signal?: AbortSignal | undefined;
}

/**
 * A network interface, whoever made it, by rtnetlink(7): no program is started. Each operation asks the kernel anew, and
 * no descriptor is held. A link is known by its index, so it is the same one under another name. It belongs to the
 * namespace that the thread was in when it was got, and its operations are done there wherever the thread is by then.
 *
 * Any of them throws a SystemError with the request as `syscall` and the link's name as `interface`: `ENODEV` when the link is
 * gone, `EPERM` for changes without CAP_NET_ADMIN. Where the kernel says why, the message ends in that.
 */
export class Link {
  #place: Place;
  #index: number;
  #name: string;

  private constructor(place: Place, data: LinkData) {
    this.#place = place;
    this.#index = data.index;
    this.#name = data.name;
  }

  /**
   * The link of that name in this thread's namespace; an alternative name, of up to 127 bytes, does as well.
   *
   * @throws SystemError `ENODEV` where there is none
   */
  static get(name: string): Link {
    return new Link(currentPlace(), readLink(0, anyInterfaceName('name', name)));
  }

  /** The same by index, which is 1 or more. */
  static byIndex(index: number): Link {
    return new Link(currentPlace(), readLink(integer('index', index, 1, MAX_INDEX), ''));
  }

  /** All links of this thread's namespace. */
  static list(): Link[] {
    const place = currentPlace();
    const links = answered(rtnetlink().listLinks(), 'RTM_GETLINK', undefined) as LinkData[];
    return links.map((data) => new Link(place, data));
  }

  /**
   * Makes a link in this thread's namespace: a whole one, or none.
   *
   * @throws SystemError `EEXIST` for a name that is taken; `EOPNOTSUPP` where the kernel has no such type
   */
  static create(options: LinkOptions): Link {
    const { name, spec, link: parent, addresses } = checkOptions(options);
    if (parent !== undefined) spec.link = parentIndex(parent);
    const made: LinkData | Failure = rtnetlink().createLink(spec, addresses);
    if ('error' in made) {
      const { error, syscall } = made;
      const { type, settings } = spec;
      const unknown = `the kernel can't make ${type} links: load its module with modprobe ${modules[type] ?? type}, or use a kernel that has it`;
      if (syscall === 'RTM_NEWLINK')
        throw refused(error, syscall, name, error === EOPNOTSUPP ? unknown : undefined);
      const v6 = addresses.some((data) => data.address.includes(':'));
      throw refused(error, syscall, name, v6 ? tooSmall(error, settings.mtu) : undefined);
    }
    return new Link(currentPlace(), made);
  }

  /**
   * Tells from here on what happens to the links of a namespace, to their addresses and to their routes, whoever does it. This thread
   * stays where it is. All monitors and sockets of a thread share one subscription for each namespace.
   *
   * @throws AbortError when `signal` is aborted already; SystemError as of {@link Netns.open}, and `EPERM` without CAP_SYS_ADMIN
   * for another namespace (setns(2))
   */
  static monitor(options?: LinkMonitorOptions): LinkMonitor {
    const checked = optionsObject('options', options);
    knownOptions('options', checked, ['netns', 'signal']);
    const signal = abortSignal('options.signal', checked.signal);
    const { netns } = checked;
    // One that is opened here belongs to the links that are told of, and is closed with the last of them.
    const opened = netns === undefined || netns instanceof Netns ? netns : Netns.open(netns as string);
    const place = opened?.place ?? currentPlace();
    return new LinkMonitorOf({ place, signal, makeLink: ({ link }) => Link.at(place, link) });
  }

  /** The interface's name now; the last known one when it is gone. */
  get name(): string {
    const data = this.#run((netlink) => netlink.getLink(this.#index, ''));
    if (typeof data !== 'number') this.#name = data.name;
    return this.#name;
  }

  /** The interface's number in its namespace. */
  get index(): number {
    return this.#index;
  }

  /** What made it: 'veth', 'tun', 'bridge' ...; empty for hardware and loopback. */
  get type(): string {
    return this.#read().type;
  }

  /**
   * The character device of a macvtap or ipvtap, which TunSocket.open() takes as `device`; undefined for other links. The kernel
   * makes it in the first network namespace's /dev; where it is not there: `mknod` with the numbers in /sys/class/net/NAME/tapN/dev.
   */
  get device(): string | undefined {
    const { type } = this.#read();
    return type === 'macvtap' || type === 'ipvtap' ? `/dev/tap${this.#index}` : undefined;
  }

  /** Names that it has beside its own, which may be longer: up to 127 bytes. */
  get alternativeNames(): string[] {
    return this.#read().alternativeNames;
  }

  /**
   * Gives it one more name, of up to 127 bytes.
   *
   * @throws SystemError `EEXIST` for a name that is taken
   */
  addAlternativeName(name: string): void {
    const checked = anyInterfaceName('name', name);
    this.#ask('RTM_NEWLINKPROP', (netlink) => netlink.changeAlternativeName(true, this.#index, checked));
  }

  /** @throws SystemError `ENOENT` when the link has no such name */
  removeAlternativeName(name: string): void {
    const checked = anyInterfaceName('name', name);
    this.#ask('RTM_DELLINKPROP', (netlink) => netlink.changeAlternativeName(false, this.#index, checked));
  }

  /** What is special about a tun device; undefined for other links. @internal */
  get tun(): TunData | undefined {
    return this.#read().tun;
  }

  /** In bytes, without the link's own header. Setting it throws `EINVAL` outside of what the link allows. */
  get mtu(): number {
    return this.#read().mtu;
  }
  set mtu(value: number) {
    this.#change({ mtu: integer('mtu', value, 0, MAX_MTU) });
  }

  /** ARPHRD_* of linux/if_arp.h. @internal */
  get hardwareType(): number {
    return this.#read().hardwareType;
  }

  /** The hardware's address, `'02:00:00:00:00:01'`; empty where there is none, as on a tun. */
  get mac(): string {
    return this.#read().mac;
  }
  set mac(value: string) {
    this.#change({ mac: macAddress('mac', value) });
  }

  /** In packets. */
  get txQueueLength(): number {
    return this.#read().txQueueLength;
  }
  set txQueueLength(value: number) {
    this.#change({ txQueueLength: integer('txQueueLength', value, 0, MAX_QUEUE_LENGTH) });
  }

  /**
   * The longest superpacket that the kernel makes for the link, in bytes, for IPv4 and IPv6: 65536 unless it was changed. Less is for programs that carry
   * superpackets on in something with less room, a UDP message say. Setting it throws `EINVAL` for more than the link can take
   * (`netif_set_gso_max_size()` of net/core/dev.h; `tso_max_size` in `ip -d link`).
   */
  get gsoMaxSize(): number {
    return this.#read().gsoMaxSize;
  }
  set gsoMaxSize(value: number) {
    this.#change({ gsoMaxSize: integer('gsoMaxSize', value, MIN_GSO_SIZE, MAX_GSO_SIZE) });
  }

  /**
   * How the link gets its IPv6 link-local address when it comes up; undefined without IPv6. Setting it throws `EINVAL` for
   * 'stable-secret' where there is no secret yet.
   */
  get addressGeneration(): AddressGeneration | undefined {
    return addressGenerationName(this.#read().addressGeneration);
  }
  set addressGeneration(value: AddressGeneration) {
    const addressGeneration = addressGenerationNumber('addressGeneration', value);
    const answer = this.#run((netlink) => netlink.changeLink(this.#index, { addressGeneration }));
    const secret = value === 'stable-secret' && answer === EINVAL;
    const hint = secret ? 'write a secret to /proc/sys/net/ipv6/conf/NAME/stable_secret first' : undefined;
    answered(answer, 'RTM_SETLINK', this.#name, hint);
  }

  /** IFF_* of netdevice(7). */
  get flags(): number {
    return this.#read().flags;
  }

  /** Whether it was brought up (IFF_UP); a carrier is another matter. */
  get isUp(): boolean {
    return (this.flags & IFF_UP) !== 0;
  }

  /** The bridge that it is a port of, or another such link. */
  get master(): Link | null {
    const { master } = this.#read();
    return master === 0 ? null : runAt(this.#place, () => Link.byIndex(master));
  }

  up(): void {
    this.#change({ up: true });
  }

  down(): void {
    this.#change({ up: false });
  }

  /**
   * Gives it another name.
   *
   * @throws SystemError `EEXIST` for a name that is taken; `EBUSY` on kernels that want the link down for this
   */
  rename(name: string): void {
    const checked = interfaceName('name', name);
    this.#change({ name: checked });
    this.#name = checked;
  }

  /**
   * Adds an address, such as `'10.0.0.1/24'` or `'fd00::1/64'`, or an object with more about it. It can be used at once: one of IPv6 is
   * not tried for duplicates (IFA_F_NODAD).
   *
   * @throws SystemError `EEXIST` when it is there already; `EACCES` where IPv6 is disabled; `EINVAL` for IPv6 on a link with an mtu
   * below 1280
   */
  addAddress(text: string | AddressOptions): void {
    this.#addAddress(address('address', text));
  }

  /**
   * Removes the first address that has all that is given.
   *
   * @throws SystemError `EADDRNOTAVAIL` when the link has no such address
   */
  removeAddress(text: string | AddressOptions): void {
    this.#removeAddress(address('address', text));
  }

  /** Removes all addresses, those that the kernel made too. */
  flushAddresses(): void {
    // Others of the network go with the first of it (promote_secondaries of sysctl), and somebody may add some meanwhile.
    for (const data of this.#addresses()) {
      const answer = this.#run((netlink) => netlink.removeAddress(this.#index, data));
      if (answer !== EADDRNOTAVAIL) answered(answer, 'RTM_DELADDR', this.#name);
    }
  }

  /** The addresses, as {@link addAddress} takes them: each with the length of its prefix. */
  addresses(): string[] {
    return this.#addresses().map((data) => data.address);
  }

  /** The addresses with all that the kernel tells of them. */
  addressDetails(): AddressInfo[] {
    const { name } = this;
    return this.#addresses().map((data) => addressInfo(data, name));
  }

  /**
   * Adds a route out of this link, which has to be up; to the main table, unless it says another.
   *
   * @throws SystemError `EEXIST` when there is one with that destination and metric; `ENETUNREACH` for a gateway that
   * can't be reached; `EINVAL` for an IPv4 destination with bits set beyond its prefix
   */
  addRoute(destination: string | Route): void {
    this.#addRoute(this.#routeData(route('route', destination)), false);
  }

  /** The same in place of the route that has its destination, metric and table, if there is one: whichever link that goes out of. */
  replaceRoute(destination: string | Route): void {
    this.#addRoute(this.#routeData(route('route', destination)), true);
  }

  /**
   * Removes the first route that has all that is given, from the main table, unless it says another; and no other route.
   *
   * @throws SystemError `ESRCH` when there is none
   */
  removeRoute(destination: string | Route): void {
    this.#removeRoute(this.#routeData(route('route', destination)));
  }

  /**
   * The routes out of this link, and behind them those of no link ('blackhole' and its kin), as {@link removeRoute} takes them; destinations
   * are always CIDRs. Of one table, or of all but 'local'.
   */
  routes(options?: { table?: Route['table'] }): Route[] {
    const given = optionsObject('options', options);
    knownOptions('options', given, ['table']);
    const wanted = given.table === undefined ? undefined : table('options.table', given.table);
    const routes = this.#ask('RTM_GETROUTE', (netlink) =>
      netlink.listRoutes(this.#index, wanted),
    ) as RouteData[];
    const names = new Map<number, string>();
    return routes.map((data) => routeOf(data, (index) => this.#nameAt(index, names)));
  }

  /**
   * Brings about an address that is wanted: returns how to take it back, or undefined where the link has it already, which needs no
   * privilege. @internal
   */
  ensureAddress(data: AddressData): (() => void) | undefined {
    try {
      this.#addAddress(data);
    } catch (error) {
      if (this.#run((netlink) => netlink.hasAddress(this.#index, data)) === 1) return undefined;
      throw error;
    }
    return () => this.#removeAddress(data);
  }

  /** The same for a route. @internal */
  ensureRoute(spec: RouteSpec): (() => void) | undefined {
    const data = this.#routeData(spec);
    try {
      this.#addRoute(data, false);
    } catch (error) {
      if (this.#run((netlink) => netlink.hasRoute(this.#index, data)) === 1) return undefined;
      throw error;
    }
    return () => this.#removeRoute(data);
  }

  /**
   * Lets the link delay, lose, repeat and overtake what it sends (netem); of a veth pair each end does so by itself. Replaces what
   * was set before; `null` and `{}` clear it.
   *
   * @throws SystemError `ENOENT` where the kernel has no netem (modprobe sch_netem); `EEXIST` where the link has a queueing discipline
   * that somebody else chose
   */
  setImpairment(options: Impairment | null): void {
    const data = impairment('impairment', options);
    const syscall = data === undefined ? 'RTM_DELQDISC' : 'RTM_NEWQDISC';
    this.#ask(syscall, (netlink) => netlink.setImpairment(this.#index, data));
  }

  counters(): LinkCounters {
    const counters: unknown = this.#ask('RTM_GETLINK', (netlink) => netlink.counters(this.#index));
    return counters as LinkCounters;
  }

  /** Makes it a port of a bridge (or another such link) in the same namespace; `null` takes it out. */
  setMaster(master: Link | null): void {
    if (master !== null && !(master instanceof Link))
      throw invalidArgType('master', 'a Link or null', master);
    this.#change({ master: master === null ? 0 : Link.indexAt('master', master, this.#place) });
  }

  /**
   * Moves it to another namespace, where it is down, and without its addresses and routes. This object goes with it.
   *
   * @throws SystemError `EEXIST` when its name is taken there; `EINVAL` for a link that can't be moved
   */
  moveTo(netns: Netns): void {
    const descriptor = netnsDescriptor('netns', netns);
    const { name } = this.#read();
    this.#change({ netns: descriptor });
    this.#place = netns.place;
    // The index is kept where it is free.
    this.#index = runAt(this.#place, () => readLink(0, name)).index;
  }

  /** Says which hardware address an IP address has, for good; replaces what was known (NUD_PERMANENT). */
  addNeighbour(address: string, mac: string): void {
    const ip = ipAddress('address', address);
    const hardware = macAddress('mac', mac);
    this.#ask('RTM_NEWNEIGH', (netlink) => netlink.changeNeighbour(true, this.#index, ip, hardware));
  }

  /** @throws SystemError `ENOENT` when there is none */
  removeNeighbour(address: string): void {
    const ip = ipAddress('address', address);
    this.#ask('RTM_DELNEIGH', (netlink) => netlink.changeNeighbour(false, this.#index, ip, ''));
  }

  neighbours(): Neighbour[] {
    const neighbours = this.#ask('RTM_GETNEIGH', (netlink) => netlink.listNeighbours(this.#index));
    return (neighbours as Exclude<typeof neighbours, 0>).map(({ address, mac, state }) => ({
      address,
      mac: mac === '' ? undefined : mac,
      state: neighbourStates[31 - Math.clz32(state)] ?? 'permanent',
    }));
  }

  /** Deletes the link; of a veth pair both ends. @throws SystemError `EOPNOTSUPP` for hardware and loopback */
  delete(): void {
    this.#ask('RTM_DELLINK', (netlink) => netlink.deleteLink(this.#index));
  }

  /** A link of `place` that the kernel has just told of. @internal */
  static at(place: Place, data: LinkData): Link {
    return new Link(place, data);
  }

  /** This link's index as links in `place` know it. @internal */
  static indexAt(name: string, link: Link, place: Place): number {
    if (!isSamePlace(link.#place, place)) {
      throw invalidArgValue(name, 'a Link of the same network namespace', link);
    }
    return link.#index;
  }

  #run<T>(request: (netlink: Rtnetlink) => T): T {
    return runAt(this.#place, () => request(rtnetlink()));
  }

  #ask<T>(syscall: string, request: (netlink: Rtnetlink) => T): Exclude<T, number> | 0 {
    return answered(this.#run(request), syscall, this.#name);
  }

  #read(): LinkData {
    const data = this.#ask('RTM_GETLINK', (netlink) => netlink.getLink(this.#index, '')) as LinkData;
    this.#name = data.name;
    return data;
  }

  #change(settings: LinkSettings): void {
    this.#ask('RTM_SETLINK', (netlink) => netlink.changeLink(this.#index, settings));
  }

  #addresses(): AddressData[] {
    return this.#ask('RTM_GETADDR', (netlink) => netlink.listAddresses(this.#index)) as AddressData[];
  }

  #addAddress(data: AddressData): void {
    const answer = this.#run((netlink) => netlink.addAddress(this.#index, data));
    if (answer >= 0) return;
    throw refused(answer, 'RTM_NEWADDR', this.#name, this.#whyNoAddress(answer, data));
  }

  #whyNoAddress(errno: number, data: AddressData): string | undefined {
    if (errno !== EINVAL || !data.address.includes(':')) return undefined;
    const link = this.#run((netlink) => netlink.getLink(this.#index, ''));
    return typeof link === 'number' ? undefined : tooSmall(errno, link.mtu);
  }

  #removeAddress(data: AddressData): void {
    this.#ask('RTM_DELADDR', (netlink) => netlink.removeAddress(this.#index, data));
  }

  #addRoute(data: RouteData, replace: boolean): void {
    this.#ask('RTM_NEWROUTE', (netlink) => netlink.addRoute(this.#index, data, replace));
  }

  #removeRoute(data: RouteData): void {
    this.#ask('RTM_DELROUTE', (netlink) => netlink.removeRoute(this.#index, data));
  }

  /** With indices in place of names. */
  #routeData({ multipath, ...spec }: RouteSpec): RouteData {
    if (multipath === undefined) return spec;
    const hops = multipath.map(({ interface: name, ...hop }) => ({
      ...hop,
      index: name === undefined ? this.#index : runAt(this.#place, () => readLink(0, name)).index,
    }));
    return { ...spec, multipath: hops };
  }

  /** Of a link in this one's namespace; its number where it is gone by now. */
  #nameAt(index: number, known: Map<number, string>): string {
    let name = known.get(index);
    if (name === undefined) {
      const data = this.#run((netlink) => netlink.getLink(index, ''));
      name = typeof data === 'number' ? `${index}` : data.name;
      known.set(index, name);
    }
    return name;
  }

  /** As `console.log` shows it. */
  [inspect.custom](_depth: number, options: object): string {
    let shown: object = { name: this.#name, index: this.#index };
    try {
      const { name, index, type, mtu, mac, flags } = this.#read();
      shown = { name, index, type, isUp: (flags & IFF_UP) !== 0, mtu, mac };
    } catch (error) {
      // What is shown must not throw: the link is gone, or its namespace is closed.
      shown = { ...shown, gone: (error as { errno?: number }).errno === ENODEV };
    }
    return `Link ${inspect(shown, options)}`;
  }
}

/** Why an IPv6 address is refused, if it is for the mtu. */
function tooSmall(errno: number, mtu: number | undefined): string | undefined {
  if (errno !== EINVAL || mtu === undefined || mtu >= MIN_IPV6_MTU) return undefined;
  return `IPv6 needs an mtu of ${MIN_IPV6_MTU} or more; the link's is ${mtu}`;
}

function readLink(index: number, name: string): LinkData {
  const subject = index === 0 ? name : `index ${index}`;
  return answered(rtnetlink().getLink(index, name), 'RTM_GETLINK', subject) as LinkData;
}

function parentIndex(link: unknown): number {
  if (link instanceof Link) return Link.indexAt('options.link', link, currentPlace());
  return readLink(0, anyInterfaceName('options.link', link)).index;
}
