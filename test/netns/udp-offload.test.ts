import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { constants, Link, Netns, type OffloadFallback, PacketBatch, UdpSocket } from '../../dist';
import { codeOf } from '../helpers/device';
import { type Pair, vethPair } from '../helpers/pair';
import { batchOf, queued, udpStage } from '../helpers/udp-stage';

const { MSG_DONTWAIT, MSG_PEEK } = constants;
const { open, kept } = udpStage();
const filled = (length: number, value: number) => Buffer.alloc(length, value);

describe('split', () => {
  it('runs of one length and destination go out and come in as one, and nobody sees it', () => {
    const [a, b] = [open({ offload: 'split' }), open({ offload: 'split' })];
    const data = [
      ...Array.from({ length: 10 }, (_, index) => filled(1200, index)),
      filled(100, 11), // the shorter last one of the first run
      filled(1200, 12),
      filled(1200, 13),
      filled(1300, 14), // a longer one starts another
      filled(0, 0),
      filled(700, 15),
    ];
    expect(a.sendmmsg(batchOf(data, { to: b.address() }))).toBe(data.length);
    expect(a.stats()).toMatchObject({
      sent: { packets: data.length, bytes: data.reduce((sum, one) => sum + one.length, 0) },
      offload: { sent: 2, refused: [] },
    });
    expect(queued(b)).toEqual(data);
    expect(b.stats()).toMatchObject({
      received: { packets: data.length, truncated: 0 },
      offload: { received: 2 },
    });
  });

  it.each([
    [1, 4], // 64 segments at most
    [1000, 4],
    [1472, 6], // 44 in 65487 bytes
    [32743, 16],
    [32744, 0], // two are more than a message has
  ])('the kernel is handed no more than it takes at once: datagrams of %i bytes', (size, runs) => {
    const b = open({ offload: 'split', receiveBuffer: 4 << 20 });
    const a = open({ offload: 'split' });
    a.connect('127.0.0.1', b.address().port);
    const count = size > 2000 ? 32 : 256;
    const batch = new PacketBatch({ capacity: count, packetSize: size });
    for (let index = 0; index < count; index++) batch.push(filled(size, index));
    expect(a.sendmmsg(batch)).toBe(count);
    expect(a.stats().offload).toEqual({ received: 0, sent: runs, refused: [] });
    const got = queued(b);
    // Whole buffers, not byte by byte: there is a megabyte of them.
    expect([...batch].every((sent, index) => got[index]?.equals(sent))).toBe(true);
    expect(got.length).toBe(count);
  });

  it('destinations, sources and ECN each make a run of their own', () => {
    const a = open({ address: '0.0.0.0', offload: 'split' });
    const [b, c] = [open(), open()];
    const batch = new PacketBatch({ capacity: 12 });
    for (const to of [b, b, c, c]) batch.push(filled(500, 1), { to: to.address() });
    for (const ecn of [1, 1, 2, 2]) batch.push(filled(500, 2), { to: b.address(), ecn });
    for (const from of ['127.0.0.1', '127.0.0.1', '127.0.0.2', '127.0.0.2']) {
      batch.push(filled(500, 3), { to: b.address(), from });
    }
    expect(a.sendmmsg(batch)).toBe(12);
    expect(a.stats().offload?.sent).toBe(6);
    const seen = Array.from({ length: 10 }, () => b.recvmsg(Buffer.alloc(600)));
    expect(seen.map((info) => info.size)).toEqual(new Array(10).fill(500));
    expect(seen.map((info) => info.ecn)).toEqual([0, 0, 1, 1, 2, 2, 0, 0, 0, 0]);
    expect(seen.slice(6).map((info) => info.from.address)).toEqual([
      '127.0.0.1',
      '127.0.0.1',
      '127.0.0.2',
      '127.0.0.2',
    ]);
    expect(queued(c).length).toBe(2);
  });

  it('what of a run has no room in a batch waits for the next call, in events too', async () => {
    const [a, b] = [open({ offload: 'split' }), open({ offload: 'split' })];
    const data = Array.from({ length: 20 }, (_, index) => filled(300, index));
    a.sendmmsg(batchOf(data, { to: b.address() }));
    const few = new PacketBatch({ capacity: 3, packetSize: 100 });
    expect(b.recvmmsg(few)).toBe(3);
    expect([few.lengths[0], few.sizes[0], few.flags[0]]).toEqual([100, 300, constants.MSG_TRUNC]);
    const room = Buffer.alloc(300);
    expect(b.recvmsg(room, MSG_PEEK).size).toBe(300);
    expect(b.recvmsg(room).size).toBe(300);
    expect(room).toEqual(data[3]);
    const rest: Buffer[] = [];
    b.on('message', (packet, info) => {
      expect(info).toMatchObject({ from: a.address(), segmentSize: undefined });
      rest.push(packet);
    });
    while (rest.length < 16) await once(b, 'message');
    expect(rest).toEqual(data.slice(4));
    expect(b.stats().received).toMatchObject({ packets: 20, truncated: 3 });
  });
});

describe('messages whose datagrams are of another length than those before', () => {
  it.each([1, 3, 7, 64, 300])('come out as they went in, into batches of %i', (capacity) => {
    const b = open({ offload: 'split', receiveBuffer: 8 << 20 });
    const a = open({ offload: 'raw' });
    const to = b.address();
    const expected: Buffer[] = [];
    let seed = capacity;
    const next = (below: number) => {
      seed = (seed * 48271) % 2147483647;
      return seed % below;
    };
    for (let round = 0; round < 120; round++) {
      const segmentSize = [1000, 1000, 1000, 999, 1001, 300, 1][next(7)] as number;
      const count = 1 + next(Math.min(64, Math.floor(65000 / segmentSize)));
      const size = segmentSize * (count - 1) + next(segmentSize + 1);
      const data = Buffer.alloc(size, round);
      a.sendmsg(data, 0, { to, ecn: round & 3, ...(count > 1 && { segmentSize }) });
      if (size === 0) expected.push(data);
      for (let at = 0; at < size; at += segmentSize) expected.push(data.subarray(at, at + segmentSize));
    }
    const batch = new PacketBatch({ capacity, packetSize: 1200 });
    let at = 0;
    while (b.recvmmsg(batch, MSG_DONTWAIT) > 0) {
      for (let index = 0; index < batch.length; index++, at++) {
        const wanted = expected[at] as Buffer;
        if (!batch.at(index).equals(wanted)) throw new Error(`datagram ${at} is another`);
        const { size, flags, from, ecn, segmentSize } = batch.info(index);
        const round = wanted.length > 0 ? (wanted[0] as number) & 3 : ecn;
        expect([size, flags, from?.port, ecn, segmentSize]).toEqual([
          wanted.length,
          0,
          a.address().port,
          round,
          undefined,
        ]);
      }
    }
    expect(at).toBe(expected.length);
    const bytes = expected.reduce((sum, one) => sum + one.length, 0);
    expect(b.stats().received).toMatchObject({ packets: expected.length, bytes, truncated: 0, dropped: 0 });
  });
});

describe('raw', () => {
  it('shows what came in as one, and sends what it is told', () => {
    const [a, b] = [open({ offload: 'raw' }), open({ offload: 'raw' })];
    const data = Buffer.concat([filled(1000, 1), filled(1000, 2), filled(7, 3)]);
    expect(a.sendmsg(data, 0, { to: b.address(), segmentSize: 1000 })).toBe(2007);
    const room = Buffer.alloc(65535);
    expect(b.recvmsg(room)).toMatchObject({ size: 2007, segmentSize: 1000, from: a.address() });
    expect(room.subarray(0, 2007)).toEqual(data);
    const single = open();
    a.sendmsg(data, 0, { to: single.address(), segmentSize: 1000 });
    expect(queued(single).map((one) => one.length)).toEqual([1000, 1000, 7]);
  });

  it('a batch that came in goes on as it is', () => {
    const [a, b, c] = [open({ offload: 'raw' }), open({ offload: 'raw' }), open()];
    a.sendmsg(filled(30000, 1), 0, { to: b.address(), segmentSize: 1000 });
    a.sendmsg(filled(10, 2), 0, { to: b.address() });
    const batch = new PacketBatch({ packetSize: 65535 });
    expect(b.recvmmsg(batch)).toBe(2);
    b.connect('127.0.0.1', c.address().port);
    expect(b.sendmmsg(batch)).toBe(2);
    expect(queued(c).map((one) => one.length)).toEqual([...new Array(30).fill(1000), 10]);
  });

  it('several datagrams need it, and fit in a message', () => {
    const to = { address: '127.0.0.1', port: 9 };
    for (const offload of ['none', 'split'] as const) {
      const udp = open({ offload });
      expect(codeOf(() => udp.sendmsg(filled(9, 1), 0, { to, segmentSize: 3 }))).toBe(
        'ERR_INVALID_ARG_VALUE',
      );
    }
    const raw = open({ offload: 'raw' });
    expect(codeOf(() => raw.sendmsg(filled(65508, 1), 0, { to, segmentSize: 1400 }))).toBe('EMSGSIZE');
    expect(codeOf(() => raw.sendmsg(filled(1000, 1), 0, { to, segmentSize: 1 }))).toBe('EINVAL');
    for (const segmentSize of [0, 65508, 1.5]) {
      expect(codeOf(() => raw.sendmsg(filled(9, 1), 0, { to, segmentSize }))).toBe('ERR_OUT_OF_RANGE');
    }
    const a = open({ offload: 'raw' });
    const b = open({ offload: 'raw' });
    a.sendmsg(filled(3000, 1), 0, { to: b.address(), segmentSize: 1000 });
    const batch = new PacketBatch({ packetSize: 65535 });
    b.recvmmsg(batch);
    expect(codeOf(() => open().sendmmsg(batch))).toBe('EOPNOTSUPP');
  });
});

describe('a path with a smaller mtu', () => {
  let pair: Pair;
  beforeEach(() => {
    pair = vethPair();
    pair.near.run(() => pair.nearLink.addAddress('10.3.0.1/24'));
    pair.far.run(() => pair.farLink.addAddress('10.3.0.2/24'));
  });
  afterEach(() => pair.close());

  it('refuses runs: they go one by one, nothing is lost, and it is said once', async () => {
    const a = open({ netns: pair.near, address: '10.3.0.1', offload: 'split' });
    const b = open({ netns: pair.far, address: '10.3.0.2' });
    a.connect('10.3.0.2', b.address().port);
    expect(a.mtu).toBe(1500);
    const said: OffloadFallback[] = [];
    const hear = (message: unknown) => void said.push(message as OffloadFallback);
    subscribe('tunsock:offload:fallback', hear);
    const data = Array.from({ length: 10 }, (_, index) => filled(1400, index));
    const batch = batchOf(data);
    expect(a.sendmmsg(batch)).toBe(10);
    expect(queued(b)).toEqual(data);
    expect(a.stats().offload).toEqual({ received: 0, sent: 1, refused: [] });
    pair.near.run(() => {
      pair.nearLink.mtu = 1000;
    });
    expect(a.mtu).toBe(1000);
    for (let round = 0; round < 2; round++) {
      expect(a.sendmmsg(batch)).toBe(10);
      expect(queued(b)).toEqual(data);
    }
    const small = Array.from({ length: 10 }, (_, index) => filled(900, index));
    expect(a.sendmmsg(batchOf(small))).toBe(10);
    expect(queued(b)).toEqual(small);
    await new Promise(setImmediate);
    unsubscribe('tunsock:offload:fallback', hear);
    expect(said).toEqual([{ socket: a, features: ['uso4', 'uso6'] }]);
    expect(a.stats()).toMatchObject({
      sent: { packets: 40, errors: 0 },
      offload: { sent: 2, refused: ['uso4', 'uso6'] },
    });
  });

  it("pathMtuDiscovery 'do' refuses what is too long", () => {
    const a = open({ netns: pair.near, address: '10.3.0.1', pathMtuDiscovery: 'do' });
    const to = { address: '10.3.0.2', port: 9 };
    expect(a.sendmsg(filled(1472, 1), 0, { to })).toBe(1472);
    expect(codeOf(() => a.sendmsg(filled(1473, 1), 0, { to }))).toBe('EMSGSIZE');
  });
});

it('learns the mtu of a path behind a router, and tells of it', async () => {
  using near = Netns.create();
  using router = Netns.create();
  using far = Netns.create();
  const veth = (from: Netns, to: Netns, subnet: number) => {
    from.run(() => {
      const link = Link.create({
        type: 'veth',
        name: `to${subnet}`,
        peer: { name: `of${subnet}`, netns: to },
      });
      link.addAddress(`10.${subnet}.0.1/24`);
      link.up();
    });
    to.run(() => {
      const link = Link.get(`of${subnet}`);
      link.addAddress(`10.${subnet}.0.2/24`);
      link.up();
    });
  };
  veth(near, router, 1);
  veth(router, far, 2);
  near.run(() => Link.get('to1').addRoute({ destination: 'default', gateway: '10.1.0.2' }));
  far.run(() => Link.get('of2').addRoute({ destination: 'default', gateway: '10.2.0.1' }));
  router.run(() => {
    writeFileSync('/proc/sys/net/ipv4/ip_forward', '1');
    Link.get('to2').mtu = 1300;
  });
  const a = open({ netns: near, address: '10.1.0.1', pathMtuDiscovery: 'do', offload: 'split' });
  const b = open({ netns: far, address: '10.2.0.2' });
  a.connect('10.2.0.2', b.address().port);
  expect(a.mtu).toBe(1500);
  a.on('message', () => {});
  const heard = once(a, 'error');
  a.sendmsg(filled(1472, 1));
  expect((await heard)[0]).toMatchObject({ code: 'EMSGSIZE', address: '10.2.0.2', offender: '10.1.0.2' });
  expect(a.mtu).toBe(1300);
  expect(codeOf(() => a.sendmsg(filled(1273, 1)))).toBe('EMSGSIZE');
  const data = Array.from({ length: 10 }, (_, index) => filled(1272, index));
  expect(a.sendmmsg(batchOf(data))).toBe(10);
  expect(queued(b)).toEqual(data);
});

describe('reusePort', () => {
  const RECEIVER = `
    const { parentPort, workerData: { dist, port } } = require('node:worker_threads');
    const { UdpSocket } = require(dist);
    const udp = UdpSocket.open({ address: '127.0.0.1', port, reusePort: true });
    let count = 0;
    udp.on('message', () => { count += 1; });
    parentPort.on('message', () => { parentPort.postMessage(count); udp.close(); parentPort.close(); });
    parentPort.postMessage('ready');`;

  it('Workers share a port: each flow goes to one of them, and none is lost', async () => {
    const port = 7007;
    const dist = require.resolve('../../dist');
    const workers = [0, 1].map(() => new Worker(RECEIVER, { eval: true, workerData: { dist, port } }));
    await Promise.all(workers.map((worker) => once(worker, 'message')));
    expect(codeOf(() => open({ port }))).toBe('EADDRINUSE');
    for (let flow = 0; flow < 64; flow++) {
      const udp = open();
      for (let count = 0; count < 4; count++)
        udp.sendmsg(filled(10, count), 0, { to: { address: '127.0.0.1', port } });
    }
    await new Promise((resolve) => setTimeout(resolve, 300));
    const counts = await Promise.all(
      workers.map(async (worker) => {
        const heard = once(worker, 'message');
        worker.postMessage('report');
        return ((await heard) as [number])[0];
      }),
    );
    expect((counts[0] as number) + (counts[1] as number)).toBe(256);
    for (const count of counts) {
      expect(count % 4).toBe(0);
      expect(count).toBeGreaterThan(0);
    }
    await Promise.all(workers.map((worker) => worker.terminate()));
  });
});

describe('multicast', () => {
  it('joins and leaves by the name of an interface or an address of it, and for one source', () => {
    const to = { address: '239.1.2.3', port: 7008 };
    const b = open({ address: '0.0.0.0', port: 7008, reuseAddress: true });
    const a = open({ multicastInterface: 'lo', multicastTtl: 0 });
    const heard = () => {
      a.sendmsg(Buffer.from('all'), 0, { to });
      return queued(b).length === 1;
    };
    expect(heard()).toBe(false);
    b.addMembership('239.1.2.3', '127.0.0.1');
    expect(heard()).toBe(true);
    expect(codeOf(() => b.addMembership('239.1.2.3', 'lo'))).toBe('EADDRINUSE');
    b.dropMembership('239.1.2.3', 'lo');
    expect(heard()).toBe(false);
    expect(codeOf(() => b.dropMembership('239.1.2.3', 'lo'))).toBe('EADDRNOTAVAIL');
    b.addSourceSpecificMembership('127.0.0.1', '239.1.2.3', 'lo');
    expect(heard()).toBe(true);
    b.dropSourceSpecificMembership('127.0.0.1', '239.1.2.3', 'lo');
    b.addSourceSpecificMembership('127.0.0.9', '239.1.2.3', 'lo');
    expect(heard()).toBe(false);
    expect(codeOf(() => b.addMembership('239.1.2.3', 'nosuch0'))).toBe('ENODEV');
    expect(codeOf(() => b.addMembership('10.0.0.1', 'lo'))).toBe('EINVAL');
    expect(codeOf(() => b.addMembership('group', 'lo'))).toBe('ERR_INVALID_ARG_VALUE');
  });

  it('over IPv6', () => {
    const b = open({ address: '::', port: 7009 });
    writeFileSync('/proc/sys/net/ipv6/conf/default/accept_dad', '0');
    const link = Link.create({ type: 'veth', name: 'd0', peer: { name: 'd1' }, up: true });
    Link.get('d1').up();
    link.addAddress('fd77::1/64');
    b.addMembership('ff12::77', '::%d0');
    const a = open({ address: '::', multicastInterface: 'd0' });
    a.setMulticastTTL(0);
    a.setMulticastLoopback(true);
    const to = { address: 'ff12::77', port: 7009 };
    a.sendmsg(Buffer.from('all'), 0, { to });
    const { to: group, from } = b.recvmsg(Buffer.alloc(9));
    expect([group, from.family]).toEqual(['ff12::77', 'IPv6']);
    a.setMulticastLoopback(false);
    a.sendmsg(Buffer.from('none'), 0, { to });
    expect(codeOf(() => b.recvmsg(Buffer.alloc(9), MSG_DONTWAIT))).toBe('EAGAIN');
  });
});

describe('options', () => {
  it('are what the kernel has', () => {
    const udp = open({
      receiveBuffer: 1 << 20,
      sendBuffer: 1 << 19,
      mark: 0xffffffff,
      interface: 'lo',
      ttl: 3,
    });
    expect(udp.getRecvBufferSize()).toBe(2 << 20);
    expect(udp.getSendBufferSize()).toBe(2 << 19);
    expect(udp.name).toBe('lo');
    expect(udp.index).toBe(1);
    udp.setRecvBufferSize(5000);
    expect(udp.getRecvBufferSize()).toBe(10000);
    udp.setBroadcast(true);
    udp.setTTL(255);
    udp.setSendBufferSize(6000);
    expect(udp.getSendBufferSize()).toBe(12000);
  });

  it('that make no sense are refused before anything is opened', () => {
    const bad: [object, string][] = [
      [{ address: 'localhost' }, 'ERR_INVALID_ARG_VALUE'],
      [{ address: '10.0.0.256' }, 'ERR_INVALID_ARG_VALUE'],
      [{ address: 7 }, 'ERR_INVALID_ARG_TYPE'],
      [{ port: 65536 }, 'ERR_OUT_OF_RANGE'],
      [{ port: '7' }, 'ERR_INVALID_ARG_TYPE'],
      [{ family: 5 }, 'ERR_INVALID_ARG_TYPE'],
      [{ family: 'IPv4', address: '::1' }, 'ERR_INVALID_ARG_VALUE'],
      [{ ipv6Only: true }, 'ERR_INVALID_ARG_VALUE'],
      [{ reusePort: 1 }, 'ERR_INVALID_ARG_TYPE'],
      [{ mark: -1 }, 'ERR_OUT_OF_RANGE'],
      [{ ttl: 0 }, 'ERR_OUT_OF_RANGE'],
      [{ pathMtuDiscovery: 'yes' }, 'ERR_INVALID_ARG_VALUE'],
      [{ offload: 'gso' }, 'ERR_INVALID_ARG_VALUE'],
      [{ multicastInterface: 'a/b' }, 'ERR_INVALID_ARG_VALUE'],
      [{ adress: '::1' }, 'ERR_INVALID_ARG_VALUE'],
    ];
    for (const [options, code] of bad) expect(codeOf(() => UdpSocket.open(options))).toBe(code);
    expect(codeOf(() => UdpSocket.open({ interface: 'nosuch0' }))).toBe('ENODEV');
    expect(codeOf(() => UdpSocket.open({ address: '192.0.2.1' }))).toBe('EADDRNOTAVAIL');
    expect(codeOf(() => UdpSocket.fromFd(0))).toBe('ENOTSOCK');
  });

  it('destinations that make no sense are refused', () => {
    const udp = open();
    const x = Buffer.from('x');
    const bad: [object, string][] = [
      [{ to: { address: 'example.org', port: 7 } }, 'ERR_INVALID_ARG_VALUE'],
      [{ to: { address: '127.0.0.1' } }, 'ERR_INVALID_ARG_VALUE'],
      [{ to: { address: '127.0.0.1', port: 0 } }, 'ERR_OUT_OF_RANGE'],
      [{ to: { address: '127.0.0.1', port: 70000 } }, 'ERR_OUT_OF_RANGE'],
      [{ to: { address: 'fe80::1%eth0', port: 7 } }, 'ERR_INVALID_ARG_VALUE'],
      [{ to: { port: 7 } }, 'ERR_INVALID_ARG_TYPE'],
      [{ to: { address: '127.0.0.1', port: 7, host: 'x' } }, 'ERR_INVALID_ARG_VALUE'],
      [{ to: { address: '127.0.0.1', port: 7 }, ecn: 4 }, 'ERR_OUT_OF_RANGE'],
      [{ to: { address: '127.0.0.1', port: 7 }, from: 'me' }, 'ERR_INVALID_ARG_VALUE'],
      [{ from: '127.0.0.1' }, 'ERR_INVALID_ARG_VALUE'],
      [{ to: { address: '127.0.0.1', port: 7 }, offload: {} }, 'ERR_INVALID_ARG_VALUE'],
    ];
    for (const [options, code] of bad) {
      expect(codeOf(() => udp.sendmsg(x, 0, options))).toBe(code);
      expect(codeOf(() => udp.send(x, options))).toBe(code);
      expect(codeOf(() => new PacketBatch().push(x, options))).toBe(code);
    }
    for (const [address, port] of [
      ['host', 7],
      ['127.0.0.1', 0],
    ] as const) {
      expect(() => udp.connect(address, port)).toThrow();
    }
  });
});

it('a namespace can be left behind by its sockets', () => {
  const netns = Netns.create();
  const [a, b] = [open({ netns }), open({ netns })];
  netns.close();
  a.sendmsg(Buffer.from('x'), 0, { to: b.address() });
  expect(kept(b).recvmsg(Buffer.alloc(9)).size).toBe(1);
});
