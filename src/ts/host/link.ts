import { type LinkData, type LinkSettings, native, type Rtnetlink, type TunData } from '../native';
import { invalidArgType, invalidArgValue, type SystemErrorContext, systemError } from '../support/errors';
import { abortSignal, integer, interfaceName, knownOptions, optionsObject } from '../support/options';
import { cidr, ipAddress, macAddress, type Route, route } from './cidr';
import { type LinkChangeOf, LinkMonitor as LinkMonitorOf } from './link-monitor';
import { checkOptions, type LinkOptions, MAX_MTU } from './link-options';
import { Netns, netnsDescriptor } from './netns';
import { currentPlace, isSamePlace, type Place, runAt } from './netns-place';

export type { Route } from './cidr';
export type { LinkSnapshot } from './link-monitor';
export type { LinkOptions, VethPeer } from './link-options';

const EOPNOTSUPP = -95;
const IFF_UP = 1;
const MAX_INDEX = 2 ** 31 - 1;
const MAX_QUEUE_LENGTH = 2 ** 32 - 1;

/** The module that makes links of a type, where its name is another. */
const modules: { [type: string]: string } = { vlan: '8021q' };

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

let requests: Rtnetlink | undefined;

function rtnetlink(): Rtnetlink {
  requests ??= new (native().Rtnetlink)();
  return requests;
}

/** What to do about an errno, or what it means here. */
type Hints = { readonly [errno: number]: string };

/** Returns an answer that isn't a negative errno; throws what the kernel said and `own` adds to it, or the usual hint. */
function answered<T>(
  answer: T,
  syscall: string,
  name: string | undefined,
  own: Hints = {},
): Exclude<T, number> | 0 {
  if (typeof answer === 'number' && answer < 0) {
    const context: SystemErrorContext = { interface: name };
    const said = [rtnetlink().kernelText, own[answer]].filter(Boolean).join('; ');
    context.hint = said || hints[answer];
    throw systemError(answer, syscall, context);
  }
  return answer as Exclude<T, number> | 0;
}

const hints: Hints = {
  [-16]: 'the link is in use: bring it down first',
  [-17]: 'there is one already',
  [-19]: 'no such interface in this network namespace',
  [-99]: 'the link has no such address',
  [-100]: 'bring the link up first',
  [-3]: 'the link has no such route',
  [-11]: 'the list changed each time that it was read',
};

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
   * The link of that name in this thread's namespace.
   *
   * @throws SystemError `ENODEV` where there is none
   */
  static get(name: string): Link {
    return new Link(currentPlace(), readLink(0, interfaceName('name', name)));
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
    const { type, name, settings, peer, addresses, link: parentLink, id } = checkOptions(options);
    const parent = type === 'vlan' ? parentIndex(parentLink) : 0;
    const module = modules[type] ?? type;
    answered(rtnetlink().createLink(type, settings, peer, parent, id), 'RTM_NEWLINK', name, {
      [EOPNOTSUPP]: `the kernel can't make ${type} links: load its module with modprobe ${module}, or use a kernel that has it`,
    });
    const link = Link.get(name);
    try {
      for (const address of addresses) link.addAddress(address);
    } catch (error) {
      link.delete();
      throw error;
    }
    return link;
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
   * Adds an address, such as `'10.0.0.1/24'` or `'fd00::1/64'`. It can be used at once: one of IPv6 is not tried for
   * duplicates (IFA_F_NODAD).
   *
   * @throws SystemError `EEXIST` when it is there already; `EACCES` where IPv6 is disabled
   */
  addAddress(address: string): void {
    const checked = cidr('address', address);
    this.#ask('RTM_NEWADDR', (netlink) => netlink.changeAddress(true, this.#index, checked));
  }

  /** @throws SystemError `EADDRNOTAVAIL` when the link has no such address */
  removeAddress(address: string): void {
    const checked = cidr('address', address);
    this.#ask('RTM_DELADDR', (netlink) => netlink.changeAddress(false, this.#index, checked));
  }

  /** The addresses, as {@link addAddress} takes them. */
  addresses(): string[] {
    return this.#ask('RTM_GETADDR', (netlink) => netlink.listAddresses(this.#index)) as string[];
  }

  /**
   * Adds a route out of this link, which has to be up, to the main table.
   *
   * @throws SystemError `EEXIST` when there is one with that destination and metric; `ENETUNREACH` for a gateway that
   * can't be reached; `EINVAL` for an IPv4 destination with bits set beyond its prefix
   */
  addRoute(destination: string | Route): void {
    this.#changeRoute(true, route('route', destination));
  }

  /**
   * Removes the first route that has all that is given.
   *
   * @throws SystemError `ESRCH` when there is none
   */
  removeRoute(destination: string | Route): void {
    this.#changeRoute(false, route('route', destination));
  }

  /** The main table's routes out of this link, as {@link removeRoute} takes them; destinations are always CIDRs. */
  routes(): Route[] {
    return this.#ask('RTM_GETROUTE', (netlink) => netlink.listRoutes(this.#index)) as Route[];
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

  #changeRoute(add: boolean, { destination, gateway, source, metric = 0 }: Route): void {
    this.#ask(add ? 'RTM_NEWROUTE' : 'RTM_DELROUTE', (netlink) =>
      netlink.changeRoute(add, this.#index, destination, gateway, source, metric),
    );
  }
}

function readLink(index: number, name: string): LinkData {
  const subject = index === 0 ? name : `index ${index}`;
  return answered(rtnetlink().getLink(index, name), 'RTM_GETLINK', subject) as LinkData;
}

function parentIndex(link: unknown): number {
  if (link instanceof Link) return Link.indexAt('options.link', link, currentPlace());
  return readLink(0, interfaceName('options.link', link)).index;
}
