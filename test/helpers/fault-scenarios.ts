import { spawnSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { closeSync, existsSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { threadId } from 'node:worker_threads';
import {
  DescriptorChannel,
  Link,
  Netns,
  PacketSocket,
  Rule,
  socketFromFd,
  TunSocket,
  UdpSocket,
} from '../../dist';
import { assertTyped, traffic } from './fault-traffic';
import type { Fault } from './faults';

/** Something that a program does with the library, again and again: each time with another of its system calls failing, or in many threads. */
export interface Scenario {
  /** What there is beforehand; no call of it fails. */
  prepare?(): void | Promise<void>;
  /** Throws what the library threw; leaves nothing behind. */
  run(): void | Promise<void>;
  /** After each run, when nothing fails any more: throws when something went wrong that nobody was told. */
  check?(fault: Fault): void | Promise<void>;
  /** Takes away what prepare() has made. */
  end?(): Promise<void>;
}

const accept = '1\n6 0 0 65535\n';

/** Whether there is a link with this name. */
function exists(name: string): boolean {
  return Link.list().some((link) => link.name === name);
}

function removed(...names: string[]): void {
  for (const name of names) if (exists(name)) Link.get(name).delete();
}

/** Waits for an event or a promise that must come, fault or not; what nobody tells is a hang. */
export async function soon<T>(what: string, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`nothing came of ${what}`)), 10_000);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

function openedTap(): void {
  using tap = TunSocket.open({
    ...{ name: 't0', mode: 'tap', offload: 'split', multiQueue: true, owner: 0, group: 0, mtu: 1400 },
    ...{ address: ['10.0.0.1/24', 'fd00::1/64'], addressGeneration: 'none', routes: '10.9.0.0/16' },
    ...{ mac: '02:00:00:00:00:01', txQueueLength: 100, filter: accept, index: 4000 },
  });
  tap.info();
  using second = tap.openQueue();
  second.detachQueue();
  second.attachQueue();
  tap.setFilter(accept);
  tap.getFilter();
  tap.removeFilter();
  tap.setTransmitFilter({ addresses: ['02:00:00:00:00:02'] });
  tap.setSteering(null);
  tap.setPacketFilter(null);
  tap.setCarrier(false);
  tap.setSendBufferSize(100_000);
  tap.getSendBufferSize();
  tap.mtu = 1300;
}

/** Whether a device was opened that outlives its socket. */
let persistent = false;

function openedTun(): void {
  persistent = false;
  TunSocket.features();
  using tun = TunSocket.open({
    ...{ name: 't1', packetInfo: true, persist: true, address: '10.0.1.1/24', napi: true, noCarrier: true },
    ...{ exclusive: true, linkType: 65534, debug: 1 },
  });
  persistent = true;
  using _raw = TunSocket.open({ name: 't3', offload: 'raw', byteOrder: 'little', virtioHeaderSize: 12 });
  tun.setPersist(false);
  tun.setOwner(0);
  const fd = tun.detach();
  try {
    socketFromFd(fd).close();
  } catch (error) {
    // It is still the program's.
    closeSync(fd);
    throw error;
  }
}

function packetSockets(): void {
  // Before 'unique', which may find this number.
  using _other = PacketSocket.open({ interface: 'lo', fanout: { group: 7, program: accept } });
  using socket = PacketSocket.open({
    ...{ interface: 'lo', type: 'raw', protocol: 'ip', promiscuous: true, ignoreOutgoing: true, mark: 1 },
    ...{ filter: accept, timestamps: true, auxdata: true, originalDevice: true, transmitTimestamps: true },
    ...{ receiveBuffer: 100_000, sendBuffer: 100_000, qdiscBypass: true, priority: 1 },
    ...{ fanout: { group: 'unique', mode: 'hash', rollover: true, maxMembers: 8 } },
  });
  using _offloading = PacketSocket.open({ interface: 'lo', offload: 'split' });
  using _cooked = PacketSocket.open({ interface: 'lo', type: 'dgram' });
  socket.setFilter(accept);
  socket.removeFilter();
  socket.addMembership('allMulticast');
  socket.addMembership('01:00:5e:00:00:01');
  socket.dropMembership('01:00:5e:00:00:01');
  socket.setRecvBufferSize(socket.getRecvBufferSize());
  socket.setSendBufferSize(socket.getSendBufferSize());
  socket.mark = socket.mark + 1;
  socket.priority = socket.priority + 1;
  socket.lockFilter();
  socket.stats();
  const fd = socket.detach();
  try {
    socketFromFd(fd).close();
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function udpSockets(): void {
  using socket = UdpSocket.open({
    ...{ address: '127.0.0.1', reuseAddress: true, reusePort: true, receiveBuffer: 100_000, mark: 1, ttl: 3 },
    ...{ sendBuffer: 100_000, broadcast: true, trafficClass: 4, multicastTtl: 2, multicastLoopback: false },
    ...{
      multicastInterface: 'lo',
      interface: 'lo',
      pathMtuDiscovery: 'do',
      timestamps: true,
      offload: 'split',
    },
  });
  using six = UdpSocket.open({
    ...{ family: 'IPv6', address: '::1', ipv6Only: true, offload: 'raw', receiveTimeout: 1 },
  });
  using peer = UdpSocket.open({ address: '127.0.0.1' });
  socket.connect('127.0.0.1', peer.address().port);
  socket.remoteAddress();
  socket.mtu;
  socket.disconnect();
  socket.setBroadcast(false);
  socket.setTTL(4);
  socket.setMulticastTTL(4);
  socket.setMulticastLoopback(true);
  socket.setMulticastInterface('lo');
  socket.setMulticastInterface('127.0.0.1');
  socket.addMembership('224.0.0.9', 'lo');
  socket.dropMembership('224.0.0.9', 'lo');
  socket.addSourceSpecificMembership('127.0.0.1', '232.0.0.9', 'lo');
  socket.dropSourceSpecificMembership('127.0.0.1', '232.0.0.9', 'lo');
  socket.setRecvBufferSize(socket.getRecvBufferSize());
  socket.setSendBufferSize(socket.getSendBufferSize());
  six.addMembership('ff02::9', 'lo');
  socket.stats();
  try {
    six.recvmsg(Buffer.alloc(10));
  } catch (error) {
    // There is nothing.
    assertTyped(error);
  }
  const fd = peer.detach();
  try {
    socketFromFd(fd).close();
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function links(): void {
  const bridge = Link.create({ type: 'bridge', name: 'l0', address: '10.1.0.1/24', mtu: 1400, up: true });
  const veth = Link.create({ type: 'veth', name: 'l1', peer: { name: 'l2' } });
  veth.setMaster(bridge);
  veth.rename('l3');
  veth.up();
  veth.addAlternativeName('another');
  bridge.addAddress('fd01::1/64');
  bridge.addressDetails();
  bridge.addNeighbour('10.1.0.2', '02:00:00:00:00:02');
  bridge.neighbours();
  bridge.addRoute({ destination: '10.2.0.0/16', gateway: '10.1.0.2' });
  bridge.replaceRoute({ destination: '10.2.0.0/16', gateway: '10.1.0.3', metric: 0 });
  bridge.routes();
  bridge.removeRoute('10.2.0.0/16');
  bridge.setImpairment(null);
  bridge.counters();
  bridge.flushAddresses();
  Rule.add({ from: '10.1.0.0/24', table: 100, priority: 100 });
  Rule.list();
  Rule.remove({ priority: 100 });
  veth.delete();
  bridge.delete();
}

/** One that may have a name still, because removing it failed. Names are the process's, all threads'. */
const name = `tunsock-faults-${threadId}`;
let named: Netns | undefined;

function namespaces(): void {
  using ns = Netns.create();
  named = Netns.create({ name, loopback: true });
  try {
    using opened = Netns.open(name);
    if (opened.inode !== named.inode) throw new Error('another namespace');
    using before = Netns.current();
    ns.run(() => Link.list());
    // A socket is opened there without the thread's being there.
    using _tun = TunSocket.open({ name: 't2', netns: ns, address: '10.0.0.1/24' });
    using _udp = UdpSocket.open({ address: '127.0.0.1', netns: named });
    if (before.inode === named.inode) throw new Error('the same namespace');
    named.remove();
  } finally {
    named.close();
  }
}

async function text(socket: Socket): Promise<string> {
  let all = '';
  for await (const chunk of socket) all += chunk;
  return all;
}

/** Sockets of Node's own that are made in a namespace. */
async function foreignSockets(): Promise<void> {
  using ns = Netns.create({ loopback: true });
  const servers: Server[] = [];
  const datagrams = createSocket('udp4');
  try {
    for (const host of ['127.0.0.1', '::1%lo', '\0tunsock-server']) {
      const server = createServer((socket) => socket.on('error', () => {}).end('hello'));
      servers.push(server);
      const path = host.startsWith('\0');
      await soon('listen()', path ? ns.listen(server, host) : ns.listen(server, 0, host));
      const where = path ? { path: host } : { host, port: (server.address() as AddressInfo).port };
      if ((await soon('a greeting', text(ns.connect(where)))) !== 'hello')
        throw new Error('another greeting');
    }
    await soon(
      'bind()',
      ns.bind(datagrams, { address: '127.0.0.1', reuseAddr: true, reusePort: true } as never),
    );
  } finally {
    datagrams.close();
    for (const server of servers) server.close();
  }
}

/** What the network says of datagrams that nobody takes. */
async function refusals(): Promise<void> {
  let port: number;
  {
    using gone = UdpSocket.open({ address: '127.0.0.1' });
    ({ port } = gone.address());
  }
  using udp = UdpSocket.open({ address: '127.0.0.1', offload: 'split', receiveTimeout: 1 });
  const told = once(udp, 'error');
  told.catch(() => {});
  udp.on('message', () => {}).on('error', () => {});
  udp.connect('127.0.0.1', port);
  udp.sendmsg(Buffer.from('to nobody'));
  const [error] = await soon('the refusal', told);
  assertTyped(error);
  udp.pause();
  udp.sendmsg(Buffer.from('to nobody'));
  try {
    udp.recvmsg(Buffer.alloc(10));
  } catch (thrown) {
    assertTyped(thrown);
  }
}

/** Interfaces that go while sockets are on them. */
async function vanishing(): Promise<void> {
  const link = Link.create({ type: 'bridge', name: 'l5', up: true });
  using frames = PacketSocket.open({ interface: 'l5' });
  using tun = TunSocket.open({ name: 't5' });
  const ends = [frames, tun].map((socket) => {
    socket.on('message', () => {}).on('error', assertTyped);
    return new Promise<void>((resolve) => socket.on('close', resolve));
  });
  link.down();
  // The loop's next turns see it.
  for (let turn = 0; turn < 3; turn++) await new Promise(setImmediate);
  link.up();
  link.delete();
  Link.get('t5').delete();
  await soon('the end of sockets', Promise.all(ends));
}

async function monitors(): Promise<void> {
  using monitor = Link.monitor();
  const changes = monitor[Symbol.asyncIterator]();
  const seen = (async () => {
    for (;;) {
      const { value, done } = await changes.next();
      if (done) throw Object.assign(new Error('closed'), { code: 'EEND' });
      if (value.link.name === 'l4' && value.kind === 'added') return;
    }
  })();
  seen.catch(() => {});
  const link = Link.create({ type: 'bridge', name: 'l4' });
  await soon('the monitor', seen);
  link.delete();
}

async function channels(): Promise<void> {
  const path = '\0tunsock-faults';
  const opened: (Disposable | undefined)[] = [];
  const kept = <T extends Disposable>(each: T): T => {
    opened.push(each);
    return each;
  };
  let failed: (error: Error) => void = () => {};
  const fails = new Promise<never>((_, reject) => {
    failed = reject;
  });
  fails.catch(() => {});
  try {
    const [near, far] = DescriptorChannel.pair().map(kept) as [DescriptorChannel, DescriptorChannel];
    const socket = kept(UdpSocket.open({ address: '127.0.0.1' }));
    near.send([socket, 0], Buffer.from('two'));
    const { sockets, descriptors, data } = await soon('receive()', far.receive());
    for (const each of sockets) each.close();
    for (const each of descriptors) closeSync(each);
    // A message that is shorter than it was, which the kernel doesn't do (unix(7), SOCK_SEQPACKET), can't be told from a short one.
    if (sockets.length + descriptors.length !== 2 || !'two'.startsWith(`${data}`))
      throw new Error('another message');
    // A channel by its number, as a program inherits it.
    near.send(
      DescriptorChannel.pair()
        .map(kept)
        .map(({ fd }) => fd),
    );
    const { descriptors: numbers } = await soon('receive() of channels', far.receive());
    for (const fd of numbers) {
      try {
        kept(DescriptorChannel.fromFd(fd));
      } catch (error) {
        for (const each of numbers.slice(numbers.indexOf(fd))) closeSync(each);
        throw error;
      }
    }
    kept(
      DescriptorChannel.listen(path, (channel) => {
        kept(channel);
        try {
          channel.send(0, Buffer.from('hello'));
        } catch (error) {
          failed(error as Error);
        }
      }),
    ).on('error', failed);
    const client = kept(DescriptorChannel.connect(path));
    const message = await soon('receive() of a client', Promise.race([client.receive(), fails]));
    for (const each of message.descriptors) closeSync(each);
    for (const each of message.sockets) each.close();
  } finally {
    for (const each of opened) each?.[Symbol.dispose]();
  }
}

/** Each by its name. */
export const SCENARIOS: Record<string, Scenario> = {
  'a tap device opened with everything': { run: openedTap },
  'a tun device opened with everything': {
    run: openedTun,
    check(fault) {
      if (persistent || fault === 'lasting') removed('t1');
    },
  },
  'packet sockets opened with everything': { run: packetSockets },
  'UDP sockets opened with everything': { run: udpSockets },
  links: {
    run: links,
    check() {
      removed('l0', 'l1', 'l3');
      if (Rule.list().some((rule) => rule.priority === 100)) Rule.remove({ priority: 100 });
    },
  },
  namespaces: {
    run: namespaces,
    check(fault) {
      const path = `/run/netns/${name}`;
      if (existsSync(path)) named?.remove();
      named = undefined;
      if (fault === 'lasting') rmSync(path, { force: true });
      // The next run finds the directory no mount, as the first one did. Other threads may need it.
      if (threadId === 0) spawnSync('umount', ['/run/netns']);
    },
  },
  "sockets of Node's in a namespace": { run: foreignSockets },
  'datagrams that are refused': { run: refusals },
  'interfaces that go': { run: vanishing, check: () => removed('l5', 't5') },
  monitors: { run: monitors, check: () => removed('l4') },
  'descriptor channels': { run: channels },
  ...traffic,
};
