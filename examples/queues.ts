/**
 * One device, several queues, a Worker for each: the kernel keeps the packets of a flow in one queue, so that the Workers share
 * the work and each flow stays in order.
 *
 *     node queues.js [workers]
 */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { TunSocket } from 'tunsock';
import { readIp, readUdp, rewriteEndpoints } from 'tunsock/packets';
import { posted, runExample } from './stage';

const FLOWS = 64;
const EACH = 10;

/** A Worker: sends datagrams back to where they came from, and counts them by flow. */
function echo(name: string): void {
  const queue = TunSocket.open({ name, multiQueue: true });
  const flows = new Map<number, number>();
  queue.on('message', (packet) => {
    const ip = readIp(packet);
    const udp = ip?.protocol === 17 ? readUdp(ip.payload) : undefined;
    if (ip?.version !== 4 || udp === undefined) return;
    flows.set(udp.sourcePort, (flows.get(udp.sourcePort) ?? 0) + 1);
    rewriteEndpoints(packet, {
      source: ip.destination,
      destination: ip.source,
      sourcePort: udp.destinationPort,
      destinationPort: udp.sourcePort,
    });
    queue.send(packet);
  });
  parentPort?.on('message', () => {
    parentPort?.postMessage(flows);
    queue.close();
    parentPort?.close();
  });
  parentPort?.postMessage('ready');
}

async function main(): Promise<void> {
  const count = Number(process.argv[2] ?? 4);
  const device = TunSocket.open({ multiQueue: true, address: '10.0.0.1/24' });
  // This thread makes the device; the packets are the Workers'.
  device.detachQueue();
  const workers = Array.from({ length: count }, () => new Worker(__filename, { workerData: device.name }));
  await Promise.all(workers.map((worker) => posted(worker)));

  let answers = 0;
  await Promise.all(
    Array.from({ length: FLOWS }, async () => {
      const socket = createSocket('udp4').bind(0, '10.0.0.1');
      await once(socket, 'listening');
      for (let number = 0; number < EACH; number++) {
        socket.send(String(number), 7, '10.0.0.2');
        const [message] = await once(socket, 'message', { signal: AbortSignal.timeout(5000) });
        if (String(message) === String(number)) answers += 1;
      }
      socket.close();
    }),
  );
  console.log(`${answers} of ${FLOWS * EACH} datagrams came back, in order`);
  for (const worker of workers) worker.postMessage('report');
  const reports = (await Promise.all(workers.map((worker) => posted(worker)))) as Map<number, number>[];
  for (const [index, flows] of reports.entries()) console.log(`  worker ${index}: ${flows.size} flows`);
  const total = reports.reduce((sum, flows) => sum + flows.size, 0);
  console.log(total === FLOWS ? 'no flow was in two queues' : `${total - FLOWS} flows changed their queue`);
  device.close();
}

if (isMainThread) runExample(module, main);
else echo(workerData as string);
