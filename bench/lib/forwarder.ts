/**
 * The process that forwards with tunsock: `node forwarder.js <offload> <vhost> <near> <far>`, with the paths of two network namespaces. A line asks for
 * the totals so far.
 */
import { createInterface } from 'node:readline';
import { type PacketBatch, TunSocket } from 'tunsock';
import { type ForwardTotals, type Offload, tunOptions } from './forward-stage';
import { threadCpu } from './thread-cpu';

async function main([offload, vhost, near, far]: string[]): Promise<void> {
  const a = TunSocket.open(tunOptions('near', near as string, offload as Offload, vhost === 'true'));
  const b = TunSocket.open(tunOptions('far', far as string, offload as Offload, vhost === 'true'));
  let packets = 0;
  const forward = (to: TunSocket) => (batch: PacketBatch) => {
    for (let sent = 0; sent < batch.length; ) sent += to.sendmmsg(batch, 0, sent);
    packets += batch.length;
  };
  a.on('batch', forward(b));
  b.on('batch', forward(a));
  for await (const _ of createInterface({ input: process.stdin })) {
    const { user, system } = process.cpuUsage();
    const cpu = (user + system) * 1000;
    const totals: ForwardTotals = { packets, nanoseconds: 0, cpu, thread: threadCpu() };
    process.stdout.write(`${JSON.stringify(totals)}\n`);
  }
  a.close();
  b.close();
}

void main(process.argv.slice(2));
