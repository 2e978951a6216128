/**
 * The process that moves packets in a guest: `node vm-peer.js <work> <vhost: true | false> <packet>`, over a device of its own. A line that says how
 * many packets asks for a round, of which `cpu` is the calling thread's.
 */
import { createInterface } from 'node:readline';
import { PacketBatch, TunSocket } from 'tunsock';
import { batchEvent } from '../batch-event';
import { messageEvent } from '../message-event';
import { sendmmsg } from '../sendmmsg';
import { tunDevice } from './device';
import type { Prepare, Round } from './operation';
import { threadCpu } from './thread-cpu';

/** What a guest measures; events and sending as everywhere. */
const works: Record<string, Prepare> = {
  sendmmsg: sendmmsg.prepare,
  // A call waits: with vhost packets come out of the device's queue while the round runs.
  recvmmsg(socket) {
    const batch = new PacketBatch();
    return (packets) => {
      for (let left = packets; left > 0; ) left -= socket.recvmmsg(batch);
      return undefined;
    };
  },
  "'batch'": batchEvent.prepare,
  "'message'": messageEvent.prepare,
};

async function main([name = '', vhost, packet = '']: string[]): Promise<void> {
  const socket = TunSocket.open({ ...tunDevice, vhost: vhost === 'true' });
  const work = (works[name] as Prepare)(socket, Buffer.from(packet, 'hex'));
  process.stdout.write('"ready"\n');
  for await (const line of createInterface({ input: process.stdin })) {
    const packets = Number(line);
    const cpu = threadCpu();
    const start = process.hrtime.bigint();
    await work(packets);
    const nanoseconds = Number(process.hrtime.bigint() - start);
    const round: Round = { packets, nanoseconds, cpu: threadCpu() - cpu };
    process.stdout.write(`${JSON.stringify(round)}\n`);
  }
  socket.close();
}

void main(process.argv.slice(2));
