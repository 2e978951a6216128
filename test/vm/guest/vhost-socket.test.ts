import { randomBytes } from 'node:crypto';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { setImmediate, setTimeout } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  constants,
  Link,
  type MessageSocket,
  PacketBatch,
  type PacketOffload,
  PacketSocket,
  type TunOptions,
  TunSocket,
} from '../../../dist';
import { HOST, PEER } from '../../helpers/device';
import { kernelHas } from '../../helpers/kernel';
import { enterQuietNamespace } from '../../helpers/namespace';
import { ethernetFrame, turnRound, udpPacket } from '../../helpers/packets';
import { FAR_MAC, frame, NEAR_MAC, type Pair, vethPair } from '../../helpers/pair';
import { tcpRound } from '../../helpers/tcp-round';

const { MSG_DONTWAIT, MSG_TRUNC } = constants;

// One for each test: TCP of the one before may still say something to an address that the next one has too.
beforeEach(() => {
  enterQuietNamespace();
});

const descriptors = () => readdirSync('/proc/self/fd').length;
/** The kernel's vhost threads of this process: kernel threads up to 6.3, threads of its own from there on. */
function vhostThreads(): number {
  const own = readdirSync('/proc/self/task').map((id) => `/proc/self/task/${id}/comm`);
  const all = readdirSync('/proc')
    .filter((id) => /^\d+$/.test(id))
    .map((id) => `/proc/${id}/comm`);
  const names = [...own, ...all].map((path) => {
    try {
      return readFileSync(path, 'latin1').trim();
    } catch {
      return '';
    }
  });
  return names.filter((name) => name === `vhost-${process.pid}`).length;
}

const forms = (['tun', 'tap'] as const).flatMap((mode) =>
  (['none', 'split', 'raw'] as const).map((offload) => ({ mode, offload })),
);

describe.each(forms)('a $mode device by vhost with offload $offload', ({ mode, offload }) => {
  let socket: TunSocket;
  let udp: Socket;
  const header = mode === 'tap' ? 14 : 0;

  beforeEach(async () => {
    socket = TunSocket.open({
      mode,
      offload,
      vhost: true,
      vhostRing: 64,
      address: `${HOST}/24`,
      addressGeneration: 'none',
      txQueueLength: 2000,
      receiveTimeout: 20_000,
    });
    if (mode === 'tap') socket.link.addNeighbour(PEER, FAR_MAC);
    udp = createSocket('udp4').bind(0, HOST);
    await once(udp, 'listening');
  });
  afterEach(() => {
    udp.close();
    socket[Symbol.dispose]();
  });

  const fromPeer = (payload: string | Buffer) => {
    const packet = udpPacket([PEER, 4000], [HOST, udp.address().port], payload);
    const mac = Buffer.from(socket.link.mac.replaceAll(':', ''), 'hex');
    return mode === 'tap' ? ethernetFrame(mac, Buffer.from([2, 0, 0, 0, 0, 2]), 0x0800, packet) : packet;
  };
  /** A packet of the host's as its peer answers it: the addresses are exchanged, those of Ethernet too. */
  const back = (packet: Buffer) => {
    if (mode === 'tap') Buffer.concat([packet.subarray(6, 12), packet.subarray(0, 6)]).copy(packet);
    return turnRound(packet, header);
  };
  /** What is still to be done to a packet goes along with it. */
  const unfinished = (info: PacketOffload | undefined) =>
    offload === 'raw' && info ? { offload: info } : {};
  const payload = (packet: Buffer) => packet.subarray(header + 28);
  const hostSends = (data: string | Buffer) =>
    new Promise<void>((resolve, reject) => {
      udp.send(data, 9, PEER, (error) => (error ? reject(error) : resolve()));
    });
  const heard = async (count: number) => {
    const texts: string[] = [];
    while (texts.length < count) texts.push(String((await once(udp, 'message'))[0]));
    return texts;
  };

  it('says so', () => {
    expect([socket.vhost, socket.offload]).toEqual([true, offload]);
  });

  it('sends by sendmsg(), gathered, and by send()', async () => {
    const packet = fromPeer('one');
    const first = once(udp, 'message');
    expect(socket.sendmsg([packet.subarray(0, 10), packet.subarray(10)])).toBe(packet.length);
    expect(String((await first)[0])).toBe('one');
    const second = once(udp, 'message');
    const sent = new Promise((resolve) => socket.send(fromPeer('two'), (...result) => resolve(result)));
    expect(await sent).toEqual([null, packet.length]);
    expect(String((await second)[0])).toBe('two');
  });

  it('sends a batch in order, more than the ring has room for', async () => {
    const count = 200;
    const texts = Array.from({ length: count }, (_, index) => `packet ${index}`);
    const got: string[] = [];
    udp.on('message', (message) => got.push(String(message)));
    const batch = new PacketBatch({ capacity: count, packetSize: 256 });
    for (const text of texts) batch.push(fromPeer(text));
    await socket.sendBatch(batch);
    while (got.length < count) await once(udp, 'message');
    expect(got).toEqual(texts);
    expect(socket.stats().sent).toMatchObject({ packets: count, errors: 0 });
  });

  // The ring may become empty between the look at it and the request to be told: who sleeps then is not woken.
  it('sends batch after batch, whenever the ring has room again', async () => {
    const count = 200;
    const batch = new PacketBatch({ capacity: count, packetSize: 256 });
    for (let index = 0; index < count; index++) batch.push(fromPeer('again'));
    const before = socket.link.counters().rxPackets;
    const rounds = 20;
    for (let round = 0; round < rounds; round++) await socket.sendBatch(batch);
    const arrived = () => socket.link.counters().rxPackets - before;
    await expect.poll(arrived, { timeout: 20_000 }).toBe(rounds * count);
  });

  it('receives by a call that blocks, and by one that does not', async () => {
    expect(() => socket.recvmsg(Buffer.alloc(100), MSG_DONTWAIT)).toThrow(
      expect.objectContaining({ code: 'EAGAIN' }),
    );
    await hostSends('here');
    const room = Buffer.alloc(2048);
    const { bytes, flags } = socket.recvmsg(room);
    expect(String(payload(room.subarray(0, bytes)))).toBe('here');
    expect(flags & MSG_TRUNC).toBe(0);
  });

  it('cuts a packet that is longer than the buffers, and tells its length', async () => {
    for (let index = 0; index < 2; index++) await hostSends(Buffer.alloc(500, index));
    const room = Buffer.alloc(100);
    expect(socket.recvmsg(room)).toMatchObject({ bytes: 100, flags: MSG_TRUNC });
    expect(socket.recvmsg(room, MSG_TRUNC)).toMatchObject({ bytes: 528 + header, flags: MSG_TRUNC });
    expect(socket.stats().received).toMatchObject({ packets: 2, truncated: 2 });
  });

  it("receives as 'message', in order, and as 'batch'", async () => {
    const texts = Array.from({ length: 300 }, (_, index) => `packet ${index}`);
    const got: string[] = [];
    const all = new Promise<void>((resolve) => {
      socket.on('message', (packet, info) => {
        expect(info).toMatchObject({ size: packet.length, flags: 0, protocol: 0x0800 });
        if (got.push(String(payload(packet))) === texts.length) resolve();
      });
    });
    for (const text of texts) await hostSends(text);
    await all;
    expect(got).toEqual(texts);
    socket.removeAllListeners('message');
    const batched: string[] = [];
    const batches = new Promise<void>((resolve) => {
      socket.on('batch', (batch) => {
        for (const packet of batch) batched.push(String(payload(Buffer.from(packet))));
        if (batched.length === texts.length) resolve();
      });
    });
    for (const text of texts) await hostSends(text);
    await batches;
    expect(batched).toEqual(texts);
  });

  // Each packet comes while the program is about to go to sleep, or has just done so: one that is slept over never comes.
  it('wakes for each of many single packets', async () => {
    const count = 300;
    let received = 0;
    socket.on('message', (packet, info) => {
      received += 1;
      socket.send(back(packet), unfinished(info.offload));
    });
    for (let index = 0; index < count; index++) {
      const answer = once(udp, 'message', { signal: AbortSignal.timeout(20_000) });
      // Only the addresses are exchanged on the way.
      udp.send(`${index}`, udp.address().port, PEER);
      if (index % 3 === 1) await setImmediate();
      if (index % 3 === 2) await setTimeout(index % 4);
      expect(String((await answer)[0])).toBe(`${index}`);
    }
    expect(received).toBe(count);
  });

  // Calls and the loop hear of both rings by one event: the one who waits takes it from the other.
  describe('while the loop waits for packets, a call that blocks', () => {
    const COUNT = 50;
    const texts = Array.from({ length: COUNT }, (_, index) => `packet ${index}`);
    const got: string[] = [];
    beforeEach(async () => {
      got.length = 0;
      socket.on('message', (packet) => got.push(String(payload(packet))));
      await setTimeout(50);
    });

    /** The host sends from a thread of its own; not 0 any more when it has sent all. */
    const hostSendsAlone = () => {
      const done = new Int32Array(new SharedArrayBuffer(4));
      const code = `const { workerData: { texts, done, from, to } } = require('node:worker_threads');
        const udp = require('node:dgram').createSocket('udp4').bind(0, from);
        const next = (index) => {
          if (index < texts.length) udp.send(texts[index], 9, to, () => setImmediate(next, index + 1));
          else Atomics.store(done, 0, 1), udp.close();
        };
        udp.on('listening', () => next(0));`;
      new Worker(code, { eval: true, workerData: { texts, done, from: HOST, to: PEER } });
      return done;
    };

    it('and receives leaves it the others', async () => {
      hostSendsAlone();
      const room = Buffer.alloc(2048);
      const { bytes } = socket.recvmsg(room);
      expect(String(payload(room.subarray(0, bytes)))).toBe(texts[0]);
      await expect.poll(() => got.length, { timeout: 20_000 }).toBe(COUNT - 1);
      expect(got).toEqual(texts.slice(1));
    });

    it('and sends leaves it all', async () => {
      const batch = new PacketBatch({ capacity: 200, packetSize: 256 });
      while (batch.length < batch.capacity) batch.push(fromPeer('flood'));
      const done = hostSendsAlone();
      const end = Date.now() + 20_000;
      while (Atomics.load(done, 0) === 0 && Date.now() < end) {
        for (let sent = 0; sent < batch.length; ) sent += socket.sendmmsg(batch, 0, sent);
      }
      await expect.poll(() => got.length, { timeout: 20_000 }).toBe(COUNT);
      expect(got).toEqual(texts);
    });
  });

  it('carries TCP both ways', async () => {
    let busy = Promise.resolve();
    socket.on('batch', (received) => {
      const turned = new PacketBatch({ capacity: received.length, packetSize: 65_600 });
      for (let index = 0; index < received.length; index++) {
        turned.push(back(Buffer.from(received.at(index))), unfinished(received.info(index).offload));
      }
      busy = busy.then(() => socket.sendBatch(turned)).then(() => {});
    });
    const data = randomBytes(2 ** 19);
    expect((await tcpRound(HOST, PEER, data)).equals(data)).toBe(true);
    await busy;
  });

  it('lets what was sent leave before it is closed', async () => {
    const count = 60; // what the ring has room for
    const texts = heard(count);
    const batch = new PacketBatch({ capacity: count, packetSize: 256 });
    for (let index = 0; index < count; index++) batch.push(fromPeer(`${index}`));
    expect(socket.sendmmsg(batch)).toBe(count);
    socket.setPersist(true);
    const { link } = socket;
    socket.close();
    expect(await texts).toEqual(Array.from({ length: count }, (_, index) => `${index}`));
    link.delete();
  });

  it('gives the descriptor up without vhost', async () => {
    using again = TunSocket.fromFd(socket.detach());
    expect(again.vhost).toBe(false);
    const message = once(udp, 'message');
    again.sendmsg(fromPeer('by itself'));
    expect(String((await message)[0])).toBe('by itself');
  });

  it('drops and counts what the device refuses', () => {
    if (mode === 'tap') return expect(socket.sendmsg(fromPeer('x'))).toBeGreaterThan(0);
    const before = socket.link.counters();
    expect(socket.sendmsg(Buffer.alloc(40))).toBe(40);
    const dropped = () => {
      const now = socket.link.counters();
      return now.rxDropped + now.rxErrors - before.rxDropped - before.rxErrors;
    };
    expect(socket.stats().sent).toMatchObject({ packets: 1, errors: 0 });
    return expect.poll(dropped, { timeout: 10_000 }).toBeGreaterThan(0);
  });

  it('says EBADFD when its device is gone', () => {
    socket.link.delete();
    expect(() => socket.recvmsg(Buffer.alloc(100))).toThrow(expect.objectContaining({ code: 'EBADFD' }));
  });

  it('ends when its device is deleted while somebody listens', async () => {
    socket.on('message', () => {});
    await setImmediate();
    const error = once(socket, 'error');
    const closed = new Promise<void>((resolve) => socket.once('close', resolve));
    const deleted = error.catch((thrown) => [thrown]);
    socket.link.delete();
    expect((await deleted)[0]).toMatchObject({ code: 'EBADFD' });
    await closed;
  });
});

describe('what many sockets leave behind', () => {
  const leaves = (count: number, options: TunOptions) => {
    const open = () => TunSocket.open({ name: 'many', vhost: true, vhostRing: 64, ...options });
    open().close();
    const before = [descriptors(), vhostThreads()];
    for (let index = 0; index < count; index++) {
      const socket = open();
      if (index === 0) expect(vhostThreads()).toBe((before[1] as number) + 1);
      socket.close();
    }
    expect([descriptors(), vhostThreads()]).toEqual(before);
  };

  it.each(forms)('is nothing: $mode, offload $offload', (form) => leaves(20, form));

  it('is nothing after many that attached to one device', () => {
    TunSocket.open({ name: 'many', offload: 'split', persist: true }).close();
    // A thousand with one kernel is enough: each takes some 30 ms.
    leaves(kernelHas(6, 12) ? 1000 : 100, { offload: 'split' });
    Link.get('many').delete();
  });

  it('is nothing where opening fails after the device was made', () => {
    const before = descriptors();
    for (let index = 0; index < 20; index++) {
      expect(() => TunSocket.open({ vhost: true, vhostDevice: '/dev/null' })).toThrow(/ENOTTY/);
    }
    expect(descriptors()).toBe(before);
  });
});

describe('queues of one device', () => {
  it('go by vhost all', () => {
    const options = { name: 'queues', multiQueue: true, offload: 'split', vhost: true } as const;
    using first = TunSocket.open(options);
    using second = TunSocket.open(options);
    expect([first.vhost, second.vhost]).toEqual([true, true]);
  });

  it('can not come to vhost where the first has headers of another size', () => {
    const options = { name: 'queues', multiQueue: true, offload: 'split' } as const;
    using first = TunSocket.open(options);
    expect(() => TunSocket.open({ ...options, vhost: true })).toThrow(
      expect.objectContaining({ code: 'EBUSY', syscall: 'TUNSETVNETHDRSZ' }),
    );
    using second = TunSocket.open({ ...options, vhost: 'prefer' });
    expect([first.vhost, second.vhost]).toEqual([false, false]);
  });
});

describe('a packet socket by vhost', () => {
  let pair: Pair;
  beforeEach(() => {
    pair = vethPair();
  });
  afterEach(() => pair.close());

  const packet = (text: string) => udpPacket([PEER, 4000], [HOST, 9], text);
  const exchange = (near: MessageSocket, far: MessageSocket) => {
    const texts = Array.from({ length: 50 }, (_, index) => `frame ${index}`);
    const room = Buffer.alloc(2048);
    for (const text of texts) far.sendmsg(frame(0x0800, packet(text), NEAR_MAC, FAR_MAC));
    for (const text of texts) {
      const { bytes } = near.recvmsg(room);
      expect(room.subarray(0, bytes)).toEqual(frame(0x0800, packet(text), NEAR_MAC, FAR_MAC));
      near.sendmsg(frame(0x0800, packet(text), FAR_MAC, NEAR_MAC));
      const back = far.recvmsg(room);
      expect(room.subarray(0, back.bytes)).toEqual(frame(0x0800, packet(text), FAR_MAC, NEAR_MAC));
    }
  };

  it.each([undefined, 'none'] as const)('carries frames both ways with offload %s', (offload) => {
    const ours = { ignoreOutgoing: true, receiveTimeout: 20_000 };
    using near = PacketSocket.open({
      interface: 'v0',
      netns: pair.near,
      vhost: true,
      ...ours,
      ...(offload && { offload }),
    });
    using far = PacketSocket.open({ interface: 'v1', netns: pair.far, ...ours });
    expect(near.vhost).toBe(true);
    exchange(near, far);
  });

  it('peeks', () => {
    const ours = { ignoreOutgoing: true, receiveTimeout: 20_000 };
    using near = PacketSocket.open({ interface: 'v0', netns: pair.near, vhost: true, ...ours });
    using far = PacketSocket.open({ interface: 'v1', netns: pair.far, ...ours });
    const sent = frame(0x0800, packet('once'), NEAR_MAC, FAR_MAC);
    far.sendmsg(sent);
    const room = Buffer.alloc(2048);
    expect(near.recvmsg(room, constants.MSG_PEEK).bytes).toBe(sent.length);
    expect(near.recvmsg(room).bytes).toBe(sent.length);
    expect(() => near.recvmsg(room, MSG_DONTWAIT)).toThrow(expect.objectContaining({ code: 'EAGAIN' }));
  });
});
