/**
 * The process that forwards with tunsock: `node forwarder.js <offload> <near> <far>`, with the paths of two network namespaces. A line asks for
 * the totals so far.
 */
import { createInterface } from 'node:readline';
import { type PacketBatch, TunSocket } from 'tunsock';
import { type Offload, tunOptions } from './forward-stage';
import type { Round } from './operation';

async function main([offload, near, far]: string[]): Promise<void> {
  const a = TunSocket.open(tunOptions('near', near as string, offload as Offload));
  const b = TunSocket.open(tunOptions('far', far as string, offload as Offload));
  let packets = 0;
  const forward = (to: TunSocket) => (batch: PacketBatch) => {
    for (let sent = 0; sent < batch.length; ) sent += to.sendmmsg(batch, 0, sent);
    packets += batch.length;
  };
  a.on('batch', forward(b));
  b.on('batch', forward(a));
  for await (const _ of createInterface({ input: process.stdin })) {
    const { user, system } = process.cpuUsage();
    const totals: Round = { packets, nanoseconds: 0, cpu: (user + system) * 1000 };
    process.stdout.write(`${JSON.stringify(totals)}\n`);
  }
  a.close();
  b.close();
}

void main(process.argv.slice(2));
