import { execFileSync } from 'node:child_process';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { constants, type Impairment, UdpSocket } from '../../../dist';
import { program } from '../../helpers/optional';
import { empty } from '../../helpers/packet-stage';
import { type Pair, vethPair } from '../../helpers/pair';

const PORT = 9999;
/** Of Ethernet, IPv4 and UDP. */
const HEADERS = 14 + 20 + 8;

let pair: Pair;
let sender: UdpSocket;
let receiver: UdpSocket;

beforeEach(() => {
  pair = vethPair();
  pair.nearLink.addAddress('10.1.0.1/24');
  pair.farLink.addAddress('10.1.0.2/24');
  // Nobody asks who has an address meanwhile: all packets are the test's own.
  pair.nearLink.addNeighbour('10.1.0.2', pair.farLink.mac);
  pair.farLink.addNeighbour('10.1.0.1', pair.nearLink.mac);
  sender = pair.near.run(() => UdpSocket.open({ address: '10.1.0.1', sendBuffer: 4 << 20 }));
  sender.connect('10.1.0.2', PORT);
  receiver = pair.far.run(() =>
    UdpSocket.open({ address: '10.1.0.2', port: PORT, receiveTimeout: 30_000, receiveBuffer: 4 << 20 }),
  );
});
afterEach(() => {
  sender.close();
  receiver.close();
  pair.close();
});

interface Discipline {
  kind: string;
  packets: number;
  drops: number;
  qlen: number;
  options: Record<string, unknown>;
}

/** What tc says of v0. */
function discipline(): Discipline {
  const words = ['-s', '-j', 'qdisc', 'show', 'dev', 'v0'];
  const [first] = JSON.parse(
    pair.near.run(() => execFileSync(program('tc'), words, { encoding: 'utf8' })),
  ) as [Discipline];
  return first;
}

/** Sends so many packets, each with its number. */
function send(count: number, size = 100): void {
  const data = Buffer.alloc(size);
  for (let number = 0; number < count; number++) {
    data.writeUInt32BE(number);
    sender.sendmsg(data);
  }
}

/** The numbers of so many packets, in the order in which they arrive. */
function receive(count: number): number[] {
  const data = Buffer.alloc(2000);
  return Array.from({ length: count }, () => {
    receiver.recvmsg(data);
    return data.readUInt32BE();
  });
}

/** What becomes of so many packets: the numbers of those that arrive, and how many netem has dropped. */
function through(impairment: Impairment, count: number): { order: number[]; drops: number } {
  pair.nearLink.setImpairment(impairment);
  send(count);
  let counted = discipline();
  while (counted.qlen > 0) counted = discipline();
  const order = receive(counted.packets);
  expect(() => receiver.recvmsg(Buffer.alloc(100), constants.MSG_DONTWAIT)).toThrow(empty);
  return { order, drops: counted.drops };
}

/** Milliseconds from the first packet's sending to the last one's arrival; none is lost, and they stay in order. */
function took(impairment: Impairment, count: number, size?: number): number {
  pair.nearLink.setImpairment(impairment);
  const started = process.hrtime.bigint();
  send(count, size);
  expect(receive(count)).toEqual(upTo(count));
  return Number(process.hrtime.bigint() - started) / 1e6;
}

/** Six standard deviations of a binomial distribution to either side: two in a thousand million runs are outside. */
function likely(count: number, part: number): { least: number; most: number } {
  const six = 6 * Math.sqrt(count * part * (1 - part));
  return { least: count * part - six, most: count * part + six };
}

function expectLikely(found: number, count: number, part: number): void {
  const { least, most } = likely(count, part);
  expect(found).toBeGreaterThan(least);
  expect(found).toBeLessThan(most);
}

const sorted = (numbers: number[]) => [...numbers].sort((a, b) => a - b);
const upTo = (count: number) => Array.from({ length: count }, (_, index) => index);

describe('packets feel', () => {
  it('a delay: none comes earlier', () => {
    expect(took({ delayMs: 200 }, 1)).toBeGreaterThanOrEqual(200);
    expect(took({ delayMs: 200 }, 100)).toBeGreaterThanOrEqual(200);
  });

  it('jitter: it changes their order, and none is lost', () => {
    const { order } = through({ delayMs: 1000, jitterMs: 1000 }, 200);
    expect(order).not.toEqual(upTo(200));
    expect(sorted(order)).toEqual(upTo(200));
  });

  it.each([5, 50, 100])('a loss of %i percent', (lossPercent) => {
    const { order, drops } = through({ lossPercent }, 1000);
    expect(drops).toBe(1000 - order.length);
    if (lossPercent === 100) expect(order).toEqual([]);
    else expectLikely(order.length, 1000, 1 - lossPercent / 100);
  });

  it('duplication: some come twice, and none is lost', () => {
    const { order } = through({ duplicatePercent: 30 }, 1000);
    expect(sorted([...new Set(order)])).toEqual(upTo(1000));
    expectLikely(order.length - 1000, 1000, 0.3);
  });

  it('reordering: some overtake those that wait', () => {
    const count = 400;
    const { order } = through({ delayMs: 5000, reorderPercent: 25 }, count);
    expect(sorted(order)).toEqual(upTo(count));
    // Those of a lower number that come later were overtaken.
    let overtaking = 0;
    let least = Number.POSITIVE_INFINITY;
    for (const number of [...order].reverse()) {
      if (number > least) overtaking++;
      else least = number;
    }
    expectLikely(overtaking, count, 0.25);
  });

  it('a rate: all take as long as their bits do', () => {
    const [count, size, rateBitsPerSecond] = [50, 1000, 1e6];
    const bits = count * (size + HEADERS) * 8;
    expect(took({ rateBitsPerSecond }, count, size)).toBeGreaterThanOrEqual(
      (bits * 1000) / rateBitsPerSecond,
    );
  });

  it('all at once', () => {
    const impairment = { delayMs: 100, jitterMs: 50, lossPercent: 20, rateBitsPerSecond: 10e6 };
    const { order, drops } = through({ ...impairment, duplicatePercent: 20 }, 500);
    expect(drops).toBeGreaterThan(0);
    expect(order.length).toBeGreaterThan(new Set(order).size);
  });

  it('nothing once it is taken away', () => {
    pair.nearLink.setImpairment({ lossPercent: 100 });
    pair.nearLink.setImpairment(null);
    expect(discipline().kind).not.toBe('netem');
    for (let sent = 0; sent < 100; sent++) {
      sender.sendmsg(Buffer.alloc(10));
      expect(receiver.recvmsg(Buffer.alloc(20)).size).toBe(10);
    }
  });
});

describe('tc reads back', () => {
  // Of ticks of 64 ns (psched), and in whole microseconds, to which tc rounds down.
  it.each([
    [{ delayMs: 1.5 }, { delay: { delay: expect.closeTo(0.0015, 5), jitter: 0, correlation: 0 } }],
    [{ delayMs: 100, jitterMs: 10 }, { delay: { delay: 0.1, jitter: 0.01, correlation: 0 } }],
    [{ lossPercent: 12.5 }, { 'loss-random': { loss: 0.125, correlation: 0 } }],
    [{ duplicatePercent: 50 }, { duplicate: { duplicate: 0.5, correlation: 0 } }],
    [
      { delayMs: 1, reorderPercent: 75 },
      { reorder: { reorder: 0.75, correlation: 0 }, gap: 1 },
    ],
    [{ rateBitsPerSecond: 8e6 }, { rate: { rate: 1e6 } }],
  ] as [Impairment, object][])('%j', (impairment, shown) => {
    pair.nearLink.setImpairment({ lossPercent: 1, delayMs: 7 });
    pair.nearLink.setImpairment(impairment);
    const { kind, options } = discipline();
    expect(kind).toBe('netem');
    expect(options, JSON.stringify(options)).toMatchObject(shown);
    const parts = ['delay', 'loss-random', 'duplicate', 'reorder', 'rate'] as const;
    expect(parts.filter((part) => part in options).sort()).toEqual(
      parts.filter((part) => part in shown || (part === 'delay' && 'delayMs' in impairment)).sort(),
    );
  });
});
