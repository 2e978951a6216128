import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { constants, PacketBatch, PacketSocket, type PacketSocketOptions } from '../../dist';
import { frame, type Pair, vethPair } from '../helpers/pair';

const dist = join(__dirname, '../../dist');
const TEST = 0x88b5;
/** They fit the queue that a socket has where net.core.rmem_max is small. */
const PACKETS = 150;

let pair: Pair;
beforeEach(() => {
  pair = vethPair();
});
afterEach(() => pair.close());

type Fanout = NonNullable<PacketSocketOptions['fanout']>;
const open = (fanout: Fanout, options: Partial<PacketSocketOptions> = {}) =>
  PacketSocket.open({ interface: 'v0', netns: pair.near, protocol: TEST, fanout, ...options });

/** Sends numbered packets from the far end. */
function sendAll(): void {
  using far = PacketSocket.open({ interface: 'v1', netns: pair.far, protocol: 0 });
  const batch = new PacketBatch({ capacity: PACKETS, packetSize: 64 });
  for (let i = 0; i < PACKETS; i++) {
    const payload = Buffer.alloc(50);
    payload.writeUInt16BE(i * 4);
    batch.push(frame(TEST, payload));
  }
  for (let sent = 0; sent < PACKETS; ) sent += far.sendmmsg(batch, 0, sent);
}

function numbersIn(socket: PacketSocket): number[] {
  const batch = new PacketBatch({ capacity: PACKETS * 2, packetSize: 64 });
  socket.recvmmsg(batch, constants.MSG_DONTWAIT);
  return [...batch].map((packet) => packet.readUInt16BE(14) / 4);
}

const all = Array.from({ length: PACKETS }, (_, i) => i);
const ordered = (numbers: number[]) => [...numbers].sort((a, b) => a - b);

describe('a fanout group', () => {
  it.each(['hash', 'lb', 'cpu', 'rollover', 'random', 'queue-mapping'] as const)(
    '%s: each packet goes to one member',
    (mode) => {
      using a = open({ group: 1, mode });
      using b = open({ group: 1, mode });
      sendAll();
      expect(ordered([...numbersIn(a), ...numbersIn(b)])).toEqual(all);
    },
  );

  it('lb takes turns', () => {
    using a = open({ group: 2, mode: 'lb' });
    using b = open({ group: 2, mode: 'lb' });
    sendAll();
    expect([numbersIn(a).length, numbersIn(b).length]).toEqual([PACKETS / 2, PACKETS / 2]);
  });

  it('rollover goes to the next member when the queue of one is full', () => {
    using a = open({ group: 3, mode: 'rollover' }, { receiveBuffer: 5000 });
    using b = open({ group: 3, mode: 'rollover' });
    sendAll();
    const [first, second] = [numbersIn(a), numbersIn(b)];
    expect(first.length).toBeGreaterThan(0);
    expect(second.length).toBeGreaterThan(0);
    expect(ordered([...first, ...second])).toEqual(all);
  });

  it('takes flags beside the mode', () => {
    using _ = open({ group: 4, mode: 'hash', rollover: true, defrag: true });
    expect(() => open({ group: 4, mode: 'hash' })).toThrow(
      expect.objectContaining({ code: 'EINVAL', syscall: 'PACKET_FANOUT', interface: 'v0' }),
    );
  });

  it('refuses a member with another mode or protocol, and leaves the group as it was', () => {
    using a = open({ group: 5, mode: 'lb' });
    const refused = expect.objectContaining({ code: 'EINVAL', syscall: 'PACKET_FANOUT' });
    expect(() => open({ group: 5, mode: 'hash' })).toThrow(refused);
    expect(() => open({ group: 5, mode: 'lb' }, { protocol: 'all' })).toThrow(refused);
    sendAll();
    expect(numbersIn(a)).toEqual(all);
  });

  it('joins with a filter of its own', () => {
    // Those whose number is 64 or more: the first byte of the payload is not 0.
    const filter = '4\n48 0 0 14\n21 1 0 0\n6 0 0 65535\n6 0 0 0';
    using a = open({ group: 6, mode: 'lb' }, { filter });
    sendAll();
    expect(numbersIn(a)).toEqual(all.slice(64));
  });
});

it('Workers share the packets of an interface, each in its own thread', async () => {
  const code = `
    const { parentPort, workerData } = require('node:worker_threads');
    const { Netns, PacketSocket } = require(${JSON.stringify(dist)});
    const netns = Netns.open('/proc/self/fd/' + workerData.netns);
    const socket = PacketSocket.open({
      interface: 'v0', netns, protocol: ${TEST}, fanout: { group: 9, mode: 'lb' },
    });
    netns.close();
    socket.on('message', (packet) => parentPort.postMessage(packet.readUInt16BE(14) / 4));
    parentPort.once('message', () => socket.close());
    socket.once('listening', () => parentPort.postMessage('ready'));`;
  const shares: number[][] = [[], [], []];
  const workers = shares.map(() => new Worker(code, { eval: true, workerData: { netns: pair.near.fd } }));
  const failed = new Promise<never>((_, reject) => {
    for (const worker of workers) worker.once('error', reject);
  });
  await Promise.race([
    failed,
    Promise.all(workers.map((worker) => new Promise((resolve) => worker.once('message', resolve)))),
  ]);
  const received = new Promise<void>((resolve) => {
    for (const [i, worker] of workers.entries()) {
      worker.on('message', (number: number) => {
        shares[i]?.push(number);
        if (shares.flat().length === PACKETS) resolve();
      });
    }
  });
  sendAll();
  await Promise.race([failed, received]);
  const ended = workers.map((worker) => new Promise((resolve) => worker.once('exit', resolve)));
  for (const worker of workers) worker.postMessage('close');
  expect(await Promise.all(ended)).toEqual([0, 0, 0]);
  expect(ordered(shares.flat())).toEqual(all);
  for (const share of shares) expect(share).toHaveLength(PACKETS / 3);
});
