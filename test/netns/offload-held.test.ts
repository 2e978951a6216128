import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { constants, PacketBatch, TunSocket } from '../../dist';
import { codeOf } from '../helpers/device';
import { enterQuietNamespace } from '../helpers/namespace';
import { checksumsRight, tcpPacket } from '../helpers/packets';

const { MSG_DONTWAIT, MSG_TRUNC, VIRTIO_NET_HDR_GSO_TCPV4 } = constants;
/** IPv4 and TCP. */
const HEADERS = 40;
const SEGMENT = 60;
/** More than one wake-up reads. */
const MANY = 900;

beforeAll(() => {
  enterQuietNamespace();
  writeFileSync('/proc/sys/net/ipv4/ip_forward', '1');
});

/** What the test sends here the host forwards to `tun`, superpackets as they are. */
let source: TunSocket;
let tun: TunSocket;
beforeEach(() => {
  source = TunSocket.open({ offload: 'raw', address: '10.0.1.1/24' });
  tun = TunSocket.open({ offload: 'split', address: '10.0.2.1/24', receiveTimeout: 5000 });
});
afterEach(() => {
  source[Symbol.dispose]();
  tun[Symbol.dispose]();
});

const text = (superpacket: string, index: number) => `${superpacket}${index} `;
/** Sends a superpacket of `count` segments that say their name and number. */
function arrives(superpacket: string, count: number): void {
  const data = Array.from({ length: count }, (_, index) => text(superpacket, index).padEnd(SEGMENT, '.'));
  const packet = tcpPacket(['10.0.1.2', 4000], ['10.0.2.2', 5000], data.join(''), {
    sequence: 1000,
    unfinished: true,
  });
  source.sendmsg(packet, 0, {
    offload: {
      needsChecksum: true,
      checksumStart: 20,
      checksumOffset: 16,
      gsoType: VIRTIO_NET_HDR_GSO_TCPV4,
      gsoSize: SEGMENT,
      headerLength: HEADERS,
    },
  });
}
const names = (superpacket: string, from: number, to: number) =>
  Array.from({ length: to - from }, (_, index) => text(superpacket, from + index));
/** The name of a segment, which must be whole and right. */
function nameOf(packet: Buffer): string {
  expect(packet).toHaveLength(HEADERS + SEGMENT);
  expect(checksumsRight(packet)).toBe(true);
  return packet.subarray(HEADERS).toString().replace(/\.+$/, '');
}
const turn = () => new Promise((resolve) => setImmediate(resolve));
const isEmpty = () => expect(codeOf(() => tun.recvmsg(Buffer.alloc(200), MSG_DONTWAIT))).toBe('EAGAIN');
const received = () => {
  const room = Buffer.alloc(200);
  return nameOf(room.subarray(0, tun.recvmsg(room).bytes));
};

describe('a superpacket that a call has no room for', () => {
  it('comes out over several recvmmsg()', () => {
    arrives('a', 20);
    const batch = new PacketBatch({ capacity: 8 });
    const got: string[][] = [];
    while (tun.recvmmsg(batch, MSG_DONTWAIT) > 0) got.push([...batch].map(nameOf));
    expect(got).toEqual([names('a', 0, 8), names('a', 8, 16), names('a', 16, 20)]);
    expect(tun.stats().offload).toEqual({ received: 1, sent: 0, refused: [] });
    expect(tun.stats().received).toMatchObject({ packets: 20, bytes: 20 * (HEADERS + SEGMENT), errors: 0 });
  });

  it('fills a batch to the last slot only where it could not do better', () => {
    arrives('a', 5);
    arrives('b', 6);
    arrives('c', 2);
    const batch = new PacketBatch({ capacity: 8 });
    const got: string[][] = [];
    // So that what is forwarded is made a superpacket again: b would not fit behind a.
    while (tun.recvmmsg(batch, MSG_DONTWAIT) > 0) got.push([...batch].map(nameOf));
    expect(got).toEqual([names('a', 0, 5), [...names('b', 0, 6), ...names('c', 0, 2)]]);
  });

  it('goes on with recvmsg(), receive() and recvmmsg() in any order', async () => {
    arrives('a', 20);
    arrives('b', 3);
    const batch = new PacketBatch({ capacity: 8 });
    tun.recvmmsg(batch);
    expect([...batch].map(nameOf)).toEqual(names('a', 0, 8));
    expect(received()).toBe(text('a', 8));
    expect(nameOf(await tun.receive())).toBe(text('a', 9));
    expect(tun.recvmmsg(batch)).toBe(8);
    expect([...batch].map(nameOf)).toEqual(names('a', 10, 18));
    expect(nameOf(await tun.receive())).toBe(text('a', 18));
    expect(received()).toBe(text('a', 19));
    expect(received()).toBe(text('b', 0));
    expect(nameOf(await tun.receive())).toBe(text('b', 1));
    expect(received()).toBe(text('b', 2));
    isEmpty();
  });

  it('loses of a segment that is cut no more than that segment', () => {
    arrives('a', 4);
    expect(received()).toBe(text('a', 0));
    const size = HEADERS + SEGMENT;
    expect(tun.recvmsg(Buffer.alloc(10))).toMatchObject({ bytes: 10, size, flags: MSG_TRUNC });
    expect(tun.recvmsg(Buffer.alloc(0)).bytes).toBe(0);
    expect(codeOf(() => tun.recvmsg(Buffer.alloc(200), 1))).toBe('EINVAL');
    expect(received()).toBe(text('a', 2));
    const batch = new PacketBatch({ capacity: 2, packetSize: 50 });
    expect(tun.recvmmsg(batch)).toBe(1);
    expect([batch.lengths[0], batch.sizes[0], batch.flags[0]]).toEqual([50, size, MSG_TRUNC]);
    isEmpty();
  });
});

describe('events and promises', () => {
  const collected: string[] = [];
  beforeEach(() => void collected.splice(0));
  const until = async (count: number) => {
    while (collected.length < count) await turn();
    // Turns in which nothing more must come.
    for (let turns = 0; turns < 5; turns++) await turn();
    expect(collected).toHaveLength(count);
  };

  it("'message' brings all of a superpacket that is longer than one wake-up reads", async () => {
    tun.on('message', (packet) => collected.push(nameOf(packet)));
    arrives('a', MANY);
    await until(MANY);
    expect(collected).toEqual(names('a', 0, MANY));
  });

  it("pause() in a 'message' in the middle loses nothing; resume() brings the rest without new traffic", async () => {
    const stops = [3, 384, 385, 390, 899];
    tun.on('message', (packet) => {
      collected.push(nameOf(packet));
      if (stops.includes(collected.length)) tun.pause();
    });
    arrives('a', MANY);
    for (const stop of [...stops, MANY]) {
      await until(stop);
      tun.resume();
    }
    expect(collected).toEqual(names('a', 0, MANY));
  });

  it("pause() in a 'batch' leaves the rest to resume()", async () => {
    tun.on('batch', (batch) => {
      collected.push(...[...batch].map(nameOf));
      tun.pause();
    });
    arrives('a', MANY);
    for (const count of [384, 768, MANY]) {
      await until(count);
      tun.resume();
    }
    expect(collected).toEqual(names('a', 0, MANY));
  });

  it('what is left when paused comes in recvmsg() too, in order', async () => {
    tun.once('message', () => tun.pause());
    arrives('a', MANY);
    await once(tun, 'message');
    const rest = [];
    for (let index = 1; index < MANY; index++) rest.push(received());
    expect(rest).toEqual(names('a', 1, MANY));
    isEmpty();
  });

  it('receive() brings them one by one', async () => {
    arrives('a', MANY);
    for (let index = 0; index < MANY; index++) collected.push(nameOf(await tun.receive()));
    expect(collected).toEqual(names('a', 0, MANY));
    isEmpty();
  });

  it('receive() calls that wait get theirs in order, and leave the rest', async () => {
    const calls = Array.from({ length: 70 }, () => tun.receive());
    arrives('a', MANY);
    expect((await Promise.all(calls)).map(nameOf)).toEqual(names('a', 0, 70));
    expect(received()).toBe(text('a', 70));
  });

  it('an aborted receive() takes none', async () => {
    const controller = new AbortController();
    const waiting = tun.receive({ signal: controller.signal });
    controller.abort();
    await expect(waiting).rejects.toMatchObject({ name: 'AbortError' });
    arrives('a', 3);
    expect(received()).toBe(text('a', 0));
  });

  it("a 'message' listener that comes while segments are held gets them", async () => {
    arrives('a', 20);
    tun.recvmmsg(new PacketBatch({ capacity: 8 }));
    tun.on('message', (packet) => collected.push(nameOf(packet)));
    await until(12);
    expect(collected).toEqual(names('a', 8, 20));
  });

  it("a 'batch' listener too", async () => {
    arrives('a', 20);
    received();
    tun.on('batch', (batch) => collected.push(...[...batch].map(nameOf)));
    await until(19);
    expect(collected).toEqual(names('a', 1, 20));
  });

  it('the iterator and stream() bring all of it', async () => {
    arrives('a', MANY);
    for await (const packet of tun) {
      collected.push(nameOf(packet));
      if (collected.length === 100) break;
    }
    for await (const packet of tun.stream()) {
      collected.push(nameOf(packet));
      if (collected.length === MANY) break;
    }
    expect(collected).toEqual(names('a', 0, MANY));
  });

  it('a socket may be closed with segments held, by whoever gets one of them', async () => {
    const closed = once(tun, 'close');
    tun.on('message', (packet) => {
      collected.push(nameOf(packet));
      tun.close();
    });
    arrives('a', MANY);
    await closed;
    expect(collected).toEqual([text('a', 0)]);
    await expect(tun.receive()).rejects.toMatchObject({ code: 'ERR_SOCKET_CLOSED' });
  });

  it.each<[string, () => unknown, number]>([
    ['recvmsg()', () => received(), 1],
    ['recvmmsg()', () => tun.recvmmsg(new PacketBatch({ capacity: 8 })), 8],
    ['receive()', () => tun.receive(), 1],
  ])("%s that takes the head from under a 'message' listener leaves it the rest", async (_, take, count) => {
    tun.on('message', (packet) => collected.push(nameOf(packet)));
    await turn();
    arrives('a', 20);
    await take();
    await until(20 - count);
    expect(collected).toEqual(names('a', count, 20));
  });

  it('recvmmsg() that takes the head from under a waiting receive() leaves it the next', async () => {
    const waiting = tun.receive();
    await turn();
    arrives('a', 20);
    expect(tun.recvmmsg(new PacketBatch({ capacity: 8 }))).toBe(8);
    expect(nameOf(await waiting)).toBe(text('a', 8));
    expect(received()).toBe(text('a', 9));
  });

  it.each(['batch', 'message'] as const)(
    "what a '%s' listener that goes leaves over is kept",
    async (event) => {
      arrives('a', MANY);
      tun.recvmmsg(new PacketBatch({ capacity: 8 }));
      let left = event === 'batch' ? 1 : 384;
      const take = (packets: Iterable<Buffer>) => {
        collected.push(...Array.from(packets, nameOf));
        left -= 1;
        if (left === 0) tun.removeAllListeners(event);
      };
      if (event === 'batch') tun.on('batch', take);
      else tun.on('message', (packet) => take([packet]));
      await until(384);
      const rest = new PacketBatch({ capacity: MANY, packetSize: 200 });
      while (tun.recvmmsg(rest, MSG_DONTWAIT) > 0) collected.push(...[...rest].map(nameOf));
      expect(collected).toEqual(names('a', 8, MANY));
    },
  );

  it('the device deleted with segments held: they come, then the error', () => {
    arrives('a', 3);
    expect(received()).toBe(text('a', 0));
    tun.link.delete();
    expect([received(), received()]).toEqual(names('a', 1, 3));
    expect(codeOf(() => tun.recvmsg(Buffer.alloc(200)))).toBe('EBADFD');
  });
});
