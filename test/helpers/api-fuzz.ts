import { closeSync, readdirSync, readlinkSync } from 'node:fs';
import {
  constants,
  DescriptorChannel,
  Link,
  Netns,
  PacketBatch,
  PacketSocket,
  Rule,
  socketFromFd,
  TunSocket,
  UdpSocket,
} from '../../dist';
import {
  BATCH,
  CHANNEL,
  LINK,
  linkOptions,
  NETNS,
  packetOptions,
  ruleOptions,
  SOCKET,
  STREAM,
  tunOptions,
  udpOptions,
} from './api-fuzz-calls';
import {
  bad,
  common,
  eventName,
  linkName,
  listener,
  mostly,
  number,
  options,
  signal,
} from './api-fuzz-values';
import {
  type AnySocket,
  aborts,
  always,
  attempt,
  batches,
  below,
  type Call,
  chance,
  channels,
  codes,
  disturb,
  failed,
  listeners,
  type Make,
  memories,
  monitors,
  namespaces,
  one,
  pick,
  type Report,
  random,
  report,
  reseed,
  sockets,
  swallow,
  violation,
  violations,
} from './api-fuzz-world';

/**
 * A program that calls the public API at random, with what makes sense and with what makes none, by a seed: api-fuzz SEED STEPS.
 * It ends with a line of JSON, a Report. It works in a namespace of its own.
 */

export type { Report };

const { MSG_DONTWAIT } = constants;
const [seed, steps] = process.argv.slice(2).map(Number) as [number, number];

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
  keep(
    attempt('open', () => {
      const kind = random();
      if (kind < 0.4) return call(TunSocket.open, TunSocket, tunOptions());
      if (kind < 0.7) return call(PacketSocket.open, PacketSocket, packetOptions());
      return call(UdpSocket.open, UdpSocket, udpOptions());
    }),
  );
}

function keep(socket: unknown): void {
  if (socket === undefined) return;
  (socket as AnySocket).on('error', (error) => failed("'error'", error));
  limit(sockets, socket, 6, (old) => old.close());
}

/** Takes what a channel brings, so that nothing of it is left. */
async function takeFrom(channel: DescriptorChannel): Promise<void> {
  const received = attempt('channel.receive', () => channel.receive()) as ReturnType<typeof channel.receive>;
  const message = await received?.catch(() => undefined);
  for (const fd of message?.descriptors ?? []) closeSync(fd);
  for (const socket of message?.sockets ?? []) swallow(() => socket.close());
}

/** As use(), but that what is received is taken. */
function useChannel(channel: DescriptorChannel): void {
  const { receive } = channel;
  Object.defineProperty(channel, 'receive', {
    configurable: true,
    value: async (...args: [never]) => {
      const message = await receive.apply(channel, args);
      for (const fd of message.descriptors) closeSync(fd);
      for (const socket of message.sockets) swallow(() => socket.close());
    },
  });
  use('channel', channel, CHANNEL);
  Reflect.deleteProperty(channel, 'receive');
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
      const [from, self] = pick([
        [socketFromFd, undefined],
        [TunSocket.fromFd, TunSocket],
        [PacketSocket.fromFd, PacketSocket],
        [UdpSocket.fromFd, UdpSocket],
      ]);
      const socket = attempt('fromFd', () => call(from, self, fd));
      if (socket !== undefined) violation('fromFd takes what another socket has', String(fd));
    },
  ],
  [2, () => chance(0.5) && disturb()],
  [1, () => sockets.length > 0 && attempt('iterate', () => pick(sockets)[Symbol.asyncIterator]().next())],
  [
    3,
    () => {
      if (sockets.length === 0) return;
      const stream = attempt('stream', () =>
        pick(sockets)
          .stream()
          .on('error', (e) => failed('stream', e)),
      ) as object | undefined;
      // A chunk that is no packet is the stream's own affair to refuse, by a code of Node's.
      for (let n = below(4); stream !== undefined && n > 0; n--) use('stream', stream, STREAM);
    },
  ],
  [
    2,
    () => {
      const tuns = sockets.filter((socket) => socket instanceof TunSocket);
      if (tuns.length > 0)
        keep(attempt('openQueue', () => call(TunSocket.prototype.openQueue, pick(tuns), options(common)())));
    },
  ],
  [
    1,
    () => {
      if (sockets.length === 0) return;
      const at = below(sockets.length);
      // The number is the caller's from here on, and given back as a socket.
      const fd = attempt('detach', () => sockets[at]?.detach());
      if (typeof fd !== 'number') return;
      sockets.splice(at, 1);
      const socket = attempt('socketFromFd', () => socketFromFd(fd));
      if (socket === undefined) closeSync(fd);
      else keep(socket);
    },
  ],
  [
    2,
    () => {
      const pair = attempt('DescriptorChannel.pair', () => DescriptorChannel.pair()) as DescriptorChannel[];
      for (const channel of pair ?? []) limit(channels, channel, 6, (old) => old.close());
    },
  ],
  [
    1,
    () => {
      const path = pick(['\0fuzz', '\0fuzz2', '', '/nowhere/x', '\0'.repeat(200)]);
      const listener = attempt('DescriptorChannel.listen', () =>
        DescriptorChannel.listen(path, (channel) => {
          limit(channels, channel, 6, (old) => old.close());
          if (chance(0.2)) disturb();
        }),
      ) as ReturnType<typeof DescriptorChannel.listen> | undefined;
      listener?.on('error', (error) => failed("listener 'error'", error));
      limit(listeners, listener, 2, (old) => old.close());
      limit(
        channels,
        attempt('DescriptorChannel.connect', () => DescriptorChannel.connect(path)),
        6,
        (old) => old.close(),
      );
    },
  ],
  [
    8,
    () => {
      if (channels.length === 0) return;
      if (chance(0.5)) void takeFrom(pick(channels));
      else useChannel(pick(channels));
    },
  ],
  [
    2,
    () => monitors.length > 0 && attempt('monitor.next', () => pick(monitors)[Symbol.asyncIterator]().next()),
  ],
  [1, () => attempt('Netns.current', () => limit(namespaces, Netns.current(), 3, (old) => old.close()))],
  [1, () => attempt('TunSocket.features', () => TunSocket.features())],
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
  for (const each of [
    ...[...sockets.splice(0), ...monitors.splice(0), ...namespaces.splice(0)],
    ...[...channels.splice(0), ...listeners.splice(0)],
  ])
    swallow(() => each.close());
  memories.length = 0;
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
  reseed(1);
  for (report.steps = -200; report.steps < 0; report.steps++) {
    go();
    if (report.steps % 10 === 0) await turn();
  }
  await settle();
  links();
  const before = descriptors();
  reseed(seed);
  for (report.steps = 0; report.steps < steps; report.steps++) {
    go();
    if (report.steps % 8 === 0) await turn();
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
  report.violations = [...violations.values()];
  report.codes = Object.fromEntries([...codes].map(([what, set]) => [what, [...set].sort()]));
  console.log(JSON.stringify(report));
  process.exit();
}

void main();
