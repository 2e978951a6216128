/** A Worker with a queue of its own: each time that the shared round number changes it takes all that its queue has, and says when. */
import { parentPort, workerData } from 'node:worker_threads';
import { constants, PacketBatch, TunSocket } from 'tunsock';

/** What a Worker is started with. */
export interface QueueWorkerData {
  name: string;
  /** A path of its network namespace. */
  netns: string;
  offload: 'none' | 'split';
  /** Whether they are sent back to where they came from. */
  echo: boolean;
  /** The number of the round; the Workers sleep until it changes, so that they start at one time. */
  round: Int32Array;
}

/** What a Worker did; times are of the one clock of the process, in nanoseconds. */
export interface QueueRound {
  packets: number;
  start: number;
  end: number;
}

const { name, netns, offload, echo, round } = workerData as QueueWorkerData;
const queue = TunSocket.open({
  name,
  netns,
  offload,
  multiQueue: true,
  address: '10.7.0.1/24',
  txQueueLength: 32_768,
});
const batch = new PacketBatch();

const now = () => Number(process.hrtime.bigint());

/** Swaps addresses and ports, which leaves the checksums right. */
function turnAround(packet: Buffer): void {
  const source = packet.readUInt32BE(12);
  packet.copy(packet, 12, 16, 20);
  packet.writeUInt32BE(source, 16);
  const port = packet.readUInt16BE(20);
  packet.copy(packet, 20, 22, 24);
  packet.writeUInt16BE(port, 22);
}

function drain(): QueueRound {
  const start = now();
  let packets = 0;
  for (;;) {
    const count = queue.recvmmsg(batch, constants.MSG_DONTWAIT);
    if (count === 0) break;
    packets += count;
    if (!echo) continue;
    for (const packet of batch) turnAround(packet);
    for (let sent = 0; sent < count; ) sent += queue.sendmmsg(batch, 0, sent);
  }
  return { packets, start, end: now() };
}

parentPort?.postMessage('ready');
for (let seen = 0; ; ) {
  Atomics.wait(round, 0, seen);
  seen = Atomics.load(round, 0);
  if (seen < 0) break;
  parentPort?.postMessage(drain());
}
queue.close();
