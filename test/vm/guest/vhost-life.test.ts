import { execFileSync, spawnSync } from 'node:child_process';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { chmodSync, rmSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Link, Netns, PacketBatch, TunSocket } from '../../../dist';
import { HOST, PEER } from '../../helpers/device';
import { untilEnoughDescriptors } from '../../helpers/fewer-descriptors';
import { enterQuietNamespace } from '../../helpers/namespace';
import { program } from '../../helpers/optional';
import { ethernetFrame, udpPacket } from '../../helpers/packets';
import { FAR_MAC } from '../../helpers/pair';
import { ENDED, PRELUDE, run } from '../../helpers/program';

beforeEach(() => {
  enterQuietNamespace();
});

const forms = (['tun', 'tap'] as const).flatMap((mode) =>
  (['none', 'split', 'raw'] as const).map((offload) => ({ mode, offload })),
);

describe.each(forms)('a $mode device by vhost with offload $offload', ({ mode, offload }) => {
  const header = (mode === 'tap' ? 14 : 0) + 28;
  let socket: TunSocket;
  let udp: Socket;
  /** The numbers of the host's datagrams that came, and what else was told. */
  let numbers: number[];
  let told: string[];
  let sent: number;

  const bind = async (at: Netns) => {
    udp = await at.bind(createSocket('udp4'), 0, HOST);
  };
  /** Sends more datagrams, some at a time, until the socket has had twenty of them. */
  const goesOn = async () => {
    const first = sent;
    const since = numbers.length;
    const deadline = Date.now() + 30_000;
    while (numbers.length < since + 20) {
      expect(Date.now()).toBeLessThan(deadline);
      const data = Buffer.alloc(800);
      data.writeUInt32BE(sent++);
      await new Promise((resolve) => udp.send(data, 9, PEER, resolve));
      await setImmediate();
    }
    const came = numbers.slice(since);
    expect(came).toEqual([...new Set(came)].sort((a, b) => a - b));
    expect(came.at(-1)).toBeGreaterThanOrEqual(first);
  };

  beforeEach(async () => {
    socket = TunSocket.open({ name: 'c0', mode, offload, vhost: true, vhostRing: 64, address: `${HOST}/24` });
    if (mode === 'tap') socket.link.addNeighbour(PEER, FAR_MAC);
    [numbers, told, sent] = [[], [], 0];
    socket.on('message', (packet) => {
      const ip = header - 28;
      if (packet.length >= header + 4 && packet[ip + 9] === 17 && packet.readUInt16BE(ip + 22) === 9)
        numbers.push(packet.readUInt32BE(header));
    });
    socket
      .on('link', ({ kind }) => told.push(kind))
      .on('error', ({ code }: NodeJS.ErrnoException) => told.push(String(code)));
    await bind(Netns.current());
  });
  afterEach(() => {
    udp.close();
    socket[Symbol.dispose]();
  });

  it('goes on while it is brought down and up, renamed, and given another mtu', async () => {
    await goesOn();
    const { link } = socket;
    // Linux 6.1 renames only what is down (dev_change_name()).
    link.down();
    link.rename('c1');
    link.up();
    if (mode === 'tap') link.addNeighbour(PEER, FAR_MAC);
    await goesOn();
    expect(socket.name).toBe('c1');
    link.mtu = 1000;
    await goesOn();
    expect(told).toEqual(expect.arrayContaining(['down', 'up', 'renamed', 'mtu']));
    expect(told).not.toContain('EBADFD');
  });

  it('goes on in another namespace', async () => {
    await goesOn();
    const there = Netns.create();
    udp.close();
    Link.get('c0').moveTo(there);
    there.run(() => {
      const link = Link.get('c0');
      link.up();
      link.addAddress(`${HOST}/24`);
      if (mode === 'tap') link.addNeighbour(PEER, FAR_MAC);
    });
    await bind(there);
    await goesOn();
    expect(told).toContain('moved');
    there.close();
  });

  it('ends when it is deleted, and one of the same name is another one', async () => {
    await goesOn();
    const closed = once(socket, 'close');
    socket.link.delete();
    using again = TunSocket.open({ name: 'c0', mode, offload, vhost: true, vhostRing: 64 });
    // 'error' comes before, which once() would reject for.
    await closed.catch(() => {});
    expect([socket.closed, again.closed]).toEqual([true, false]);
    expect(told.filter((text) => text === 'EBADFD')).toEqual(['EBADFD']);
    expect(again.sendmsg(Buffer.alloc(60, mode === 'tap' ? 0 : 0x45))).toBe(60);
  });
});

it('what can not leave is given up when the socket is closed, after a while', () => {
  // What leaves by a bridge stays its sender's until it is on the cable, and this cable takes a packet in some minutes.
  const tap = TunSocket.open({ name: 'port', mode: 'tap', offload: 'none', vhost: true, vhostRing: 64 });
  const bridge = Link.create({ type: 'bridge', name: 'bridge', up: true });
  const cable = Link.create({ type: 'veth', name: 'cable', peer: { name: 'end' }, up: true });
  Link.get('end').up();
  for (const port of [tap.link, cable]) port.setMaster(bridge);
  execFileSync(program('tc'), [
    ...['qdisc', 'add', 'dev', 'cable', 'root', 'tbf'],
    ...['rate', '64bit', 'burst', '1600', 'limit', '1000000'],
  ]);
  tap.setSendBufferSize(20_000);
  const packet = udpPacket([PEER, 4000], [HOST, 9], Buffer.alloc(1000));
  const bytes = ethernetFrame(
    Buffer.from([2, 0, 0, 0, 0, 9]),
    Buffer.from([2, 0, 0, 0, 0, 2]),
    0x0800,
    packet,
  );
  const batch = new PacketBatch({ capacity: 64, packetSize: 1200 });
  for (let count = 0; count < 64; count++) batch.push(bytes);
  // The ring is full while the kernel's thread waits for room.
  const deadline = Date.now() + 20_000;
  let sent = 0;
  let stuck = 0;
  while (stuck < 20 && Date.now() < deadline) {
    let more = 0;
    try {
      more = tap.sendmmsg(batch, 0x40);
    } catch (error) {
      expect(error).toMatchObject({ code: 'EAGAIN' });
    }
    sent += more;
    stuck = more === 0 ? stuck + 1 : 0;
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50);
  }
  expect(stuck).toBe(20);
  expect(sent).toBeGreaterThan(64);
  const started = performance.now();
  tap.close();
  const took = performance.now() - started;
  // close() gives them 100 ms, which is its bound and not how long it takes to be done.
  expect(took).toBeGreaterThanOrEqual(95);
  bridge.delete();
  cable.delete();
});

/** The kernel's vhost threads of a process; and a flood from the host to the peer. */
const FLOOD = `
  const fs = require('fs');
  const threads = () => [...fs.readdirSync('/proc').filter((id) => /^\\d+$/.test(id)).map((id) => '/proc/' + id),
      ...fs.readdirSync('/proc/self/task').map((id) => '/proc/self/task/' + id)]
    .filter((at) => { try { return fs.readFileSync(at + '/comm', 'latin1').trim() === 'vhost-' + process.pid; } catch { return false; } }).length;
  const udp = require('dgram').createSocket('udp4');
  let flooding = true;
  const flood = () => {
    if (!flooding) return udp.close();
    for (let n = 0; n < 10; n++) udp.send(Buffer.alloc(500), 9, '10.0.0.2', () => {});
    setImmediate(flood);
  };
`;

describe('a process', () => {
  it('may terminate a Worker in the middle of a flood, and nothing is left of it', () => {
    const { output, ...ended } = run(`${FLOOD}
      const { Worker } = require('worker_threads');
      const code = \`const { TunSocket } = require(process.cwd());
        const { parentPort, workerData } = require('worker_threads');
        let seen = 0;
        const tun = TunSocket.open({ address: '10.0.0.1/24', vhost: true, vhostRing: 64, ...workerData });
        tun.on('message', (packet) => { tun.send(packet, () => {}); if (++seen === 50) parentPort.postMessage(seen); });\`;
      // Tunnels that other tests want come to each namespace.
      const belongings = () => [Link.list().filter(({ type }) => type === 'tun').length, descriptors(), threads()];
      (async () => {
        await new Promise((resolve) => udp.bind(0, resolve));
        flood();
        let before;
        for (let round = 0; round < 4; round++) {
          // The first one leaves what a Worker always does.
          if (round === 1) before = belongings();
          const worker = new Worker(code, { eval: true, workerData: { offload: ['none', 'split', 'raw'][round % 3] } });
          worker.on('error', (error) => console.log(error));
          await new Promise((resolve) => worker.once('message', resolve));
          await worker.terminate();
        }
        flooding = false;
        console.log(JSON.stringify([before, belongings()]));
      })();`);
    expect(ended).toEqual(ENDED);
    const [before, after] = JSON.parse(output);
    expect(after).toEqual(before);
    expect([after[0], after[2]]).toEqual([0, 0]);
  });

  it("may end in a 'message'", () => {
    const ended = run(`${FLOOD}
      const tun = TunSocket.open({ address: '10.0.0.1/24', offload: 'split', vhost: true });
      tun.on('message', () => process.exit(7));
      udp.bind(0, flood);`);
    expect(ended).toEqual({ ...ENDED, status: 7, output: '' });
  });
});

describe('a process that may have no more', () => {
  const LIMIT = `const limit = (name, value) =>
    require('child_process').execFileSync('prlimit', ['--pid', process.pid, '--' + name + '=' + value + ':']);
  const open = (options) => TunSocket.open({ name: 'v0', vhost: true, ...options });`;

  it('descriptors is told EMFILE, wherever they end, and nothing is left', () => {
    const { output, ...ended } = run(`${LIMIT}
      const { openSync, closeSync } = require('fs');
      const belongings = () => JSON.stringify([descriptors(), Link.list().filter(({ type }) => type === 'tun').length]);
      open().close();
      limit('nofile', 64);
      ${untilEnoughDescriptors('[open()]', "error.syscall + ' ' + error.code")}
      console.log(JSON.stringify([[...failures], left, same]));`);
    expect(ended).toEqual(ENDED);
    const [failures, ...rest] = JSON.parse(output);
    expect(failures).toEqual(expect.arrayContaining(['open EMFILE', 'eventfd EMFILE']));
    for (const failure of failures) expect(failure).toMatch(/ EMFILE$/);
    expect(rest).toEqual([0, true]);
  });

  it('memory is told ENOMEM, and that the ring may be smaller (RLIMIT_AS)', () => {
    const { output, ...ended } = run(`${LIMIT}
      const size = Number(/VmSize:\\s+(\\d+)/.exec(require('fs').readFileSync('/proc/self/status', 'utf8'))[1]) * 1024;
      open().close();
      limit('as', size + (100 << 20));
      let error;
      try { open({ vhostRing: 32768 }); } catch (thrown) { error = thrown; }
      open({ name: 'v1', vhostRing: 64 }).close();
      console.log(error?.syscall, error?.code, error?.message);`);
    expect(ended).toEqual(ENDED);
    expect(output).toMatch(/^mmap ENOMEM .*make vhostRing smaller/);
  });

  it('locked memory opens all the same (RLIMIT_MEMLOCK)', () => {
    const ended = run(
      `${LIMIT} limit('memlock', 0); const tun = open(); console.log(tun.vhost); tun.close();`,
    );
    expect(ended).toEqual({ ...ENDED, output: 'true' });
  });
});

describe('a vhost device', () => {
  it('of a kernel without a feature is EOPNOTSUPP, and the error says which are wanted', () => {
    // That of vsock has no merged receive buffers (drivers/vhost/vsock.c).
    execFileSync('modprobe', ['vhost_vsock']);
    expect(() => TunSocket.open({ vhost: true, vhostDevice: '/dev/vhost-vsock' })).toThrow(
      expect.objectContaining({
        code: 'EOPNOTSUPP',
        syscall: 'VHOST_GET_FEATURES',
        message: expect.stringContaining('merged receive buffers'),
      }),
    );
    using without = TunSocket.open({ vhost: 'prefer', vhostDevice: '/dev/vhost-vsock' });
    expect(without.vhost).toBe(false);
  });

  it('that may not be opened is EACCES, and the error names the group', () => {
    const device = '/tmp/vhost-net-of-nobody';
    execFileSync('mknod', [device, 'c', '10', '238']);
    chmodSync(device, 0);
    // Its owner may not open it either, without the capability to do so all the same.
    const { status, stdout, stderr } = spawnSync(
      'setpriv',
      [
        ...['--bounding-set=-dac_override,-dac_read_search', '--inh-caps=-all', process.execPath, '-e'],
        `${PRELUDE}
          try { TunSocket.open({ vhost: true, vhostDevice: '${device}' }); }
          catch ({ code, message }) { console.log(code, message, Link.list().filter(({ type }) => type === 'tun').length); }`,
        process.cwd(),
      ],
      { encoding: 'utf8' },
    );
    rmSync(device);
    expect([status, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(/^EACCES .*vhost-net-of-nobody.*kvm.* 0\n$/);
  });
});
