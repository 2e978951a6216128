import { once } from 'node:events';
import { performance } from 'node:perf_hooks';
import { describe, expect, it } from 'vitest';
import { constants } from '../../dist';
import { inheriting } from '../helpers/inheriting';
import { empty, packetStage, room, text } from '../helpers/packet-stage';

const { MSG_DONTWAIT, MSG_ERRQUEUE, MSG_TRUNC } = constants;
const stage = packetStage();
const { near, far } = stage;

/** How often the event loop has come round (uv_metrics_info). */
const turns = () =>
  (performance.nodeTiming as unknown as { uvMetricsInfo: { loopCount: number } }).uvMetricsInfo.loopCount;

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

describe.each(['none', 'split', 'raw'] as const)("transmitTimestamps with offload '%s'", (offload) => {
  it('say when each packet went to the device', () => {
    const socket = near({ offload, transmitTimestamps: true });
    const before = BigInt(Date.now()) * 1_000_000n;
    for (const name of ['one', 'two']) socket.sendmsg(text(name));
    for (const name of ['one', 'two']) {
      const data = room();
      const { bytes, size, timestamp } = socket.recvmsg(data, MSG_ERRQUEUE);
      expect([size, data.subarray(0, bytes)]).toEqual([64, text(name)]);
      expect((timestamp as bigint) - before).toBeGreaterThan(-1_000_000n);
      expect((timestamp as bigint) - before).toBeLessThan(10_000_000_000n);
    }
    expect(() => socket.recvmsg(room(), MSG_ERRQUEUE)).toThrow(empty);
    expect(socket.stats().received.packets).toBe(0);
  });

  it('cut as every packet is', () => {
    const socket = near({ offload, transmitTimestamps: true });
    socket.sendmsg(text('long'));
    expect(socket.recvmsg(Buffer.alloc(20), MSG_ERRQUEUE | MSG_TRUNC)).toMatchObject({
      size: 64,
      bytes: 64,
      flags: MSG_TRUNC,
    });
  });

  it('that nobody reads hold up nothing, and cost no more than a wake-up', async () => {
    const socket = near({ offload, transmitTimestamps: true });
    const received: Buffer[] = [];
    socket.on('message', (packet) => received.push(packet));
    await once(socket, 'listening');
    for (let i = 0; i < 100; i++) socket.sendmsg(text(`sent ${i}`));
    await sleep(50);
    const before = turns();
    await sleep(100);
    expect(turns() - before).toBeLessThan(20);
    far().sendmsg(text('arrives'));
    while (received.length === 0) await sleep(1);
    expect(received).toEqual([text('arrives')]);

    // The newest of them are there still, in order.
    const names: string[] = [];
    for (;;) {
      const data = room();
      try {
        names.push(data.toString('latin1', 14, socket.recvmsg(data, MSG_ERRQUEUE).bytes).replaceAll('.', ''));
      } catch (error) {
        expect(error).toEqual(empty);
        break;
      }
    }
    expect(names.length).toBeGreaterThanOrEqual(64);
    expect(names).toEqual(Array.from({ length: names.length }, (_, i) => `sent ${100 - names.length + i}`));
  });

  it('that nobody reads leave a blocking call its time', () => {
    const socket = near({ offload, transmitTimestamps: true, receiveTimeout: 200 });
    socket.sendmsg(text('sent'));
    const before = process.cpuUsage();
    expect(() => socket.recvmsg(room())).toThrow(empty);
    const { user, system } = process.cpuUsage(before);
    expect(user + system).toBeLessThan(100_000);
    expect(socket.recvmsg(room(), MSG_ERRQUEUE).bytes).toBe(64);
  });
});

it('a descriptor that came with a full error queue is heard all the same', () => {
  const socket = near({ transmitTimestamps: true });
  socket.sendmsg(text('sent'));
  far().sendmsg(text('queued'));
  const code = `
    const turns = () => performance.nodeTiming.uvMetricsInfo.loopCount;
    const socket = socketFromFd(3);
    socket.on('message', (packet) => {
      const before = turns();
      setTimeout(() => {
        const came = turns() - before;
        const errors = socket.recvmsg(Buffer.alloc(100), constants.MSG_ERRQUEUE).bytes;
        console.log(JSON.stringify([packet.length, errors, came]));
        socket.close();
      }, 200);
    });`;
  const [length, errors, came] = inheriting(socket, code) as number[];
  expect([length, errors]).toEqual([64, 64]);
  expect(came).toBeLessThan(20);
  expect(() => socket.recvmsg(room(), MSG_DONTWAIT)).toThrow(empty);
});
