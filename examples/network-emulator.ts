/**
 * A bad network between two good hosts: packets come late, get lost, and go no faster than the line. What is lost follows from a
 * seed, so that a test of what happens then is the same each time.
 *
 *     node network-emulator.js [seed]
 */
import { Netns, TunSocket } from 'tunsock';
import { posted, runExample, runIn } from './stage';

export interface Conditions {
  /** Milliseconds that each packet is under way. */
  delay: number;
  /** Of a packet to get lost: 0 to 1. */
  loss: number;
  /** Bits a second. */
  rate: number;
  /** Bytes that may wait for the line; what is more is dropped. */
  queue: number;
  seed: number;
}

/** Numbers from 0 to 1 that look random, and follow from the seed (mulberry32). */
export function randomNumbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** One direction of the line. */
export class Line {
  readonly #conditions: Conditions;
  readonly #random: () => number;
  readonly #deliver: (packet: Buffer) => void;
  /** When the last packet that was taken has left. */
  #freeAt = 0;
  readonly #underWay: { packet: Buffer; at: number }[] = [];
  #timer: NodeJS.Timeout | undefined;
  delivered = 0;
  lost = 0;
  overflowed = 0;

  constructor(conditions: Conditions, deliver: (packet: Buffer) => void) {
    this.#conditions = conditions;
    this.#random = randomNumbers(conditions.seed);
    this.#deliver = deliver;
  }

  send(packet: Buffer): void {
    const { delay, loss, rate, queue } = this.#conditions;
    if (this.#random() < loss) {
      this.lost += 1;
      return;
    }
    const now = performance.now();
    const start = Math.max(now, this.#freeAt);
    if (((start - now) * rate) / 8000 > queue) {
      this.overflowed += 1;
      return;
    }
    this.#freeAt = start + (packet.length * 8000) / rate;
    this.#underWay.push({ packet, at: this.#freeAt + delay });
    this.#timer ??= setTimeout(() => this.#arrive(), this.#freeAt + delay - now);
  }

  /** All have the same delay, so that the first that was sent is the first to arrive. */
  #arrive(): void {
    const now = performance.now();
    let next = this.#underWay[0];
    for (; next !== undefined && next.at <= now; next = this.#underWay[0]) {
      this.#underWay.shift();
      this.delivered += 1;
      this.#deliver(next.packet);
    }
    this.#timer = next === undefined ? undefined : setTimeout(() => this.#arrive(), next.at - now);
  }
}

/** Connects two devices both ways. */
export function emulate(a: TunSocket, b: TunSocket, conditions: Conditions): [there: Line, back: Line] {
  const lines: [Line, Line] = [
    new Line(conditions, (packet) => !b.closed && b.send(packet)),
    new Line({ ...conditions, seed: conditions.seed + 1 }, (packet) => !a.closed && a.send(packet)),
  ];
  a.on('message', (packet) => lines[0].send(packet));
  b.on('message', (packet) => lines[1].send(packet));
  return lines;
}

const SERVER = `
  const udp = require('node:dgram').createSocket('udp4');
  udp.on('message', (message, from) => udp.send(message, from.port, from.address));
  udp.bind(7, () => require('node:worker_threads').parentPort.postMessage('ready'));
`;

/** Sends numbered datagrams; posts which came back, and how long the quickest took. */
const CLIENT = `
  const udp = require('node:dgram').createSocket('udp4');
  const [answers, sentAt] = [[], []];
  let quickest = Infinity;
  udp.on('message', (message) => {
    const number = message.readUInt32BE(0);
    answers.push(number);
    quickest = Math.min(quickest, performance.now() - sentAt[number]);
  });
  let number = 0;
  const timer = setInterval(() => {
    if (number === 200) {
      clearInterval(timer);
      setTimeout(() => require('node:worker_threads').parentPort.postMessage({ answers, quickest }), 500);
      return;
    }
    const message = Buffer.alloc(100);
    message.writeUInt32BE(number);
    sentAt[number++] = performance.now();
    udp.send(message, 7, '10.0.2.1');
  }, 3);
`;

async function main(): Promise<void> {
  const conditions = { delay: 20, loss: 0.1, rate: 1e6, queue: 20_000, seed: Number(process.argv[2] ?? 1) };
  const [left, right] = [Netns.create(), Netns.create()];
  const a = TunSocket.open({ netns: left, address: '10.0.1.1/24', routes: '10.0.2.0/24' });
  const b = TunSocket.open({ netns: right, address: '10.0.2.1/24', routes: '10.0.1.0/24' });
  const [there, back] = emulate(a, b, conditions);
  const server = runIn(right, SERVER);
  await posted(server);
  const client = runIn(left, CLIENT);
  const { answers, quickest } = (await posted(client)) as { answers: number[]; quickest: number };
  console.log(`${answers.length} of 200 datagrams came back, the quickest in ${quickest.toFixed(0)} ms`);
  console.log(
    `lost: ${there.lost} there, ${back.lost} on the way back; overflowed: ${there.overflowed + back.overflowed}`,
  );
  await Promise.all([server.terminate(), client.terminate()]);
  for (const closable of [a, b, left, right]) closable.close();
}

runExample(module, main);
