import { describe, expect, it } from 'vitest';
import { untilEnoughDescriptors } from '../helpers/fewer-descriptors';
import { ENDED, run } from '../helpers/program';

/** Sets a limit of the program's own, by prlimit(1) of util-linux. */
const LIMIT = `
  const limit = (name, value) => require('child_process').execFileSync('prlimit', ['--pid', process.pid, '--' + name + '=' + value + ':']);
  const { openSync, closeSync } = require('fs');
  const belongings = () => JSON.stringify([descriptors(), Link.list().map(({ name }) => name)]);`;

/** The thread sanitizer maps terabytes, and opens its report when it likes, by the next number that is free. */
const outsideThreadSanitizer = it.skipIf(/thread/.test(process.env.TUNSOCK_SANITIZERS ?? ''));

describe('a process that may have no more descriptors', () => {
  /** With 0, 1, 2 … descriptors to spare, until it goes well: what it failed with, and whether anything was left of it. */
  const FEWER = (call: string) => `${LIMIT}
    const { PacketSocket, UdpSocket, DescriptorChannel } = tunsock;
    const call = () => { ${call} };
    call().forEach((made) => made.close());
    limit('nofile', 64);
    ${untilEnoughDescriptors('call()', "error.code + ' ' + (typeof error.syscall === 'string')")}
    console.log(JSON.stringify({ failures: [...failures], left, same }));`;

  it.each([
    [
      'TunSocket.open()',
      `return [TunSocket.open({ name: 'e0', offload: 'split', address: ['10.0.0.1/24', 'fd00::1/64'], mtu: 1400 })];`,
    ],
    [
      'TunSocket.open() in a namespace',
      `const ns = Netns.create(); try { return [TunSocket.open({ netns: ns }), ns]; } catch (error) { ns.close(); throw error; }`,
    ],
    ['PacketSocket.open()', `return [PacketSocket.open({ interface: 'lo' })];`],
    ['UdpSocket.open()', `return [UdpSocket.open({ address: '127.0.0.1', port: 4000 })];`],
    ['Netns.create()', `return [Netns.create()];`],
    ['DescriptorChannel.pair()', `return DescriptorChannel.pair();`],
    ['Link.monitor()', `return [Link.monitor()];`],
  ])('%s fails with EMFILE, and leaves nothing', (_, call) => {
    const { output, ...ended } = run(`Link.get('lo').up();${FEWER(call)}`);
    expect(ended).toEqual(ENDED);
    expect(JSON.parse(output)).toEqual({ failures: ['EMFILE true'], left: 0, same: true });
  });
});

describe('a process that may have no more memory', () => {
  outsideThreadSanitizer('is told so by a batch that does not fit, and its sockets go on (RLIMIT_AS)', () => {
    const program = `${LIMIT}
      const { PacketBatch } = tunsock;
      const tun = TunSocket.open({ address: '10.0.0.1/24' });
      const size = Number(/VmSize:\\s+(\\d+)/.exec(require('fs').readFileSync('/proc/self/status', 'utf8'))[1]) * 1024;
      limit('as', size + (256 << 20));
      let error;
      try { new PacketBatch({ capacity: 32768, packetSize: 65535 }); } catch (thrown) { error = thrown; }
      tun.on('message', (packet) => {
        if (packet[0] >> 4 !== 4) return;
        console.log(error?.code, packet.length);
        tun.close();
        udp.close();
      });
      const udp = require('dgram').createSocket('udp4');
      udp.send('x', 9, '10.0.0.2');`;
    expect(run(program)).toEqual({ ...ENDED, output: 'ERR_OUT_OF_RANGE 29' });
  });

  it("keeps up with a 'message' flood in a heap of 16 MiB: packets nobody keeps cost nothing", () => {
    const program = `
      const tun = TunSocket.open({ address: '10.0.0.1/24', txQueueLength: 1000 });
      const udp = require('dgram').createSocket('udp4');
      let [seen, sent] = [0, 0];
      tun.on('message', () => { if (++seen === 50000) { console.log('end'); process.exit(); } });
      const flood = () => {
        for (let n = 0; n < 100; n++) udp.send(Buffer.alloc(1400), 9, '10.0.0.2', () => {});
        setImmediate(flood);
      };
      udp.bind(0, '10.0.0.1', flood);`;
    expect(run(program, '--max-old-space-size=16')).toEqual({ ...ENDED, output: 'end' });
  });
});

describe('several Workers on one queue', () => {
  it('get each packet once between them, by descriptors of their own', () => {
    const program = `const { Worker } = require('worker_threads');
      const { DescriptorChannel } = tunsock;
      const code = \`const { socketFromFd } = require(process.cwd());
        const { parentPort, workerData } = require('worker_threads');
        const tun = socketFromFd(workerData);
        tun.on('message', (packet) => { if (packet[0] >> 4 === 4 && packet[9] === 17) parentPort.postMessage(packet.readUInt32BE(28)); });
        tun.on('error', (error) => parentPort.postMessage(error.code));
        tun.on('listening', () => parentPort.postMessage('ready'));\`;
      (async () => {
        const tun = TunSocket.open({ address: '10.0.0.1/24', txQueueLength: 5000 });
        const [near, far] = DescriptorChannel.pair();
        const seen = [];
        let ready = 0;
        const workers = [];
        const udp = require('dgram').createSocket('udp4');
        const COUNT = 3000;
        for (let n = 0; n < 2; n++) {
          near.send(tun);
          const { sockets: [copy] } = await far.receive();
          const worker = new Worker(code, { eval: true, workerData: copy.detach() });
          workers.push(worker);
          worker.on('error', (error) => console.log(error)).on('message', async (told) => {
            if (told === 'ready' && ++ready === 2) {
              for (let number = 0; number < COUNT; number++) {
                const data = Buffer.alloc(100);
                data.writeUInt32BE(number);
                await new Promise((resolve) => udp.send(data, 9, '10.0.0.2', resolve));
              }
            }
            if (told !== 'ready') seen.push(told);
            if (seen.length === COUNT) {
              await new Promise((resolve) => setTimeout(resolve, 50));
              console.log(new Set(seen).size, seen.length, seen.every(Number.isInteger));
              for (const worker of workers) await worker.terminate();
              // The device is this thread's, still.
              console.log(tun.closed, Link.list().length);
              process.exit();
            }
          });
        }
      })();`;
    expect(run(program)).toEqual({ ...ENDED, output: '3000 3000 true\nfalse 2' });
  });
});

describe('a descriptor that other code closes under its socket', () => {
  outsideThreadSanitizer(
    'is EBADF to calls; once the number is reused it is what the calls go to, and close() closes that',
    () => {
      // No program can tell who has a number: open(2) gives the lowest that is free.
      const program = `const fs = require('fs');
      const tun = TunSocket.open();
      const number = tun.fd;
      const codeOf = (call) => { try { call(); } catch (error) { return error.code; } };
      fs.closeSync(number);
      const codes = [codeOf(() => tun.recvmsg(Buffer.alloc(100), 64)), codeOf(() => tun.sendmsg(Buffer.alloc(20), 64))];
      const file = fs.openSync('/dev/null', 'r+');
      console.log(...codes, file === number, tun.sendmsg(Buffer.alloc(20), 64));
      tun.close();
      console.log(codeOf(() => fs.fstatSync(file)));`;
      expect(run(program)).toEqual({ ...ENDED, output: 'EBADF EBADF true 20\nEBADF' });
    },
  );
});

describe('an open() that is aborted by what its own options do', () => {
  it.each(['name', 'address', 'offload'])('in %s: fails or is closed, and leaves nothing', (option) => {
    const program = `${LIMIT}
      TunSocket.open({ name: 'e0' }).close();
      const before = belongings();
      const values = { name: 'e0', address: '10.0.0.1/24', offload: 'split' };
      const control = new AbortController();
      const options = { ...values, signal: control.signal };
      Object.defineProperty(options, '${option}', { enumerable: true, get() { control.abort(); return values['${option}']; } });
      let result;
      try { result = TunSocket.open(options).closed; } catch (error) { result = error.code; }
      console.log(result === true || result === 'ABORT_ERR', belongings() === before);`;
    expect(run(program)).toEqual({ ...ENDED, output: 'true true' });
  });
});
