import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import { ENDED, PRELUDE, run } from '../helpers/program';

describe('a program', () => {
  it('ends by itself with an open socket that nobody waits on', () => {
    expect(run('TunSocket.open(); console.log("end")')).toEqual({ ...ENDED, output: 'end' });
  });

  it('ends by itself after unref(), and goes on with a listener until close()', () => {
    expect(run('TunSocket.open().on("message", () => {}).unref(); console.log("end")')).toEqual({
      ...ENDED,
      output: 'end',
    });
    const program = `const tun = TunSocket.open().on('message', () => {}).on('close', () => console.log('close'));
      setTimeout(() => tun.close(), 100).unref();`;
    expect(run(program)).toEqual({ ...ENDED, output: 'close' });
  });

  it('ends by process.exit() with sockets that are read', () => {
    const program = `for (let n = 0; n < 4; n++) TunSocket.open().on('message', () => {});
      setTimeout(() => process.exit(7), 50);`;
    expect(run(program)).toEqual({ ...ENDED, status: 7, output: '' });
  });

  it.each(['tun', 'tap'])("ends by process.exit() in a 'message' of a flood on a %s", (mode) => {
    const program = `const tun = TunSocket.open({ mode: '${mode}', offload: 'split', address: '10.0.0.1/24' });
      const udp = require('dgram').createSocket('udp4');
      process.on('exit', () => console.log(tun.closed, Link.list().length));
      let seen = 0;
      tun.on('message', () => { if (++seen === 3) process.exit(9); });
      udp.bind(0, '10.0.0.1', () => {
        udp.setBroadcast(true);
        setInterval(() => { for (let n = 0; n < 100; n++) udp.send(Buffer.alloc(100), 9, '10.0.0.255'); }, 1);
      });`;
    expect(run(program)).toEqual({ ...ENDED, status: 9, output: 'false 2' });
  });

  it('ends by Ctrl-C', async () => {
    const child = spawn(
      process.execPath,
      [
        '-e',
        `${PRELUDE}TunSocket.open().on('message', () => {}).on('listening', () => console.log('ready'))`,
        process.cwd(),
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    await once(child.stdout, 'data');
    child.kill('SIGINT');
    expect(await once(child, 'exit')).toEqual([null, 'SIGINT']);
  });

  it('with four sockets waiting still reads files and looks up names', () => {
    const program = `const sockets = [1, 2, 3, 4].map(() => TunSocket.open().on('message', () => {}));
      require('fs').readFile(process.execPath, (error) => require('dns').lookup('localhost', (failed, address) => {
        console.log(error, failed, address);
        for (const socket of sockets) socket.close();
      }));`;
    expect(run(program).output).toMatch(/^null null (127\.0\.0\.1|::1)$/);
  });

  it('keeps its packets when a listener throws', () => {
    const program = `const tun = TunSocket.open({ address: '10.0.0.1/24' });
      const udp = require('dgram').createSocket('udp4');
      const seen = [];
      process.on('uncaughtException', (error) => seen.push(error.message));
      tun.on('message', (packet) => {
        if (packet[0] >> 4 !== 4) return;
        seen.push(packet[28]);
        if (packet[28] === 2) throw new Error('thrown');
        if (packet[28] === 4) { console.log(seen.join()); tun.close(); udp.close(); }
      });
      udp.bind(0, '10.0.0.1', () => { for (const byte of [1, 2, 3, 4]) udp.send(Buffer.of(byte), 9, '10.0.0.2'); });`;
    expect(run(program)).toEqual({ ...ENDED, output: '1,2,thrown,3,4' });
  });

  it('that drops its sockets gets the descriptors back', () => {
    const program = `const before = descriptors();
      for (let n = 0; n < 20; n++) TunSocket.open();
      const between = descriptors();
      (async () => {
        for (let turns = 0; turns < 20 && descriptors() > before; turns++) { await new Promise(setImmediate); gc(); }
        console.log(between > before, descriptors() <= before, Link.list().length);
      })();`;
    expect(run(program, '--expose-gc')).toEqual({ ...ENDED, output: 'true true 1' });
  });

  it('opens and closes three hundred times with the same descriptors', () => {
    const program = `const before = descriptors();
      for (let n = 0; n < 300; n++) { const tun = TunSocket.open({ name: 'again', address: '10.0.0.1/24' }); if (n % 2) tun.on('message', () => {}); tun.close(); }
      setTimeout(() => { gc(); console.log(descriptors() - before <= 0); }, 50);`;
    expect(run(program, '--expose-gc')).toEqual({ ...ENDED, output: 'true' });
  });
});

describe('Workers', () => {
  it('open sockets side by side, and end with them open', () => {
    const program = `const { Worker } = require('worker_threads');
      const code = \`const { parentPort } = require('worker_threads');
        const tun = require(process.cwd()).TunSocket.open({ name: 'w%d' }).on('message', () => {});
        parentPort.on('message', () => process.exit());
        parentPort.postMessage(tun.name);\`;
      const workers = Array.from({ length: 6 }, () => new Worker(code, { eval: true }));
      const names = new Set();
      let ended = 0;
      for (const worker of workers) {
        worker.on('error', (error) => console.log(error)).on('message', (name) => {
          if (names.add(name).size === 6) for (const each of workers) each.postMessage('end');
        }).on('exit', () => {
          if (++ended === 6) console.log(names.size, Link.list().length);
        });
      }`;
    expect(run(program)).toEqual({ ...ENDED, output: '6 1' });
  });

  it('that block in recvmsg can be terminated', () => {
    const program = `const { Worker } = require('worker_threads');
      const worker = new Worker(\`const tun = require(process.cwd()).TunSocket.open({ up: false });
        require('worker_threads').parentPort.postMessage('blocking');
        tun.recvmsg(Buffer.alloc(10));\`, { eval: true });
      worker.on('message', async () => { console.log(await worker.terminate(), Link.list().length); });`;
    expect(run(program)).toEqual({ ...ENDED, output: '1 1' });
  });

  it('can be terminated in the middle of any call, and leave nothing behind', () => {
    // 20 Workers, each stopped a little later in its work than the one before.
    const program = `const { Worker } = require('worker_threads');
      const code = \`const { TunSocket, PacketSocket, PacketBatch, Netns, constants } = require(process.cwd());
        require('worker_threads').parentPort.postMessage('works');
        const batch = new PacketBatch();
        for (;;) {
          using({ address: '10.0.0.1/24', offload: 'split' });
          using({ mode: 'tap', offload: 'raw' });
        }
        function using(options) {
          const tun = TunSocket.open(options).on('message', () => {});
          const packets = PacketSocket.open({ interface: tun.name });
          for (let n = 0; n < 50; n++) {
            tun.recvmmsg(batch, constants.MSG_DONTWAIT);
            tun.send(Buffer.alloc(60), () => {});
            packets.recvmmsg(batch, constants.MSG_DONTWAIT);
            tun.link.addresses();
            tun.stats();
          }
          Netns.create().close();
          packets.close();
          tun.close();
        }\`;
      (async () => {
        const before = descriptors();
        for (let n = 0; n < 20; n++) {
          const worker = new Worker(code, { eval: true });
          worker.on('error', (error) => console.log(error));
          await new Promise((resolve) => worker.once('message', resolve));
          for (const until = performance.now() + n; performance.now() < until; );
          await worker.terminate();
        }
        console.log(descriptors() <= before, Link.list().length);
      })();`;
    expect(run(program)).toEqual({ ...ENDED, output: 'true 1' });
  });

  it('can be terminated in a flood, a hundred times', () => {
    const program = `const { Worker } = require('worker_threads');
      const code = \`const { TunSocket } = require(process.cwd());
        const { parentPort } = require('worker_threads');
        const tun = TunSocket.open({ offload: 'split', address: '10.0.0.1/24' });
        const udp = require('dgram').createSocket('udp4');
        let seen = 0;
        tun.on('message', (packet) => { tun.send(packet, () => {}); if (++seen === 2) parentPort.postMessage('flooded'); });
        const flood = () => { for (let n = 0; n < 50; n++) udp.send(Buffer.alloc(100), 9, '10.0.0.2'); setImmediate(flood); };
        udp.bind(0, '10.0.0.1', flood);\`;
      (async () => {
        const before = descriptors();
        for (let n = 0; n < 100; n++) {
          const worker = new Worker(code, { eval: true });
          worker.on('error', (error) => console.log(error));
          await new Promise((resolve) => worker.once('message', resolve));
          await worker.terminate();
        }
        console.log(descriptors() <= before, Link.list().length);
      })();`;
    expect(run(program)).toEqual({ ...ENDED, output: 'true 1' });
  }, 70_000);
});

describe('the package', () => {
  it('gives import and require the same classes', () => {
    const program = `import(require('url').pathToFileURL(process.argv[1] + '/dist/index.mjs')).then((esm) => {
      const names = ['TunSocket', 'PacketSocket', 'MessageSocket', 'PacketBatch', 'Link', 'Netns', 'socketFromFd'];
      console.log(names.every((name) => esm[name] !== undefined && esm[name] === tunsock[name]), esm.constants.MSG_TRUNC);
    })`;
    expect(run(program)).toEqual({ ...ENDED, output: 'true 32' });
  });

  it('can be imported where it does not work, and says so when used', () => {
    const program = `Object.defineProperty(process, 'platform', { value: 'darwin' });
      const { TunSocket } = require(process.argv[1]);
      try { TunSocket.open(); } catch (error) { console.log(error.code, error.message); }`;
    const { stdout } = spawnSync(process.execPath, ['-e', program, process.cwd()], { encoding: 'utf8' });
    expect(stdout).toMatch(/^ERR_TUNSOCK_PLATFORM tunsock needs Linux/);
  });
});
