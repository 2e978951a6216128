import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { beforeAll, describe, expect, it } from 'vitest';
import { TunSocket } from '../../dist';
import { WHOLE_PACKETS } from '../helpers/device';
import { enterQuietNamespace } from '../helpers/namespace';

/**
 * A queue in each Worker. The kernel gives each flow a queue by its hash and the number of queues (tun_automq_select_queue() in
 * drivers/net/tun.c): it stays there, and in order, until that number changes. When a queue goes, the last one takes its place, and a
 * packet that was steered to the last place a moment ago finds nobody there: it is dropped and counted (__tun_detach(), tun_net_xmit()).
 */

const FLOWS = 400;
const FIRST_PORT = 2000;
/** Sequence numbers that came, by flow, in the order in which they came. */
type Arrivals = Map<number, number[]>;

beforeAll(enterQuietNamespace);

/** Receives from a queue that it opens by the device's name, or that it is handed by number; answers each message with what has come. */
const RECEIVER = `
  const { parentPort, workerData } = require('node:worker_threads');
  const { TunSocket, socketFromFd } = require(${JSON.stringify(join(__dirname, '../../dist'))});
  const { name, offload, fd } = workerData;
  const queue = fd === undefined ? TunSocket.open({ name, offload, multiQueue: true }) : socketFromFd(fd);
  const flows = new Map();
  queue.on('message', (packet) => {
    const flow = packet.readUInt16BE(22) - ${FIRST_PORT};
    if (!flows.has(flow)) flows.set(flow, []);
    flows.get(flow).push(packet.readUInt32BE(28));
  });
  parentPort.on('message', () => parentPort.postMessage(flows));
  parentPort.postMessage('ready');`;

class Queues implements AsyncDisposable {
  readonly device: TunSocket;
  readonly workers: Worker[] = [];
  readonly #host = createSocket('udp4');
  #rounds = 0;

  private constructor(offload: 'none' | 'split') {
    this.device = TunSocket.open({
      offload,
      multiQueue: true,
      address: '10.0.0.1/24',
      txQueueLength: 100_000,
    });
    // The packets are the Workers'.
    this.device.detachQueue();
  }

  /** `handed`: the last of the Workers gets a descriptor, the others open their queues. */
  static async open(count: number, offload: 'none' | 'split', handed = false): Promise<Queues> {
    const queues = new Queues(offload);
    const { name } = queues.device;
    for (let index = 0; index < count; index++) {
      const fd = handed && index === count - 1 ? queues.device.openQueue().detach() : undefined;
      const worker = new Worker(RECEIVER, { eval: true, workerData: { name, offload, fd } });
      queues.workers.push(worker);
      await once(worker, 'message');
    }
    return queues;
  }

  /** The sequence number of the next round. */
  get rounds(): number {
    return this.#rounds;
  }

  /** The host sends a datagram of each flow, with the round's number. */
  async round(): Promise<void> {
    const data = Buffer.alloc(4);
    data.writeUInt32BE(this.#rounds++);
    const sent = Array.from(
      { length: FLOWS },
      (_, flow) =>
        new Promise<void>((resolve, reject) => {
          this.#host.send(data, FIRST_PORT + flow, '10.0.0.2', (error) =>
            error ? reject(error) : resolve(),
          );
        }),
    );
    await Promise.all(sent);
    // Sends that need not wait are called back in the same turn of the loop.
    await new Promise(setImmediate);
  }

  /** What each of `workers` has, when the last round of each flow has come, or no more comes. */
  async arrivals(workers: Worker[]): Promise<Arrivals[]> {
    for (let last = -1, still = 0; ; ) {
      const all = await Promise.all(
        workers.map(async (worker) => {
          worker.postMessage('what has come?');
          return (await once(worker, 'message'))[0] as Arrivals;
        }),
      );
      const flows = all.flatMap((arrivals) => [...arrivals.values()]);
      const complete = flows.filter((arrived) => arrived.at(-1) === this.#rounds - 1).length;
      if (complete === FLOWS || still === 20) return all;
      const count = flows.reduce((sum, { length }) => sum + length, 0);
      still = count === last ? still + 1 : 0;
      last = count;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.workers.map((worker) => worker.terminate()));
    this.#host.close();
    this.device.close();
  }
}

const numbers = (from: number, to: number) => Array.from({ length: to - from }, (_, index) => from + index);

describe.each(WHOLE_PACKETS)("a queue in each Worker, with offload '%s'", (mode) => {
  const offload = mode as 'none' | 'split';

  it.each([
    ['opened there', false],
    ['the last of them handed over by number', true],
  ])('has whole flows, in order, and nothing is lost: %s', async (_, handed) => {
    await using queues = await Queues.open(2, offload, handed);
    expect(queues.device.info()).toMatchObject({ queues: 2, disabledQueues: 1 });
    for (let count = 0; count < 30; count++) await queues.round();
    const all = await queues.arrivals(queues.workers);
    // Each flow is in one queue, with all its numbers in their order.
    expect(all.flatMap((flows) => [...flows.keys()]).sort((a, b) => a - b)).toEqual(numbers(0, FLOWS));
    for (const flows of all) {
      expect(flows.size).toBeGreaterThan(0);
      for (const arrived of flows.values()) expect(arrived).toEqual(numbers(0, 30));
    }
    expect(queues.device.link.counters().txDropped).toBe(0);
  });

  it('goes on when another Worker is terminated in the middle of traffic, whose flows the kernel steers anew', async () => {
    await using queues = await Queues.open(3, offload);
    const [dying, ...living] = queues.workers as [Worker, Worker, Worker];
    for (let count = 0; count < 10; count++) await queues.round();
    const before = await queues.arrivals(queues.workers);
    const lost = [...(before[0] as Arrivals).keys()];
    expect(lost.length).toBeGreaterThan(0);
    for (const flow of lost) expect(before[0]?.get(flow)).toEqual(numbers(0, 10));

    let dead = false;
    const exited = once(dying, 'exit').then(() => {
      dead = true;
    });
    void dying.terminate();
    // Its descriptor is closed by then.
    for (let count = 0; count < 5000 && !dead; count++) await queues.round();
    await exited;
    expect(queues.device.info()).toMatchObject({ queues: 2, disabledQueues: 1 });
    const since = queues.rounds;
    for (let count = 0; count < 20; count++) await queues.round();
    const end = queues.rounds;

    const after = await queues.arrivals(living);
    for (const flows of after)
      for (const arrived of flows.values()) expect(arrived).toEqual([...arrived].sort((a, b) => a - b));
    // What the kernel dropped of others' flows while it moved the last queue to the place of the one that went.
    let dropped = 0;
    for (let flow = 0; flow < FLOWS; flow++) {
      const arrived = after.flatMap((flows) => flows.get(flow) ?? []).sort((a, b) => a - b);
      expect(arrived.filter((number) => number >= since)).toEqual(numbers(since, end));
      if (lost.includes(flow)) continue;
      expect(new Set(arrived).size).toBe(arrived.length);
      if (!before[2]?.has(flow)) expect(arrived).toEqual(numbers(0, end));
      dropped += end - arrived.length;
    }
    expect(dropped).toBe(queues.device.link.counters().txDropped);
  });
});
