/** What a second queue, in a Worker on a second core, gains over one. */
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { Netns, UdpSocket } from 'tunsock';
import { markdownTable } from './lib/markdown';
import type { QueueRound, QueueWorkerData } from './lib/queue-worker';
import { median, quantile } from './lib/statistics';

const PACKETS = 16_384;
const SIZE = 1400;
const HEADERS = 28;
const FLOWS = 256;
const FIRST_PORT = 2000;
const ROUNDS = 40;
const QUICK_ROUNDS = 10;

/** Nanoseconds by the clock for each packet, with one queue and with two. */
export interface QueuesRow {
  work: string;
  offload: 'none' | 'split';
  one: number;
  two: number;
  /** How many times as fast two are, round by round. */
  gains: number[];
}

/**
 * The packets of 256 flows wait in the queues before the clock starts, so that both cores are the Workers': what sends them would share the
 * cores otherwise. The clock stops when the last Worker has emptied its queue.
 */
export async function queues(quick: boolean): Promise<QueuesRow[]> {
  const rows: QueuesRow[] = [];
  for (const echo of [false, true]) {
    for (const offload of ['none', 'split'] as const) {
      await using one = await QueueStage.open(1, offload, echo);
      await using two = await QueueStage.open(2, offload, echo);
      const costs = { one: [] as number[], two: [] as number[] };
      for (let round = 0; round < (quick ? QUICK_ROUNDS : ROUNDS); round++) {
        costs.one.push(await one.round());
        costs.two.push(await two.round());
      }
      rows.push({
        work: echo ? 'received and sent back' : 'received',
        offload,
        one: median(costs.one),
        two: median(costs.two),
        gains: costs.one.map((cost, index) => cost / (costs.two[index] as number)),
      });
    }
  }
  return rows;
}

class QueueStage implements AsyncDisposable {
  readonly #netns: Netns;
  readonly #feeder: UdpSocket;
  readonly #round: Int32Array;
  readonly #workers: Worker[] = [];

  private constructor(netns: Netns, feeder: UdpSocket, round: Int32Array) {
    this.#netns = netns;
    this.#feeder = feeder;
    this.#round = round;
  }

  static async open(count: number, offload: 'none' | 'split', echo: boolean): Promise<QueueStage> {
    const netns = Netns.create();
    netns.run(() => writeFileSync('/proc/sys/net/ipv6/conf/default/disable_ipv6', '1'));
    const round = new Int32Array(new SharedArrayBuffer(4));
    const stage = new QueueStage(netns, UdpSocket.open({ netns, offload: 'raw' }), round);
    const path = `/proc/self/fd/${netns.fd}`;
    const data: QueueWorkerData = { name: 'queues0', netns: path, offload, echo, round };
    for (let index = 0; index < count; index++) {
      const worker = new Worker(join(__dirname, 'lib', 'queue-worker.js'), { workerData: data });
      stage.#workers.push(worker);
      await once(worker, 'message');
    }
    return stage;
  }

  /** Nanoseconds for each packet. */
  async round(): Promise<number> {
    const each = PACKETS / FLOWS;
    const payload = SIZE - HEADERS;
    // As many as one datagram of 64 KiB holds; the kernel cuts it where the device takes no superpackets.
    const run = Math.floor(65_000 / payload);
    for (let flow = 0; flow < FLOWS; flow++) {
      const to = { address: '10.7.0.2', port: FIRST_PORT + flow };
      for (let left = each; left > 0; left -= run)
        this.#feeder.sendmsg(Buffer.alloc(Math.min(left, run) * payload), 0, { to, segmentSize: payload });
    }
    const done = this.#workers.map((worker) => once(worker, 'message'));
    Atomics.add(this.#round, 0, 1);
    Atomics.notify(this.#round, 0);
    const results = (await Promise.all(done)).map(([result]) => result as QueueRound);
    const packets = results.reduce((sum, result) => sum + result.packets, 0);
    if (packets !== PACKETS) throw new Error(`${PACKETS - packets} packets are missing`);
    const start = Math.min(...results.map((result) => result.start));
    return (Math.max(...results.map((result) => result.end)) - start) / PACKETS;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const exits = this.#workers.map((worker) => once(worker, 'exit'));
    Atomics.store(this.#round, 0, -1);
    Atomics.notify(this.#round, 0);
    await Promise.all(exits);
    this.#feeder.close();
    this.#netns.close();
  }
}

export function queuesTable(rows: readonly QueuesRow[]): string {
  return markdownTable([
    [`queues, ${SIZE} B`, 'one: ns a packet', 'two: ns a packet', 'gain', 'quartiles'],
    ...rows.map(({ work, offload, one, two, gains }) => [
      `${work}, '${offload}'`,
      one.toFixed(0),
      two.toFixed(0),
      median(gains).toFixed(2),
      `${quantile(gains, 0.25).toFixed(2)}–${quantile(gains, 0.75).toFixed(2)}`,
    ]),
  ]);
}
