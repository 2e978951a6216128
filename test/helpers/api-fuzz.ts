import { readdirSync, readlinkSync } from 'node:fs';
import { constants, Link, Netns, PacketBatch, PacketSocket, Rule, socketFromFd, TunSocket } from '../../dist';

/**
 * A program that calls the public API at random, with what makes sense and with what makes none, by a seed: api-fuzz SEED STEPS.
 * It ends with a line of JSON, a Report. It works in a namespace of its own.
 */

export interface Report {
  steps: number;
  /** Calls that gave a value, and those that threw. */
  succeeded: number;
  failed: number;
  /** Each kind of call with the codes that it threw. */
  codes: Record<string, string[]>;
  /** What must not be: an error without a code, something left behind. Of each kind the first. */
  violations: string[];
}

/** What the values here throw when they are read: a library hands it on as it is. */
class Thrown extends Error {}

type Make = () => unknown;
type Call = (...args: unknown[]) => unknown;

const [seed, steps] = process.argv.slice(2).map(Number) as [number, number];
const { MSG_DONTWAIT, MSG_ERRQUEUE, MSG_PEEK, MSG_TRUNC } = constants;
const MSG_OOB = 1;

/** mulberry32. */
function generator(state: number): () => number {
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

let random = generator(seed);
const below = (limit: number) => Math.floor(random() * limit);
const chance = (probability: number) => random() < probability;
const pick = <T>(values: readonly T[]): T => values[below(values.length)] as T;
const one =
  (...makes: (Make | Make[])[]): Make =>
  () =>
    pick(makes.flat())();
const always =
  (...values: unknown[]): Make =>
  () =>
    pick(values);

/** What is there. Something old is closed when there is too much of a kind. */
const sockets: (TunSocket | PacketSocket)[] = [];
const batches: PacketBatch[] = [];
const namespaces: Netns[] = [];
const monitors: ReturnType<typeof Link.monitor>[] = [];
const aborts: AbortController[] = [];

const violations = new Map<string, string>();
const codes = new Map<string, Set<string>>();
const report: Report = { steps: 0, succeeded: 0, failed: 0, codes: {}, violations: [] };
let step = 0;

function violation(kind: string, what: string): void {
  if (!violations.has(kind)) violations.set(kind, `step ${step}: ${kind}: ${what}`);
}

function failed(what: string, error: unknown): void {
  report.failed++;
  if (error instanceof Thrown) return;
  const { code } = error as { code?: unknown };
  if (
    error instanceof Error &&
    typeof code === 'string' &&
    /^(E[A-Z0-9]+|ERR_[A-Z_]+|ABORT_ERR)$/.test(code)
  ) {
    const known = codes.get(what) ?? new Set();
    codes.set(what, known.add(code));
  } else {
    violation(`${what} has no code`, error instanceof Error ? `${error.stack}` : String(error));
  }
}

/** Calls, and whatever comes of it is looked at, now or later. */
function attempt(what: string, call: () => unknown): unknown {
  try {
    const result = call();
    report.succeeded++;
    if (result instanceof Promise) result.catch((error) => failed(what, error));
    return result;
  } catch (error) {
    failed(what, error);
    return undefined;
  }
}

const swallow = (close: () => unknown) => {
  try {
    close();
  } catch {}
};
const closeSome = () => {
  if (sockets.length > 0 && chance(0.3)) swallow(() => pick(sockets).close());
  if (namespaces.length > 0 && chance(0.1)) swallow(() => pick(namespaces).close());
  if (aborts.length > 0 && chance(0.1)) pick(aborts).abort();
};

// What nobody should pass.
const bad: Make = one(
  always(undefined, null, true, 0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 31, 2 ** 32, 2 ** 53),
  always('', 'x', '\0', 'é'.repeat(20), 10n, Symbol.iterator, [], {}, () => {}, new Date(Number.NaN), /x/),
  () => Object.create(null),
  () => new Proxy({}, {}),
  () => pick<unknown>([...sockets, ...batches, ...namespaces, {}]),
  () => ({
    valueOf: () => {
      throw new Thrown('valueOf');
    },
    toString: () => {
      throw new Thrown('toString');
    },
  }),
);
const mostly =
  (make: Make): Make =>
  () =>
    chance(0.06) ? bad() : make();

/** An object of options, in one of the ways that there are to hand them over. */
const options =
  (makes: Record<string, Make>, always: readonly string[] = []): Make =>
  () => {
    const result: Record<string, unknown> = {};
    for (const [key, make] of Object.entries(makes)) {
      if (!always.includes(key) && !chance(0.25)) continue;
      const value = mostly(make)();
      if (chance(0.03)) {
        const how = below(3);
        Object.defineProperty(result, key, {
          enumerable: true,
          get: () => {
            if (how === 0) throw new Thrown(key);
            if (how === 1) closeSome();
            return value;
          },
        });
      } else {
        result[key] = value;
      }
    }
    if (chance(0.02)) result[pick(['adress', 'constructor', '__proto__x', 'nam'])] = 1;
    if (chance(0.05)) {
      return new Proxy(result, {
        get: (target, key, receiver) => {
          if (chance(0.05)) throw new Thrown(String(key));
          if (chance(0.1)) closeSome();
          return Reflect.get(target, key, receiver);
        },
      });
    }
    return chance(0.05) ? Object.freeze(Object.create(result)) : result;
  };

const number = (...values: number[]): Make => always(...values);
const address = always('10.1.0.1/24', '10.2.0.1/16', 'fd00:1::1/64', '10.3.0.1', '10.0.0.1/33', ':::/1');
const ip = always('10.1.0.2', '10.2.0.2', 'fd00:1::2', '::1', '127.0.0.1', '1.2.3', '224.0.0.1');
const mac = always(
  '02:00:00:00:00:01',
  '02:00:00:00:00:02',
  '01:00:5e:00:00:01',
  '00:00:00:00:00:00',
  '02:00',
);
const linkName = always('f0', 'f1', 'f2', 'f3', 'lo', 'f%d', 'a-name-that-is-too-long', 'f/0');
const table = always('main', 'default', 'local', 1, 100, 2 ** 32 - 1);
const route = one(
  address,
  always('default', '10.9.0.0/16', 'fd09::/64'),
  options({
    destination: always('10.9.0.0/16', 'default', 'fd09::/64', '10.9.0.1'),
    gateway: ip,
    onlink: always(true, false),
    source: ip,
    metric: number(0, 1, 100),
    table,
    type: always('unicast', 'blackhole', 'unreachable', 'throw', 'none'),
    scope: always('global', 'link', 'host', 'nowhere'),
    mtu: number(0, 1000, 1500),
    tos: number(0, 4, 255),
    multipath: () => [{ gateway: '10.1.0.7' }, { interface: 'lo', weight: 3 }],
  }),
);
const flags: Make = () =>
  chance(0.03)
    ? pick<unknown>([-1, 2 ** 31, 'x', {}])
    : MSG_DONTWAIT | (chance(0.3) ? pick([MSG_TRUNC, MSG_PEEK, MSG_OOB, MSG_ERRQUEUE, 0x8000]) : 0);

const packet = (): Uint8Array => {
  const bytes = Buffer.alloc(pick([0, 1, 14, 20, 28, 60, 100, 1500, 9000, 70000]));
  if (bytes.length >= 28)
    bytes.set([0x45, 0, 0, bytes.length & 0xff, 0, 1, 0, 0, 64, 17, 0, 0, 10, 1, 0, 2, 10, 1, 0, 1]);
  if (chance(0.2)) for (let n = 0; n < 8 && n < bytes.length; n++) bytes[n] = below(256);
  return bytes;
};
const memory = (bytes: number) => {
  const Resizable = ArrayBuffer as unknown as new (
    size: number,
    options: object,
  ) => ArrayBuffer & { resize(size: number): void };
  return new Resizable(bytes, { maxByteLength: bytes * 2 });
};
const view: Make = one(
  packet,
  packet,
  packet,
  () => new DataView(new ArrayBuffer(60), 4, 40),
  () => new Float64Array(8),
  () => new BigInt64Array(4),
  () => new Uint8Array(new SharedArrayBuffer(100)),
  () => {
    const buffer = new ArrayBuffer(100);
    const bytes = new Uint8Array(buffer);
    structuredClone(buffer, { transfer: [buffer] });
    return bytes;
  },
  () => {
    const buffer = memory(100);
    const bytes = new Uint8Array(buffer, 40, 40);
    buffer.resize(pick([0, 50, 100, 200]));
    return bytes;
  },
  () => {
    const wasm = new WebAssembly.Memory({ initial: 1, maximum: 3 });
    const bytes = new Uint8Array(wasm.buffer, 0, 100);
    if (chance(0.5)) wasm.grow(1);
    return bytes;
  },
  () =>
    Object.defineProperty(new Uint8Array(60), 'byteLength', { value: pick([Number.NaN, -1, 2 ** 40, 'x']) }),
  () => Object.defineProperty(new Uint8Array(60), 'buffer', { value: new ArrayBuffer(1) }),
  () => new Proxy(new Uint8Array(60), {}),
);
const data: Make = one(
  view,
  view,
  view,
  () => Array.from({ length: pick([0, 1, 2, 5, 1100]) }, view),
  () => [view(), bad()],
  () => new Proxy([view(), view()], {}),
  () =>
    Object.defineProperty([view(), view()], 1, {
      get: () => {
        closeSome();
        return view();
      },
    }),
  () => Array(5),
  bad,
);
const batch: Make = () => (chance(0.95) && batches.length > 0 ? pick(batches) : bad());
const signal: Make = () => {
  const abort = new AbortController();
  if (chance(0.1)) abort.abort();
  aborts.push(abort);
  if (aborts.length > 8) aborts.shift()?.abort();
  return abort.signal;
};
const sendOptions = options({
  destination: options({ address: mac, protocol: number(0x800, 0, 65535, 65536) }),
  offload: options({
    needsChecksum: always(true, false),
    checksumStart: number(0, 20, 34, 65535),
    checksumOffset: number(0, 6, 16, 65535),
    gsoType: number(0, 1, 3, 4, 5, 255),
    gsoSize: number(0, 1, 500, 65535),
    headerLength: number(0, 28, 42, 65535),
  }),
});
const callback: Make = () => (error: unknown) => {
  if (error !== undefined && error !== null) failed('send()', error);
  if (chance(0.02)) closeSome();
};
const receive = options({ signal });
const eventName = always('message', 'batch', 'drain', 'link', 'listening', 'close', 'nothing');
/** A listener that does what listeners shouldn't. */
const listener: Make = () => {
  const does = below(6);
  return () => {
    if (does === 0) closeSome();
    if (does === 1 && sockets.length > 0) swallow(() => pick(sockets).pause());
    if (does === 2 && sockets.length > 0)
      swallow(() => pick(sockets).recvmsg(Buffer.alloc(100), MSG_DONTWAIT));
    if (does === 3 && sockets.length > 0) pick(sockets).removeAllListeners('message');
  };
};
const common = {
  netns: () => (namespaces.length > 0 ? pick(namespaces) : '/proc/self/ns/net'),
  receiveTimeout: number(1, 2),
  sendQueueLimit: number(0, 1, 1000, 100000),
  signal,
};
const offload = always('none', 'split', 'raw');
const tunOptions = options({
  ...common,
  name: one(linkName, always('f0', 'f1', 'f2')),
  mode: always('tun', 'tap'),
  packetInfo: always(true, false),
  offload,
  multiQueue: always(true, false),
  exclusive: always(true, false),
  // Not persist: true, so that what is left behind is a fault.
  persist: always(false),
  owner: number(0, 1000),
  group: number(0, 1000),
  napi: always(true, false, 'frags'),
  address: one(address, () => [address(), address()]),
  addressGeneration: always('none', 'eui64', 'random'),
  routes: one(route, () => [route(), route()]),
  mtu: number(67, 68, 576, 1280, 1500, 9000, 65521, 65536),
  mac,
  up: always(true, false),
  txQueueLength: number(0, 1, 1000),
  device: always('/dev/net/tun', '/dev/null', '/nowhere'),
});
const packetOptions = options(
  {
    ...common,
    interface: always('lo', 'f0', 'f1', 'f2', 'none'),
    type: always('raw', 'dgram'),
    protocol: always('all', 'ip', 'ipv6', 'arp', 0, 2048, 65536),
    promiscuous: always(true, false),
    ignoreOutgoing: always(true, false),
    fanout: options({
      group: number(0, 7, 65535),
      mode: always('hash', 'lb', 'cpu', 'rollover'),
      defrag: always(true),
    }),
    filter: one(always('1,6 0 0 65535', 'x', '', '2,40 0 0 12,6 0 0 0'), () => [
      { code: 6, jt: 0, jf: 0, k: pick([0, 100, 2 ** 32]) },
    ]),
    offload,
    timestamps: always(true, false),
    auxdata: always(true, false),
    receiveBuffer: number(0, 1, 4096, 1 << 20),
    sendBuffer: number(0, 1, 4096, 1 << 20),
    qdiscBypass: always(true, false),
    vlan: always('metadata', 'inline'),
    destination: options({ address: mac, protocol: number(0x800, 1) }),
  },
  ['interface'],
);
const linkOptions = options(
  {
    type: always(
      'veth',
      'dummy',
      'bridge',
      'ifb',
      'vlan',
      'macvlan',
      'ipvlan',
      'vxlan',
      'gre',
      'sit',
      'vrf',
      'none',
    ),
    name: linkName,
    mtu: number(68, 1280, 1500, 9000),
    mac,
    up: always(true, false),
    address,
    addressGeneration: always('none', 'eui64'),
    peer: options({ name: linkName }, ['name']),
    link: linkName,
    id: number(0, 1, 100, 4095),
    mode: always('bridge', 'private', 'l2', 'l3'),
    local: ip,
    remote: ip,
    port: number(4789, 0, 65536),
    ttl: number(0, 64, 256),
    table: number(0, 10, 2 ** 32 - 1),
  },
  ['type', 'name'],
);
const ruleOptions = options({
  family: number(4, 6, 5),
  priority: number(100, 101, 102),
  from: address,
  to: address,
  interface: linkName,
  outputInterface: linkName,
  mark: number(0, 1, 2 ** 32 - 1, 2 ** 32),
  mask: number(0, 1, 2 ** 32 - 1),
  uidRange: one(
    number(0),
    () => [0, 10],
    () => [10, 0],
  ),
  tos: number(0, 4, 256),
  protocol: number(0, 6, 17, 256),
  sourcePorts: one(number(1), () => [1, 100]),
  destinationPorts: one(number(1), () => [100, 1]),
  not: always(true, false),
  type: always('lookup', 'blackhole', 'goto', 'none'),
  table,
  goto: number(102, 0),
  suppressPrefixLength: number(0, 24, 129),
});

const impairment = options({
  delayMs: number(0, 1),
  jitterMs: number(0, 1),
  lossPercent: number(0, 1, 101),
  duplicatePercent: number(0, 1),
  reorderPercent: number(0, 1),
  rateBitsPerSecond: number(0, 1e6, 1e12),
});

/** The methods and properties of each class, with what makes their arguments. A name with '=' is assigned to. */
const SOCKET: Record<string, Make[]> = {
  sendmsg: [data, flags, sendOptions],
  recvmsg: [data, flags],
  sendmmsg: [batch, flags, number(0, 1, 100, -1)],
  recvmmsg: [batch, flags],
  send: [data, one(sendOptions, callback), callback],
  sendBatch: [batch],
  receive: [receive],
  receiveMessage: [receive],
  on: [eventName, listener],
  once: [eventName, listener],
  removeAllListeners: [eventName],
  getSendQueueSize: [],
  getSendQueueCount: [],
  pause: [],
  resume: [],
  ref: [],
  unref: [],
  stats: [],
  close: [callback],
  name: [],
  index: [],
  fd: [],
  offloadFeatures: [],
  getSendBufferSize: [],
  setSendBufferSize: [number(0, 1, 100000, 2 ** 31)],
  getRecvBufferSize: [],
  setPersist: [always(false)],
  setCarrier: [always(true, false)],
  detachQueue: [],
  attachQueue: [],
};
const LINK: Record<string, Make[]> = {
  mtu: [],
  'mtu=': [number(68, 1280, 1500, 65536)],
  mac: [],
  'mac=': [mac],
  'txQueueLength=': [number(0, 1000, 2 ** 32)],
  'addressGeneration=': [always('none', 'eui64')],
  type: [],
  device: [],
  alternativeNames: [],
  addAlternativeName: [always('another', '')],
  removeAlternativeName: [always('another', '')],
  isUp: [],
  master: [],
  up: [],
  down: [],
  rename: [linkName],
  addAddress: [address],
  removeAddress: [address],
  flushAddresses: [],
  addresses: [],
  addressDetails: [],
  addRoute: [route],
  replaceRoute: [route],
  removeRoute: [route],
  routes: [options({ table })],
  setImpairment: [one(impairment, always(null))],
  counters: [],
  setMaster: [() => pick<unknown>([null, ...Link.list()])],
  moveTo: [() => (namespaces.length > 0 ? pick(namespaces) : bad())],
  addNeighbour: [ip, mac],
  removeNeighbour: [ip],
  neighbours: [],
  delete: [],
};
const BATCH: Record<string, Make[]> = {
  at: [number(0, 1, 63, -1)],
  info: [number(0, 1, 63, -1)],
  push: [data, sendOptions],
  clear: [],
  'length=': [number(0, 1, 4, 64, 65)],
};
const NETNS: Record<string, Make[]> = {
  name: [],
  fd: [],
  inode: [],
  run: [() => () => attempt('Link.list in run', () => Link.list())],
  close: [],
};

function use(kind: string, target: object, calls: Record<string, Make[]>): void {
  const name = pick(Object.keys(calls));
  const makes = calls[name] as Make[];
  const args = makes.slice(0, chance(0.9) ? makes.length : below(makes.length + 1)).map((make) =>
    // Whose names may be anything is Node's own affair.
    make === eventName ? make() : mostly(make)(),
  );
  // A call that waits would wait for ever, as it should.
  if (/^(send|recv)m?msg$/.test(name) && (args[1] === undefined || args[1] === 0)) args[1] = MSG_DONTWAIT;
  attempt(`${kind}.${name}`, () => {
    if (name.endsWith('=')) return Reflect.set(target, name.slice(0, -1), args[0]);
    const member: unknown = Reflect.get(target, name, target);
    return typeof member === 'function' ? (member as Call).apply(target, args) : member;
  });
}

const limit = <T>(list: T[], value: unknown, most: number, close: (old: T) => unknown) => {
  if (value === undefined) return;
  list.push(value as T);
  if (list.length > most) swallow(() => close(list.shift() as T));
};
const call = (method: unknown, self: unknown, ...args: unknown[]) => (method as Call).apply(self, args);

function open(): void {
  const socket = attempt('open', () =>
    chance(0.6)
      ? call(TunSocket.open, TunSocket, tunOptions())
      : call(PacketSocket.open, PacketSocket, packetOptions()),
  ) as TunSocket | PacketSocket | undefined;
  if (socket === undefined) return;
  socket.on('error', (error) => failed("'error'", error));
  limit(sockets, socket, 6, (old) => old.close());
}

/** Each way to go on, by how often. */
const WAYS: [weight: number, () => void][] = [
  [10, open],
  [60, () => sockets.length > 0 && use('socket', pick(sockets), SOCKET)],
  [3, () => sockets.length > 0 && swallow(() => sockets.splice(below(sockets.length), 1)[0]?.close())],
  [
    4,
    () =>
      limit(
        batches,
        attempt('new PacketBatch', () =>
          Reflect.construct(PacketBatch, [
            options({
              capacity: number(0, 1, 4, 64, 2 ** 31),
              packetSize: number(0, 1, 100, 2048, 2 ** 31),
            })(),
          ]),
        ),
        4,
        () => {},
      ),
  ],
  [15, () => batches.length > 0 && use('batch', pick(batches), BATCH)],
  [5, () => attempt('Link.create', () => call(Link.create, Link, linkOptions()))],
  [
    25,
    () => {
      const links = Link.list();
      const link = pick(links);
      if (link.name !== 'lo') use('link', link, LINK);
      if (links.length > 12) swallow(() => link.delete());
    },
  ],
  [2, () => attempt('Link.get', () => call(Link.get, Link, mostly(linkName)()))],
  [3, () => attempt('Rule.add', () => call(Rule.add, Rule, ruleOptions()))],
  [2, () => attempt('Rule.remove', () => call(Rule.remove, Rule, ruleOptions()))],
  [1, () => attempt('Rule.list', () => Rule.list())],
  [
    1,
    () =>
      limit(
        namespaces,
        attempt('Netns.create', () => Netns.create()),
        3,
        (old) => old.close(),
      ),
  ],
  [
    1,
    () =>
      attempt('Netns.open', () => {
        const opened = call(
          Netns.open,
          Netns,
          one(bad, always('/proc/self/ns/net', '/dev/null', process.pid))(),
        );
        limit(namespaces, opened, 3, (old) => old.close());
      }),
  ],
  [4, () => namespaces.length > 0 && use('netns', pick(namespaces), NETNS)],
  [
    1,
    () => {
      const monitor = attempt('Link.monitor', () =>
        call(Link.monitor, Link, options({ signal, netns: common.netns })()),
      ) as ReturnType<typeof Link.monitor> | undefined;
      monitor
        ?.on('error', (error) => failed("monitor 'error'", error))
        .on('change', listener() as () => void);
      limit(monitors, monitor, 3, (old) => old.close());
    },
  ],
  [1, () => monitors.length > 0 && attempt('monitor.close', () => pick(monitors).close())],
  [
    2,
    () => {
      // No descriptor that is somebody else's: it would be taken over, and closed.
      const fd = one(bad, () => pick([...sockets.map((socket) => socket.fd), -1]))();
      if (
        typeof fd === 'number' &&
        Number.isInteger(fd) &&
        fd >= 0 &&
        !sockets.some((socket) => socket.fd === fd)
      )
        return;
      const from = pick([socketFromFd, TunSocket.fromFd, PacketSocket.fromFd]);
      const socket = attempt('fromFd', () =>
        call(from, from === PacketSocket.fromFd ? PacketSocket : TunSocket, fd),
      );
      if (socket !== undefined) violation('fromFd takes what another socket has', String(fd));
    },
  ],
  [2, () => chance(0.5) && closeSome()],
  [1, () => sockets.length > 0 && attempt('iterate', () => pick(sockets)[Symbol.asyncIterator]().next())],
  [
    1,
    () =>
      sockets.length > 0 &&
      attempt('stream', () =>
        pick(sockets)
          .stream()
          .on('error', (e) => failed('stream', e)),
      ),
  ],
];
const total = WAYS.reduce((sum, [weight]) => sum + weight, 0);

function go(): void {
  let place = random() * total;
  for (const [weight, way] of WAYS) {
    place -= weight;
    if (place < 0) return void way();
  }
}

const turn = () => new Promise((resolve) => setImmediate(resolve));
const descriptors = () =>
  readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/self/fd/${fd}`).replace(/\d+/g, 'N')];
    } catch {
      return [];
    }
  });

/** Closes all, and waits for what is collected. */
async function settle(): Promise<void> {
  for (const abort of aborts.splice(0)) abort.abort();
  for (const each of [...sockets.splice(0), ...monitors.splice(0), ...namespaces.splice(0)])
    swallow(() => each.close());
  batches.length = 0;
  for (const rule of Rule.list())
    if (rule.priority > 0 && rule.priority < 32766) swallow(() => Rule.remove(rule));
  for (let n = 0; n < 20; n++) {
    await turn();
    (globalThis as unknown as { gc(): void }).gc();
  }
  // A veth whose end was elsewhere goes with that namespace, which the kernel cleans up on its own time.
  await new Promise((resolve) => setTimeout(resolve, 200));
}

/** The kinds of link that only Link.delete() ends are deleted; a tun device must have gone with its socket. */
function links(): string[] {
  const left: string[] = [];
  for (const link of Link.list()) {
    if (link.name === 'lo') continue;
    if (link.type === 'tun') left.push(link.name);
    else swallow(() => link.delete());
  }
  return left;
}

async function main(): Promise<void> {
  Netns.create().enter();
  process.on('uncaughtException', (error) => failed('uncaught', error));
  process.on('unhandledRejection', (error) =>
    violation('unhandled rejection', String((error as Error).stack)),
  );
  // Once, so that what is made on first use is there.
  random = generator(1);
  for (step = -200; step < 0; step++) {
    go();
    if (step % 10 === 0) await turn();
  }
  await settle();
  links();
  const before = descriptors();
  random = generator(seed);
  for (step = 0; step < steps; step++) {
    go();
    if (step % 8 === 0) await turn();
  }
  await settle();
  const left = links();
  if (left.length > 0) violation('devices are left', left.join());
  const after = descriptors();
  const extra = [...after];
  for (const each of before) {
    const index = extra.indexOf(each);
    if (index >= 0) extra.splice(index, 1);
  }
  if (after.length > before.length) violation('descriptors are left', extra.join());
  report.steps = step;
  report.violations = [...violations.values()];
  report.codes = Object.fromEntries([...codes].map(([what, set]) => [what, [...set].sort()]));
  console.log(JSON.stringify(report));
  process.exit();
}

void main();
