/**
 * Forwards between two tun devices, and tells how fast TCP goes through: packet by packet ('none'), with the kernel's superpackets
 * passed on as they are ('raw'), and with superpackets of which the program sees ordinary packets ('split').
 *
 *     node forward.js [none | raw | split]
 */
import type { Worker } from 'node:worker_threads';
import { Netns, type OffloadMode, type PacketBatch, TunSocket } from 'tunsock';
import { posted, runExample, runIn } from './stage';

const MEGABYTES = { none: 50, raw: 300, split: 300 } as const;

/** Whatever one socket receives, the other sends. */
export function connect(a: TunSocket, b: TunSocket): void {
  const forward = (to: TunSocket) => (batch: PacketBatch) => {
    for (let sent = 0; sent < batch.length; ) sent += to.sendmmsg(batch, 0, sent);
  };
  a.on('batch', forward(b));
  b.on('batch', forward(a));
}

/** Counts what one connection brings; posts 'ready', then the bytes. */
const RECEIVER = `
  const { parentPort } = require('node:worker_threads');
  const server = require('node:net').createServer((connection) => {
    let bytes = 0;
    connection.on('data', (chunk) => { bytes += chunk.length; });
    connection.on('end', () => { parentPort.postMessage(bytes); connection.end(); });
  });
  server.listen(5001, () => parentPort.postMessage('ready'));
`;

const sender = (megabytes: number): string => `
  const { pipeline } = require('node:stream/promises');
  const chunk = Buffer.alloc(1e6);
  const chunks = (function* () { for (let sent = 0; sent < ${megabytes}; sent++) yield chunk; })();
  pipeline(chunks, require('node:net').connect(5001, '10.0.2.1'));
`;

/** Sends TCP from one namespace to another, through a forwarder in this thread. */
export async function transfer(
  offload: OffloadMode,
  megabytes: number,
): Promise<{ bytes: number; seconds: number }> {
  const [left, right] = [Netns.create(), Netns.create()];
  const workers: Worker[] = [];
  const run = (netns: Netns, program: string) => {
    const worker = runIn(netns, program);
    workers.push(worker);
    return worker;
  };
  const a = TunSocket.open({ netns: left, offload, address: '10.0.1.1/24', routes: '10.0.2.0/24' });
  const b = TunSocket.open({ netns: right, offload, address: '10.0.2.1/24', routes: '10.0.1.0/24' });
  connect(a, b);
  try {
    const receiver = run(right, RECEIVER);
    await posted(receiver);
    const start = performance.now();
    run(left, sender(megabytes));
    const bytes = (await posted(receiver)) as number;
    return { bytes, seconds: (performance.now() - start) / 1000 };
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()));
    for (const closable of [a, b, left, right]) closable.close();
  }
}

async function main(): Promise<void> {
  const wanted = process.argv[2] as OffloadMode | undefined;
  for (const offload of wanted === undefined ? (['none', 'raw', 'split'] as const) : [wanted]) {
    const { bytes, seconds } = await transfer(offload, MEGABYTES[offload]);
    console.log(`${offload}: ${bytes / 1e6} MB at ${((bytes * 8) / seconds / 1e9).toFixed(1)} Gb/s`);
  }
}

runExample(module, main);
