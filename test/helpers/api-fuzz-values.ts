import { constants, UdpSocket } from '../../dist';
import {
  aborts,
  always,
  batches,
  below,
  chance,
  disturb,
  failed,
  type Make,
  memories,
  namespaces,
  one,
  pick,
  sockets,
  swallow,
  Thrown,
} from './api-fuzz-world';

/** Values that make sense, and values that make none, of each kind that the API takes. */

const { MSG_DONTWAIT, MSG_ERRQUEUE, MSG_PEEK, MSG_TRUNC } = constants;
const MSG_OOB = 1;

// What nobody should pass.
export const bad: Make = one(
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
export const mostly =
  (make: Make): Make =>
  () =>
    chance(0.06) ? bad() : make();

/** An object of options, in one of the ways that there are to hand them over. */
export const options =
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
            if (how === 1) disturb();
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
          if (chance(0.1)) disturb();
          return Reflect.get(target, key, receiver);
        },
      });
    }
    return chance(0.05) ? Object.freeze(Object.create(result)) : result;
  };

export const number = (...values: number[]): Make => always(...values);
export const address = always(
  '10.1.0.1/24',
  '10.2.0.1/16',
  'fd00:1::1/64',
  '10.3.0.1',
  '10.0.0.1/33',
  ':::/1',
);
export const ip = always('10.1.0.2', '10.2.0.2', 'fd00:1::2', '::1', '127.0.0.1', '1.2.3', '224.0.0.1');
export const mac = always(
  '02:00:00:00:00:01',
  '02:00:00:00:00:02',
  '01:00:5e:00:00:01',
  '00:00:00:00:00:00',
  '02:00',
);
export const linkName = always('f0', 'f1', 'f2', 'f3', 'lo', 'f%d', 'a-name-that-is-too-long', 'f/0');
export const table = always('main', 'default', 'local', 1, 100, 2 ** 32 - 1);
export const route = one(
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
export const flags: Make = () =>
  chance(0.03)
    ? pick<unknown>([-1, 2 ** 31, 'x', {}])
    : MSG_DONTWAIT | (chance(0.3) ? pick([MSG_TRUNC, MSG_PEEK, MSG_OOB, MSG_ERRQUEUE, 0x8000]) : 0);

export const packet = (): Uint8Array => {
  const bytes = Buffer.alloc(pick([0, 1, 14, 20, 28, 60, 100, 1500, 9000, 70000]));
  if (bytes.length >= 28)
    bytes.set([0x45, 0, 0, bytes.length & 0xff, 0, 1, 0, 0, 64, 17, 0, 0, 10, 1, 0, 2, 10, 1, 0, 1]);
  if (chance(0.2)) for (let n = 0; n < 8 && n < bytes.length; n++) bytes[n] = below(256);
  return bytes;
};
export const memory = (bytes: number) => {
  const Resizable = ArrayBuffer as unknown as new (
    size: number,
    options: object,
  ) => ArrayBuffer & { resize(size: number): void };
  return new Resizable(bytes, { maxByteLength: bytes * 2 });
};
const changes = (change: () => void) => {
  memories.push(change);
  if (memories.length > 16) memories.shift();
};
export const view: Make = one(
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
    const bytes = pick([
      new Uint8Array(buffer, 40, 40),
      new Uint8Array(buffer, 40),
      new DataView(buffer, 60),
    ]);
    if (chance(0.5)) buffer.resize(pick([0, 50, 100, 200]));
    changes(() => buffer.resize(pick([0, 50, 100, 200])));
    return bytes;
  },
  () => {
    const buffer = new ArrayBuffer(100);
    changes(() => structuredClone(buffer, { transfer: [buffer] }));
    return new Uint8Array(buffer);
  },
  () => {
    const wasm = new WebAssembly.Memory({ initial: 1, maximum: 3, shared: chance(0.3) });
    const bytes = new Uint8Array(wasm.buffer, 0, 100);
    if (chance(0.3)) wasm.grow(1);
    changes(() => wasm.grow(1));
    return bytes;
  },
  () =>
    Object.defineProperty(new Uint8Array(60), 'byteLength', { value: pick([Number.NaN, -1, 2 ** 40, 'x']) }),
  () => Object.defineProperty(new Uint8Array(60), 'buffer', { value: new ArrayBuffer(1) }),
  () => new Proxy(new Uint8Array(60), {}),
);
export const data: Make = one(
  view,
  view,
  view,
  () => Array.from({ length: pick([0, 1, 2, 5, 1100]) }, view),
  () => [view(), bad()],
  () => new Proxy([view(), view()], {}),
  () =>
    Object.defineProperty([view(), view()], 1, {
      get: () => {
        disturb();
        return view();
      },
    }),
  () => Array(5),
  bad,
);
export const batch: Make = () => (chance(0.95) && batches.length > 0 ? pick(batches) : bad());
export const signal: Make = () => {
  const abort = new AbortController();
  if (chance(0.1)) abort.abort();
  aborts.push(abort);
  if (aborts.length > 8) aborts.shift()?.abort();
  return abort.signal;
};
export const port = () => {
  const udp = sockets.find((socket) => socket instanceof UdpSocket && !socket.closed) as
    | UdpSocket
    | undefined;
  return udp !== undefined && chance(0.7) ? udp.address().port : pick([0, 1, 9, 65535, 65536]);
};
export const sendOptions = options({
  destination: options({ address: mac, protocol: number(0x800, 0, 65535, 65536) }),
  to: one(
    options({ address: ip, port }, ['address', 'port']),
    options({ address: mac, protocol: number(0x800) }),
  ),
  from: one(ip, options({ address: ip, interface: number(0, 1, 2) })),
  ecn: number(0, 1, 3, 4),
  trafficClass: number(0, 255, 256),
  segmentSize: number(0, 1, 100, 1400, 65536),
  offload: options({
    needsChecksum: always(true, false),
    checksumStart: number(0, 20, 34, 65535),
    checksumOffset: number(0, 6, 16, 65535),
    gsoType: number(0, 1, 3, 4, 5, 255),
    gsoSize: number(0, 1, 500, 65535),
    headerLength: number(0, 28, 42, 65535),
  }),
});
export const callback: Make = () => (error: unknown) => {
  if (error !== undefined && error !== null) failed('send()', error);
  if (chance(0.02)) disturb();
};
export const receive = options({ signal });
export const eventName = always('message', 'batch', 'drain', 'link', 'listening', 'close', 'nothing');
/** A listener that does what listeners shouldn't. */
export const listener: Make = () => {
  const does = below(6);
  return () => {
    if (does === 0) disturb();
    if (does === 1 && sockets.length > 0) swallow(() => pick(sockets).pause());
    if (does === 2 && sockets.length > 0)
      swallow(() => pick(sockets).recvmsg(Buffer.alloc(100), MSG_DONTWAIT));
    if (does === 3 && sockets.length > 0) pick(sockets).removeAllListeners('message');
  };
};
export const common = {
  netns: () => (namespaces.length > 0 ? pick(namespaces) : '/proc/self/ns/net'),
  receiveTimeout: number(1, 2),
  sendQueueLimit: number(0, 1, 1000, 100000),
  signal,
};
export const offload = always('none', 'split', 'raw');
