import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { constants, Netns, PacketBatch, TunSocket } from '../../dist';
import { codeOf, packets, type Stage, stage, WHOLE_PACKETS } from '../helpers/device';
import { enterQuietNamespace } from '../helpers/namespace';
import { udpPayload } from '../helpers/packets';
import { FRAME, fill, HAS_TC, slowLink } from '../helpers/slow-link';

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise(setImmediate);
}

beforeAll(enterQuietNamespace);

describe.each(WHOLE_PACKETS)('offload %s', (offload) => {
  let at: Stage;
  beforeEach(async () => {
    at = await stage({ mode: 'tun', packetInfo: false, offload });
  });
  afterEach(() => at[Symbol.asyncDispose]());

  const sizes = (received: Buffer[]) => received.map((packet) => udpPayload(packet).length);
  /** 'close'; events.once() would listen for 'error' too. */
  const closeOf = (socket: TunSocket) => new Promise<void>((resolve) => socket.once('close', resolve));
  const turn = () => new Promise((resolve) => setImmediate(resolve));
  /** Packets of 1, 2, 3 ... bytes of payload. */
  const hostSendsSizes = async (count: number) => {
    for (let size = 1; size <= count; size++) await at.hostSends(size);
  };

  describe('receiving', () => {
    it("'listening' comes on a later tick, once", async () => {
      let events = 0;
      using tun = TunSocket.open({ offload });
      tun.on('listening', () => events++);
      expect(events).toBe(0);
      await turn();
      expect(events).toBe(1);
    });

    it("'message' hands out packets in order, which the listener owns, with one shape of info", async () => {
      const received: Buffer[] = [];
      at.tun.on('message', (packet, info) => {
        expect(info).toEqual({
          size: packet.length,
          bytes: packet.length,
          flags: 0,
          protocol: constants.ETH_P_IP,
        });
        received.push(packet);
      });
      await hostSendsSizes(100);
      while (received.length < 100) await turn();
      expect(sizes(received)).toEqual(Array.from({ length: 100 }, (_, index) => index + 1));
      for (const packet of received) expect(packet.buffer.byteLength).toBeLessThanOrEqual(64 * 1024);
    });

    it("'batch' shows all packets of a wake-up, and both events may be listened to", async () => {
      let inBatches = 0;
      let messages = 0;
      at.tun.on('batch', (batch) => {
        expect(batch).toBeInstanceOf(PacketBatch);
        for (const packet of batch) expect(udpPayload(packet).length).toBe(++inBatches);
      });
      at.tun.on('message', () => messages++);
      await hostSendsSizes(10);
      while (messages < 10) await turn();
      expect(inBatches).toBe(10);
    });

    it('receive() gives packets to callers in their order, before listeners', async () => {
      const calls = [at.tun.receive(), at.tun.receive()];
      const message = once(at.tun, 'message');
      await hostSendsSizes(3);
      expect(sizes([...(await Promise.all(calls)), (await message)[0]])).toEqual([1, 2, 3]);
    });

    it('receive() can be aborted, and takes no packet then', async () => {
      await expect(at.tun.receive({ signal: AbortSignal.abort() })).rejects.toMatchObject({
        code: 'ABORT_ERR',
      });
      const controller = new AbortController();
      const waiting = at.tun.receive({ signal: controller.signal });
      controller.abort();
      await expect(waiting).rejects.toMatchObject({ name: 'AbortError' });
      await at.hostSends(7);
      expect(sizes([await at.tun.receive()])).toEqual([7]);
    });

    it('pause() inside a listener loses nothing and delivers nothing more until resume()', async () => {
      const received: Buffer[] = [];
      at.tun.on('message', (packet) => {
        received.push(packet);
        if (received.length % 3 === 0) at.tun.pause();
      });
      await hostSendsSizes(9);
      for (const count of [3, 6, 9]) {
        while (received.length < count) await turn();
        for (let turns = 0; turns < 5; turns++) await turn();
        expect(received).toHaveLength(count);
        at.tun.resume();
      }
      expect(sizes(received)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
    });

    it('what a pause left over comes first in recvmsg, recvmmsg and receive', async () => {
      await hostSendsSizes(6);
      at.tun.once('message', () => at.tun.pause());
      await once(at.tun, 'message');
      const room = Buffer.alloc(2048);
      const { bytes } = at.tun.recvmsg(room);
      expect(udpPayload(room.subarray(0, bytes))).toHaveLength(2);
      expect(at.tun.recvmsg(Buffer.alloc(30))).toMatchObject({
        bytes: 30,
        size: 31,
        flags: constants.MSG_TRUNC,
      });
      expect(sizes([await at.tun.receive()])).toEqual([4]);
      const batch = new PacketBatch({ packetSize: 30 });
      expect(at.tun.recvmmsg(batch)).toBe(2);
      expect([...batch.sizes.subarray(0, 2)]).toEqual([33, 34]);
      expect([...batch.flags.subarray(0, 2)]).toEqual([constants.MSG_TRUNC, constants.MSG_TRUNC]);
    });

    it('the iterator gives packets one by one and ends when the socket is closed', async () => {
      await hostSendsSizes(200);
      const received: Buffer[] = [];
      for await (const packet of at.tun) {
        received.push(packet);
        if (received.length === 200) at.tun.close();
      }
      expect(sizes(received)).toEqual(Array.from({ length: 200 }, (_, index) => index + 1));
    });

    it('stream() carries packets both ways, one a chunk', async () => {
      const stream = at.tun.stream();
      await hostSendsSizes(3);
      const received: Buffer[] = [];
      for await (const packet of stream) {
        received.push(packet);
        if (received.length === 3) break;
      }
      expect(sizes(received)).toEqual([1, 2, 3]);
      expect(at.tun.closed).toBe(true);
    });

    it('a stream writes packets', async () => {
      at.tun.stream().write(at.fromPeer('streamed'));
      expect((await once(at.udp, 'message'))[0].toString()).toBe('streamed');
    });
  });

  describe('the memory of a batch', () => {
    it('stays as it is while a listener reads it, whatever receive() is called meanwhile', async () => {
      using other = TunSocket.open({ offload, address: '10.0.9.1/24' });
      const sender = createSocket('udp4');
      await new Promise((resolve) => sender.send('intruder', 9, '10.0.9.2', resolve));
      sender.close();
      let intruder: Promise<Buffer> | undefined;
      const seen: number[][] = [];
      at.tun.on('batch', (batch) => {
        intruder ??= other.receive();
        seen.push(sizes([...batch]));
      });
      await hostSendsSizes(3);
      while (seen.flat().length < 3) await turn();
      expect(seen.flat()).toEqual([1, 2, 3]);
      expect(udpPayload((await intruder) as Buffer).toString()).toBe('intruder');
    });

    it('may be transferred away by a listener: this socket and others get a new one', async () => {
      using other = TunSocket.open({ offload, address: '10.0.9.1/24' });
      const received: number[] = [];
      other.on('message', (packet) => received.push(udpPayload(packet).length));
      const taken = once(at.tun, 'batch').then(([batch]) => {
        structuredClone(batch.buffer.buffer, { transfer: [batch.buffer.buffer] });
      });
      await at.hostSends(1);
      await taken;
      const next = once(at.tun, 'message');
      await at.hostSends(2);
      expect(sizes([(await next)[0]])).toEqual([2]);
      const sender = createSocket('udp4');
      await new Promise((resolve) => sender.send('three', 9, '10.0.9.2', resolve));
      sender.close();
      while (received.length === 0) await turn();
      expect(received).toEqual([5]);
    });
  });

  describe('sending', () => {
    it('send() is asynchronous, in order with sendmsg() and sendmmsg(), and copies at once', async () => {
      const batch = new PacketBatch();
      batch.push(at.fromPeer('c'));
      const order: string[] = [];
      const first = at.fromPeer('a');
      const messages = (async () => {
        while (order.length < 4) order.push((await once(at.udp, 'message'))[0].toString());
      })();
      let called = false;
      at.tun.send(first, (error, bytes) => {
        expect(error).toBeNull();
        expect(bytes).toBe(first.length);
        called = true;
      });
      expect(at.tun.getSendQueueCount()).toBe(1);
      expect(at.tun.getSendQueueSize()).toBe(first.length);
      expect(called).toBe(false);
      const size = first.length;
      first.fill(0);
      at.tun.sendmsg(at.fromPeer('b'));
      at.tun.sendmmsg(batch);
      at.tun.send([at.fromPeer('d').subarray(0, 5), at.fromPeer('d').subarray(5)]);
      expect(called).toBe(false);
      await messages;
      expect(order).toEqual(['a', 'b', 'c', 'd']);
      expect(called).toBe(true);
      expect(size).toBeGreaterThan(0);
      expect(at.tun.getSendQueueCount()).toBe(0);
    });

    it('an error goes to the callback, or is an event, and takes only its packet', async () => {
      const bad = Buffer.alloc(20); // neither IPv4 nor IPv6
      const results: (string | null)[] = [];
      const done = new Promise<void>((resolve) => {
        at.tun.send(at.fromPeer('x'), (error) => results.push(error && 'failed'));
        at.tun.send(bad, (error, bytes) => results.push(`${(error as { code?: string }).code} ${bytes}`));
        at.tun.send(at.fromPeer('y'), (error) => {
          results.push(error && 'failed');
          resolve();
        });
      });
      await done;
      expect(results).toEqual([null, 'EINVAL 0', null]);
      at.tun.send(bad);
      expect(await once(at.tun, 'error').catch((error) => error)).toMatchObject([
        { code: 'EINVAL', syscall: 'send' },
      ]);
      expect(at.tun.closed).toBe(false);
    });

    it('the queue is bounded: over sendQueueLimit a packet fails with ENOBUFS', async () => {
      using tun = TunSocket.open({ offload, sendQueueLimit: 100 });
      const codes: unknown[] = [];
      for (let sends = 0; sends < 3; sends++) {
        tun.send(at.fromPeer('0123456789'), (error) => codes.push((error as { code?: string } | null)?.code));
      }
      await turn();
      expect(codes.sort()).toEqual(['ENOBUFS', undefined, undefined]);
    });

    it.runIf(HAS_TC)('waits for room in the kernel, and goes on when there is some', async () => {
      using slow = slowLink({ offload });
      const { tap, release } = slow;
      const results: unknown[] = [];
      expect(codeOf(() => fill(tap))).toBe('EAGAIN');
      for (let sends = 0; sends < 5; sends++) tap.send(FRAME, (error) => results.push(error));
      await turn();
      expect(results).toEqual([]);
      expect(tap.getSendQueueCount()).toBe(5);
      expect(codeOf(() => tap.sendmsg(FRAME, constants.MSG_DONTWAIT))).toBe('EAGAIN');
      release();
      while (results.length < 5) await turn();
      expect(results).toEqual([null, null, null, null, null]);
    });
  });

  describe('life', () => {
    it('a second close() throws; dispose does not', async () => {
      const closed = once(at.tun, 'close');
      at.tun.close();
      expect(at.tun).toMatchObject({ closed: true, fd: -1, name: expect.stringMatching(/^tun/) });
      for (const use of [
        () => at.tun.close(),
        () => at.tun.sendmsg(Buffer.alloc(20)),
        () => at.tun.recvmsg(Buffer.alloc(20)),
        () => at.tun.send(Buffer.alloc(20)),
      ]) {
        expect(codeOf(use)).toBe('ERR_SOCKET_CLOSED');
      }
      at.tun[Symbol.dispose]();
      await at.tun[Symbol.asyncDispose]();
      await closed;
    });

    it('close() sends what is queued, and ends what waits', async () => {
      const ended = expect(at.tun.receive()).rejects.toMatchObject({ code: 'ERR_SOCKET_CLOSED' });
      const message = once(at.udp, 'message');
      at.tun.send(at.fromPeer('last'));
      at.tun.close();
      expect((await message)[0].toString()).toBe('last');
      await ended;
      await expect(at.tun.receive()).rejects.toMatchObject({ code: 'ERR_SOCKET_CLOSED' });
    });

    it('an aborted signal closes the socket', async () => {
      const controller = new AbortController();
      const tun = TunSocket.open({ offload, signal: controller.signal });
      controller.abort();
      await once(tun, 'close');
      expect(tun.closed).toBe(true);
    });

    it("the device deleted is an 'error' EBADFD and then 'close'", async () => {
      const events: unknown[] = [];
      at.tun.on('message', () => {});
      at.tun.on('error', (error) => events.push((error as { code?: string }).code));
      const closed = closeOf(at.tun).then(() => events.push('close'));
      await turn();
      at.tun.link.delete();
      await closed;
      expect(events).toEqual(['EBADFD', 'close']);
    });

    it('the device deleted ends who waits in receive(), and only there', async () => {
      const waiting = at.tun.receive();
      const closed = closeOf(at.tun);
      at.tun.link.delete();
      await expect(waiting).rejects.toMatchObject({ code: 'EBADFD' });
      await closed;
    });

    it("brought down is a 'link' event and no error; the socket works again when it is up", async () => {
      const kinds: string[] = [];
      at.tun.on('link', ({ kind }) => kinds.push(kind));
      at.tun.on('message', () => {});
      const waiting = at.tun.receive();
      await until(() => at.tun.link.isUp);
      const down = once(at.tun, 'link');
      at.tun.link.down();
      expect((await down)[0]).toMatchObject({ kind: 'down' });
      // What is sent meanwhile is lost: with a callback that is told, without one it is no 'error' either.
      const failed = await new Promise((resolve) => at.tun.send(at.fromPeer('lost'), resolve));
      expect(failed).toMatchObject({ code: 'EIO', syscall: 'send', interface: at.tun.name });
      at.tun.send(at.fromPeer('lost too'));
      await turn();
      await turn();
      expect(at.tun.stats().sent.errors).toBe(2);
      expect(at.tun.closed).toBe(false);
      const up = until(() => kinds.includes('up'));
      at.tun.link.up();
      await up;
      await at.hostSends(5);
      expect(sizes([await waiting])).toEqual([5]);
      const message = once(at.tun, 'message');
      await at.hostSends(6);
      expect(sizes([(await message)[0]])).toEqual([6]);
    });

    it('a device that is moved to another namespace goes on', async () => {
      using netns = Netns.create();
      const { link } = at.tun;
      at.tun.on('message', () => {});
      at.tun.on('error', (error) => expect.unreachable(String(error)));
      link.moveTo(netns);
      for (let turns = 0; turns < 5; turns++) await turn();
      expect(at.tun.closed).toBe(false);
    });

    it('stats() counts both ways, also after close', async () => {
      await at.hostSends(100);
      at.tun.recvmsg(Buffer.alloc(50));
      codeOf(() => at.tun.recvmsg(Buffer.alloc(50), constants.MSG_DONTWAIT));
      const sent = at.tun.sendmsg(at.fromPeer('counted'));
      codeOf(() => at.tun.sendmsg(Buffer.alloc(20)));
      at.tun.close();
      expect(at.tun.stats()).toEqual({
        received: { packets: 1, bytes: 128, truncated: 1, wouldBlock: 1, errors: 0 },
        sent: { packets: 1, bytes: sent, truncated: 0, wouldBlock: 0, errors: 1 },
        // What only a socket that splits has to say.
        ...(offload === 'split' ? { offload: { received: 0, sent: 0, refused: [] } } : {}),
      });
    });

    it('waits for several packets in turn', async () => {
      await hostSendsSizes(5);
      expect(sizes(await packets(at.tun, 5))).toEqual([1, 2, 3, 4, 5]);
    });
  });
});
