import { describe, expect, it } from 'vitest';
import { ENDED, run } from '../helpers/program';

const FLOODED = `const { Worker } = require('worker_threads');
  const dgram = require('dgram');
  const flooded = TunSocket.open({ name: 'flooded', address: '10.0.0.1/24', txQueueLength: 1000 });
  // Another thread sends as fast as it can.
  const sender = new Worker(\`const udp = require('dgram').createSocket('udp4');
    const flood = () => { for (let n = 0; n < 100; n++) udp.send(Buffer.alloc(1000), 9, '10.0.0.2', () => {}); setImmediate(flood); };
    udp.bind(0, '10.0.0.1', flood);\`, { eval: true });
  const other = TunSocket.open({ name: 'other', address: '10.0.1.1/24' });
  other.on('message', (packet) => {
    const source = packet.readUInt32BE(12);
    packet.copyWithin(12, 16, 20);
    packet.writeUInt32BE(source, 16);
    other.send(packet);
  });
  let [packets, fired, trips] = [0, 0, 0];`;

describe('a flood on one socket', () => {
  it.each([
    ["'message'", `flooded.on('message', () => { packets++; });`],
    ["'batch'", `flooded.on('batch', (batch) => { packets += batch.length; });`],
    ['for await', `(async () => { for await (const _ of flooded) packets++; })();`],
    [
      'receive() in a loop',
      `(async () => { for (;;) { await flooded.receive(); packets++; } })().catch(() => {});`,
    ],
    ['a stream', `flooded.stream().on('data', () => { packets++; });`],
  ])(
    "by %s leaves timers and another socket's round trips their turn",
    (_, take) => {
      const program = `${FLOODED}
      ${take}
      const udp = dgram.createSocket('udp4');
      const ping = () => udp.send('ping', 7, '10.0.1.2');
      udp.on('message', () => {
        trips++;
        end();
        ping();
      });
      const timer = setInterval(() => { fired++; end(); }, 5);
      const end = () => {
        // Both while the flood goes on, which has thousands of packets meanwhile.
        if (trips < 50 || fired < 20 || packets < 2000) return;
        console.log('end');
        process.exit();
      };
      udp.bind(7, '10.0.1.1', ping);`;
      expect(run(program)).toEqual({ ...ENDED, output: 'end' });
    },
    70_000,
  );
});

describe('the batch path', () => {
  /** Bytes for each packet, where a call or an event has 64 of them or more: it takes some itself, a packet none. */
  const FEW = 32;

  it.each([
    [
      "'batch'",
      `tun.on('batch', (batch) => { left -= batch.length; if (left === 0) done(); }); tun.resume();`,
    ],
    [
      'recvmmsg() and sendmmsg()',
      `while (left > 0) { left -= tun.recvmmsg(batch); tun.sendmmsg(batch); }
       done();`,
    ],
  ])('by %s allocates nothing for a packet', (_, take) => {
    const program = `const tun = TunSocket.open({ address: '10.0.0.1/24', txQueueLength: 8192 }).pause();
      const udp = require('dgram').createSocket('udp4');
      const COUNT = 4096;
      const batch = new tunsock.PacketBatch();
      let left;
      let done;
      const used = () => { const { heapUsed, external } = process.memoryUsage(); return heapUsed + external; };
      const round = async () => {
        tun.removeAllListeners('batch').pause();
        for (let n = 0; n < COUNT; n++) await new Promise((resolve) => udp.send(Buffer.alloc(100), 9, '10.0.0.2', resolve));
        left = COUNT;
        gc();
        gc();
        const before = used();
        await new Promise((resolve) => { done = resolve; ${take} });
        return (used() - before) / COUNT;
      };
      (async () => {
        const each = [];
        // Code that is compiled in the first rounds is not what is asked for.
        for (let n = 0; n < 5; n++) each.push(await round());
        console.log(Math.min(...each.map(Math.abs)).toFixed(1));
        process.exit();
      })();`;
    const { output, ...ended } = run(program, '--expose-gc');
    expect(ended).toEqual(ENDED);
    expect(Number(output)).toBeLessThan(FEW);
  });
});
