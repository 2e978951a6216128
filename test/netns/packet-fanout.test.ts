import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { constants, PacketBatch, PacketSocket, type PacketSocketOptions } from '../../dist';
import { FAR_MAC, frame, NEAR_MAC, type Pair, vethPair } from '../helpers/pair';

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

  it.each(['hash', 'lb', 'cpu', 'random', 'queue-mapping', 'rollover'] as const)(
    '%s: ignoreOutgoing holds in the group too',
    (mode) => {
      const options = { protocol: 'all', ignoreOutgoing: true } as const;
      using a = open({ group: 7, mode }, options);
      using b = open({ group: 7, mode }, options);
      using out = PacketSocket.open({ interface: 'v0', netns: pair.near, protocol: 0 });
      for (let i = 0; i < 20; i++) out.sendmsg(frame(TEST, Buffer.alloc(50), FAR_MAC, NEAR_MAC));
      sendAll();
      expect(ordered([...numbersIn(a), ...numbersIn(b)])).toEqual(all);
    },
  );

  it('ignoreOutgoing goes together with a filter, also one that is set later', () => {
    using a = open(
      { group: 8, mode: 'lb' },
      { protocol: 'all', ignoreOutgoing: true, filter: '1\n6 0 0 16' },
    );
    using out = PacketSocket.open({ interface: 'v0', netns: pair.near, protocol: 0 });
    const lengths = () => {
      out.sendmsg(frame(TEST, Buffer.alloc(50), FAR_MAC, NEAR_MAC));
      sendAll();
      const batch = new PacketBatch({ capacity: 2 * PACKETS });
      a.recvmmsg(batch);
      return [batch.length, batch.lengths[0]];
    };
    expect(lengths()).toEqual([PACKETS, 16]);
    a.setFilter('1\n6 0 0 20');
    expect(lengths()).toEqual([PACKETS, 20]);
    a.removeFilter();
    expect(lengths()).toEqual([PACKETS, 64]);
  });

  it("'rollover' with rollover is refused for what it is", () => {
    expect(() => open({ group: 1, mode: 'rollover', rollover: true })).toThrow(
      expect.objectContaining({
        code: 'ERR_INVALID_ARG_VALUE',
        message: expect.stringContaining('rollover'),
      }),
    );
  });

  it("group 'unique' finds a number, by which others join", () => {
    using a = open({ group: 'unique', mode: 'lb' });
    using b = open({ group: 'unique', mode: 'lb' });
    expect(a.fanoutGroup).not.toBe(b.fanoutGroup);
    using c = open({ group: b.fanoutGroup as number, mode: 'lb' });
    using alone = PacketSocket.open({ interface: 'v0', netns: pair.near });
    expect([c.fanoutGroup, alone.fanoutGroup]).toEqual([b.fanoutGroup, undefined]);
    sendAll();
    expect([a, b, c].map((socket) => numbersIn(socket).length)).toEqual([PACKETS, PACKETS / 2, PACKETS / 2]);
  });

  it('maxMembers bounds the group, and lets it be larger than 256', () => {
    using a = open({ group: 10, mode: 'lb', maxMembers: 2 });
    using b = open({ group: 10, mode: 'lb', maxMembers: 2 });
    expect([a.fanoutGroup, b.fanoutGroup]).toEqual([10, 10]);
    expect(() => open({ group: 10, mode: 'lb', maxMembers: 2 })).toThrow(
      expect.objectContaining({ code: 'ENOSPC', syscall: 'PACKET_FANOUT' }),
    );
    const many = Array.from({ length: 260 }, () => open({ group: 11, mode: 'lb', maxMembers: 300 }));
    expect(many[259]?.fanoutGroup).toBe(11);
    for (const socket of many) socket.close();
    expect(() => open({ group: 12, mode: 'lb', maxMembers: 0 })).toThrow(RangeError);
  });

  describe('with a program', () => {
    // The kernel shows it a packet from its network header on, here the payload: its second byte is 4 times the number, modulo 256.
    const byNumber = '4\n48 0 0 1\n116 0 0 2\n84 0 0 1\n22 0 0 0';

    it('classic BPF says who gets a packet', () => {
      using a = open({ group: 13, program: byNumber });
      using b = open({ group: 13, program: byNumber });
      sendAll();
      expect(numbersIn(a)).toEqual(all.filter((number) => number % 2 === 0));
      expect(numbersIn(b)).toEqual(all.filter((number) => number % 2 === 1));
    });

    it('what the kernel refuses, and what is no program', () => {
      expect(() => open({ group: 14, program: '1\n48 0 0 1' })).toThrow(
        expect.objectContaining({ code: 'EINVAL', syscall: 'PACKET_FANOUT_DATA' }),
      );
      const file = openSync('/dev/null', 'r');
      expect(() => open({ group: 14, program: file })).toThrow(
        expect.objectContaining({ code: 'EINVAL', syscall: 'PACKET_FANOUT_DATA' }),
      );
      closeSync(file);
      expect(() => open({ group: 14, program: 0x7ffffffe })).toThrow(
        expect.objectContaining({ code: 'EBADF', syscall: 'PACKET_FANOUT_DATA' }),
      );
      expect(() => open({ group: 14, mode: 'lb', program: byNumber } as never)).toThrow(
        expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }),
      );
    });
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
