import { MessageChannel, receiveMessageOnPort } from 'node:worker_threads';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { constants, type MessageInfo, PacketBatch, TunSocket } from '../../dist';
import { codeOf, HOST, PEER, type Stage, stage, WHOLE_PACKETS } from '../helpers/device';
import { enterQuietNamespace } from '../helpers/namespace';
import { udpPacket } from '../helpers/packets';

const { MSG_DONTWAIT } = constants;

beforeAll(() => enterQuietNamespace());

const turn = () => new Promise((resolve) => setImmediate(resolve));
/** IPv4 and UDP headers. */
const HEADERS = 28;
/** Packets are told apart by their size. */
const numberOf = (packet: Buffer) => packet.length - HEADERS;
const range = (from: number, to: number) => Array.from({ length: to - from }, (_, index) => from + index);

describe.each(WHOLE_PACKETS)('offload %s', (offload) => {
  let at: Stage;
  beforeEach(async () => {
    at = await stage({ mode: 'tun', packetInfo: false, offload });
  });
  afterEach(() => at[Symbol.asyncDispose]());

  /** Packets with the numbers 1 to `count` wait in the kernel. */
  async function queued(count: number): Promise<void> {
    for (let number = 1; number <= count; number++) await at.hostSends(number);
  }
  const recv = () => {
    const room = Buffer.alloc(2048);
    return numberOf(room.subarray(0, at.tun.recvmsg(room, MSG_DONTWAIT).bytes));
  };

  describe('a receive call inside a listener gets the next packet in order', () => {
    it.each([
      ['recvmsg()', async () => recv()],
      ['receive()', async () => numberOf(await at.tun.receive())],
      ['receiveMessage()', async () => numberOf((await at.tun.receiveMessage()).packet)],
      [
        'recvmmsg()',
        async () => {
          const batch = new PacketBatch({ capacity: 1 });
          at.tun.recvmmsg(batch, MSG_DONTWAIT);
          return numberOf(batch.at(0));
        },
      ],
    ] as [string, () => Promise<number>][])('%s', async (_, take) => {
      await queued(100);
      const heard: number[] = [];
      const taken: Promise<number>[] = [];
      at.tun.on('message', (packet) => {
        heard.push(numberOf(packet));
        if (numberOf(packet) % 10 === 1) taken.push(take());
      });
      while (heard.length + taken.length < 100) await turn();
      const got = await Promise.all(taken);
      expect(got).toEqual(range(0, 10).map((ten) => ten * 10 + 2));
      expect(heard).toEqual(range(1, 101).filter((number) => number % 10 !== 2));
    });

    it('recvmsg() in a callback of send()', async () => {
      await queued(3);
      const first = await at.tun.receive();
      const second = await new Promise<number>((resolve) =>
        at.tun.send(at.fromPeer('x'), () => resolve(recv())),
      );
      expect([numberOf(first), second, numberOf(await at.tun.receive())]).toEqual([1, 2, 3]);
    });

    it('pause() and a blocking recvmsg() with packets of the wake-up still undelivered', async () => {
      await queued(5);
      const heard: number[] = [];
      const all = new Promise<void>((resolve) => {
        at.tun.on('message', (packet) => {
          heard.push(numberOf(packet));
          if (heard.length !== 1) return;
          at.tun.pause();
          const room = Buffer.alloc(2048);
          heard.push(numberOf(room.subarray(0, at.tun.recvmsg(room).bytes)));
          resolve();
        });
      });
      await all;
      await turn();
      expect(heard).toEqual([1, 2]);
      at.tun.resume();
      while (heard.length < 5) await turn();
      expect(heard).toEqual([1, 2, 3, 4, 5]);
    });

    it("receive() in a 'batch' listener gets what comes behind the batch", async () => {
      // More than one wake-up reads.
      const count = offload === 'split' ? 450 : 70;
      await queued(count);
      const sizes: number[] = [];
      let behind: Promise<Buffer> | undefined;
      at.tun.on('batch', (batch) => {
        behind ??= at.tun.receive();
        sizes.push(...Array.from(batch, numberOf));
      });
      while (sizes.length < count - 1) await turn();
      const taken = numberOf((await behind) as Buffer);
      expect(sizes).not.toContain(taken);
      expect([...sizes, taken].sort((a, b) => a - b)).toEqual(range(1, count + 1));
      expect(sizes).toEqual([...sizes].sort((a, b) => a - b));
    });
  });

  it('a listener that throws loses none of the other packets', async () => {
    await queued(20);
    const heard: number[] = [];
    const thrown: unknown[] = [];
    const onUncaught = (error: unknown) => thrown.push(error);
    const listeners = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException');
    process.on('uncaughtException', onUncaught);
    try {
      at.tun.on('message', (packet) => {
        heard.push(numberOf(packet));
        if (heard.length === 3) throw new Error('listener');
      });
      while (heard.length < 20) await turn();
    } finally {
      process.off('uncaughtException', onUncaught);
      for (const listener of listeners) process.on('uncaughtException', listener);
    }
    expect(heard).toEqual(range(1, 21));
    expect(thrown).toHaveLength(1);
  });

  it('read ahead by receive(), then listened for: all packets, in order', async () => {
    await queued(10);
    expect(numberOf(await at.tun.receive())).toBe(1);
    const heard: number[] = [];
    at.tun.on('message', (packet) => heard.push(numberOf(packet)));
    while (heard.length < 9) await turn();
    expect(heard).toEqual(range(2, 11));
  });

  it('each way of taking gives all packets in order, with what is known of each', async () => {
    await queued(40);
    const got: number[] = [];
    for await (const packet of at.tun) if (got.push(numberOf(packet)) === 10) break;
    const infos: MessageInfo[] = [];
    for await (const { packet, info } of at.tun.messages()) {
      infos.push(info);
      if (got.push(numberOf(packet)) === 20) break;
    }
    const { packet, info } = await at.tun.receiveMessage();
    got.push(numberOf(packet));
    for (const one of [info, ...infos]) {
      expect({ ...one }).toMatchObject({ flags: 0, protocol: 0x0800 });
      expect(JSON.parse(JSON.stringify(one)).size).toBeGreaterThan(HEADERS);
    }
    for await (const chunk of at.tun.stream({ info: true })) {
      if (got.push(numberOf(chunk.packet)) === 40) break;
    }
    expect(got).toEqual(range(1, 41));
  });

  describe('work for each turn of the loop is bounded', () => {
    /** The most packets that were taken between two turns of the loop, while more are waiting. */
    async function mostInATurn(take: (count: () => void) => void, total: number): Promise<number> {
      let taken = 0;
      let most = 0;
      let before = 0;
      take(() => {
        taken += 1;
      });
      while (taken < total) {
        await turn();
        most = Math.max(most, taken - before);
        before = taken;
      }
      return most;
    }

    it.each([
      [
        'for await',
        async (count: () => void) => {
          for await (const _ of at.tun) count();
        },
      ],
      [
        'receive()',
        async (count: () => void) => {
          for (;;) {
            await at.tun.receive();
            count();
          }
        },
      ],
      [
        'stream()',
        async (count: () => void) => {
          for await (const _ of at.tun.stream()) count();
        },
      ],
    ] as [string, (count: () => void) => Promise<void>][])('%s', async (_, take) => {
      for (let number = 0; number < 450; number++) await at.hostSends(20);
      const most = await mostInATurn((count) => void take(count).catch(() => {}), 450);
      // One share by a wake-up, and one by calls between two of them.
      expect(most).toBeLessThanOrEqual(2 * 65);
    });

    it("'message' with work that takes long", async () => {
      for (let number = 0; number < 450; number++) await at.hostSends(20);
      const most = await mostInATurn((count) => {
        at.tun.on('message', () => {
          const until = performance.now() + 0.2;
          while (performance.now() < until);
          count();
        });
      }, 450);
      // A wake-up and a turn of its own for what was put back, of 40 packets each.
      expect(most).toBeLessThanOrEqual(80);
    });
  });

  describe('a packet is its listener’s own', () => {
    it.each([1, 60, 200, 1400])('what he does to one of %i bytes leaves the others', async (size) => {
      for (let count = 0; count < 3; count++) await at.hostSends(size);
      const { port1, port2 } = new MessageChannel();
      const lengths: number[] = [];
      const all = new Promise<void>((resolve) => {
        at.tun.on('message', (packet) => {
          try {
            port1.postMessage(packet, [packet.buffer as ArrayBuffer]);
          } catch (error) {
            // Newer versions of Node say so where memory can't be transferred.
            expect((error as Error).name).toBe('DataCloneError');
            port1.postMessage(packet);
          }
          if (lengths.push(packet.length) === 3) resolve();
        });
      });
      await all;
      const arrived = range(0, 3).map(() => receiveMessageOnPort(port2)?.message.length);
      expect(arrived).toEqual([HEADERS + size, HEADERS + size, HEADERS + size]);
      port1.close();
    });

    it('a small one carries nothing but itself when it is cloned', async () => {
      for (let count = 0; count < 5; count++) await at.hostSends(30);
      const packet = await at.tun.receive();
      expect(structuredClone(packet).buffer.byteLength).toBe(packet.length);
    });
  });

  it('for await throws when the device is deleted, also where somebody listens for errors', async () => {
    for (const listened of [false, true]) {
      const tun = TunSocket.open({ offload });
      const errors: unknown[] = [];
      if (listened) tun.on('error', (error) => errors.push(error));
      const iterating = (async () => {
        for await (const _ of tun);
      })();
      await turn();
      tun.link.delete();
      await expect(iterating).rejects.toMatchObject({ code: 'EBADFD' });
      expect(tun.closed).toBe(true);
      await turn();
      expect(errors).toHaveLength(listened ? 1 : 0);
      // Who comes later is told too.
      await expect(tun[Symbol.asyncIterator]().next()).rejects.toMatchObject({ code: 'EBADFD' });
    }
  });
});

describe('listeners', () => {
  it('removeAllListeners() removes them all, and adds none', () => {
    using tun = TunSocket.open();
    for (const event of ['message', 'error', 'close', 'link'] as const) tun.on(event, () => {});
    for (let count = 0; count < 3; count++) {
      tun.removeAllListeners();
      expect(tun.eventNames()).toEqual([]);
    }
  });

  it('nothing that is not public can be reached on a socket', () => {
    using tun = TunSocket.open();
    const own = Reflect.ownKeys(tun).filter((key) => typeof key === 'string' && !key.startsWith('_'));
    expect(own).toEqual([]);
    for (const name of [
      'handle',
      'sendBatchNow',
      'ioError',
      'flushQueue',
      'takeKept',
      'tookPackets',
      'metadata',
    ]) {
      expect((tun as unknown as Record<string, unknown>)[name]).toBeUndefined();
    }
    expect(codeOf(() => Reflect.construct(TunSocket, []))).toBe('ERR_ILLEGAL_CONSTRUCTOR');
    expect(() => Reflect.construct(TunSocket, [])).toThrow('TunSocket.open()');
  });

  it('shows what it is', async () => {
    const { inspect } = await import('node:util');
    using tun = TunSocket.open({ name: 'shown' });
    expect(inspect(tun)).toMatch(/^TunSocket \{ name: 'shown', index: \d+, fd: \d+, offload: 'none' \}$/);
    expect(inspect(new PacketBatch({ capacity: 3 }))).toBe(
      'PacketBatch { 0 of 3 packets, packetSize: 2048 }',
    );
  });
});

describe('sending', () => {
  let tun: TunSocket;
  const packet = (size: number) => udpPacket([PEER, 4000], [HOST, 9], 'x'.repeat(size));
  beforeEach(() => {
    tun = TunSocket.open({ address: `${HOST}/24`, sendQueueLimit: 1 << 20 });
  });
  afterEach(() => tun[Symbol.dispose]());

  it('sendBatch() sends a whole batch behind what send() has queued', async () => {
    const order: string[] = [];
    tun.send(packet(1), () => order.push('send'));
    const batch = new PacketBatch({ capacity: 100 });
    while (batch.length < batch.capacity) batch.push(packet(batch.length));
    expect(tun.getSendQueueCount()).toBe(1);
    const sent = tun.sendBatch(batch).then((count) => {
      order.push('batch');
      return count;
    });
    expect(tun.getSendQueueCount()).toBe(101);
    expect(await sent).toBe(100);
    expect(order).toEqual(['send', 'batch']);
    expect(tun.getSendQueueCount()).toBe(0);
    expect(tun.getSendQueueSize()).toBe(0);
    expect(tun.stats().sent.packets).toBe(101);
  });

  it('sendBatch() says how many were sent before one failed, and the queue goes on', async () => {
    const batch = new PacketBatch();
    batch.push(packet(1));
    batch.push(Buffer.from([0x55, 1, 2, 3]));
    batch.push(packet(2));
    await expect(tun.sendBatch(batch)).rejects.toMatchObject({ code: 'EINVAL', syscall: 'send', sent: 1 });
    await new Promise((resolve) => tun.send(packet(3), resolve));
    expect(tun.stats().sent.packets).toBe(2);
    expect(() => tun.sendmsg(Buffer.from([0x55, 1]))).toThrow("frames need mode: 'tap'");
  });

  it('close() tells of each send that it could not make, with a callback or without', async () => {
    const errors: unknown[] = [];
    const called: unknown[] = [];
    tun.on('error', (error) => errors.push((error as { code?: string }).code));
    tun.link.delete();
    for (let count = 0; count < 10; count++) tun.send(packet(10));
    for (let count = 0; count < 5; count++) {
      tun.send(packet(10), (error) => called.push((error as { code?: string } | null)?.code));
    }
    await new Promise<void>((resolve) => tun.close(resolve));
    await turn();
    expect(errors).toHaveLength(10);
    expect(called).toHaveLength(5);
    expect(new Set([...errors, ...called])).toEqual(new Set(['EBADFD']));
  });

  it('bounds what is really held, not the payload only', async () => {
    using small = TunSocket.open({ sendQueueLimit: 100 });
    let refused = 0;
    for (let count = 0; count < 100_000; count++) {
      small.send(Buffer.alloc(0), (error) => {
        if ((error as { code?: string } | null)?.code === 'ENOBUFS') refused += 1;
      });
    }
    const held = small.getSendQueueCount();
    expect(held).toBeLessThan(1000);
    await turn();
    expect(refused).toBe(100_000 - held);
  });

  it('a view that lies about its length is sent as it is, and the queue keeps its limit', async () => {
    const view = packet(20);
    Object.defineProperty(view, 'byteLength', { value: Number.NaN });
    expect(await new Promise((resolve) => tun.send(view, (error, bytes) => resolve(error ?? bytes)))).toBe(
      HEADERS + 20,
    );
    expect(tun.getSendQueueSize()).toBe(0);
  });

  it('a dgram user is told what to write', () => {
    expect(() => (tun.send as (...args: unknown[]) => void)(packet(1), 9, '10.0.0.1')).toThrow(
      'send(packet, callback)',
    );
    expect(() => tun.sendmsg(packet(1), 0, { to: { address: '02:00:00:00:00:01' } })).toThrow("type 'dgram'");
    expect(() => TunSocket.open({ adress: '10.0.0.1/24' } as object)).toThrow("did you mean 'address'?");
    expect(() => tun.sendmsg(packet(1), constants.MSG_PEEK)).toThrow('MSG_PEEK is not a flag of this call');
  });

  it('what only looks like a batch is refused by type', () => {
    const fake = Object.assign(Object.create(PacketBatch.prototype), { length: 1, capacity: 1 });
    expect(codeOf(() => tun.sendmmsg(fake))).toBe('ERR_INVALID_ARG_TYPE');
    const batch = new PacketBatch();
    batch.push(packet(1));
    structuredClone(batch.buffer.buffer, { transfer: [batch.buffer.buffer as ArrayBuffer] });
    for (const use of [() => batch.info(0), () => batch.push(packet(1)), () => tun.sendmmsg(batch)]) {
      expect(codeOf(use)).toBe('ERR_INVALID_ARG_TYPE');
    }
    expect(codeOf(() => new PacketBatch({ capacity: 65536, packetSize: 1 << 20 }))).toBe('ERR_OUT_OF_RANGE');
    expect(() => new PacketBatch({ packedBytes: 1 } as object)).toThrow('one of capacity, packetSize');
  });

  it('receive(null) and a bad signal are refused by type', async () => {
    await expect(tun.receive(null as never)).rejects.toMatchObject({ code: 'ERR_INVALID_ARG_TYPE' });
    await expect(tun.receive({ signal: 1 } as never)).rejects.toMatchObject({ code: 'ERR_INVALID_ARG_TYPE' });
  });
});
