/**
 * The process that does an operation: `node contender.js <operation> <packet> [baseline]`, the socket as descriptor 3. With
 * `baseline`, as the package does that it is compared with, otherwise with tunsock.
 */
import { createInterface } from 'node:readline';
import { socketFromFd } from 'tunsock';
import { operations } from '../operations';
import type { Round, Work } from './operation';

/** What a round leaves behind, in a process that was started with --expose-gc. */
export interface Footprint {
  /** Bytes that the round allocated, on the heap and beside it; undefined where a collection came in between. */
  allocated?: number;
  /** Resident bytes. */
  rss: number;
}

const SOCKET_FD = 3;

async function round(work: Work, packets: number): Promise<Round & Footprint> {
  globalThis.gc?.();
  globalThis.gc?.(); // ends the sweeping that the first one left to another thread
  work.ready?.();
  const before = process.memoryUsage();
  const cpu = process.cpuUsage();
  const start = process.hrtime.bigint();
  const finish = await work(packets);
  const nanoseconds = Number(process.hrtime.bigint() - start);
  const { user, system } = process.cpuUsage(cpu);
  const after = process.memoryUsage();
  finish?.();
  const allocated = after.heapUsed + after.external - before.heapUsed - before.external;
  return {
    packets,
    nanoseconds,
    cpu: (user + system) * 1000,
    rss: after.rss,
    ...(globalThis.gc !== undefined && { allocated }),
  };
}

async function main([name, packet, side]: string[]): Promise<void> {
  const operation = operations.find((known) => known.name === name);
  if (operation === undefined) throw new Error(`no operation ${name}`);
  const socket = socketFromFd(SOCKET_FD);
  const { baseline } = operation;
  const prepare = side === 'baseline' && typeof baseline === 'function' ? baseline : operation.prepare;
  const work = prepare(socket, Buffer.from(packet ?? '', 'hex'));
  for await (const line of createInterface({ input: process.stdin })) {
    process.stdout.write(`${JSON.stringify(await round(work, Number(line)))}\n`);
  }
  socket.close();
}

void main(process.argv.slice(2));
