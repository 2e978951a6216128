import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { constants, PacketSocket, socketFromFd, TunSocket } from '../../dist';
import { inheriting } from '../helpers/inheriting';
import { program } from '../helpers/optional';
import { packetStage, room, TEST, text } from '../helpers/packet-stage';
import { frame } from '../helpers/pair';
import { HAS_PYTHON } from '../helpers/peers';

const O_NONBLOCK = 0o4000;
const dist = join(__dirname, '../../dist');
const stage = packetStage();
const { near, far, kept } = stage;

const statusOf = (fd: number) =>
  Number.parseInt(/^flags:\s*(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1] as string, 8);

describe('a descriptor that has an owner', () => {
  const taken = expect.objectContaining({ code: 'EEXIST', errno: -17, syscall: 'fromFd' });

  it('that is another socket of this thread is refused, and that one lives on', async () => {
    const packet = near();
    const tun = kept(TunSocket.open({ mode: 'tap', netns: stage.pair.near }));
    for (const fd of [packet.fd, tun.fd]) {
      for (const adopt of [socketFromFd, PacketSocket.fromFd, TunSocket.fromFd]) {
        expect(() => adopt(fd)).toThrow(taken);
      }
    }
    const message = once(packet, 'message');
    expect(() => socketFromFd(packet.fd)).toThrow(taken);
    far().sendmsg(text('still there'));
    expect((await message)[0]).toEqual(text('still there'));
    packet.close();
  });

  it('may be taken when its owner has closed: the number is another file then', () => {
    const first = near();
    const { fd } = first;
    first.close();
    const second = near();
    expect(second.fd).toBe(fd);
    expect(() => socketFromFd(fd)).toThrow(taken);
  });

  it('that Node watches is no packet socket, and stays as it is', async () => {
    const server = createServer().listen(0);
    await once(server, 'listening');
    const { fd } = (server as unknown as { _handle: { fd: number } })._handle;
    expect(() => socketFromFd(fd)).toThrow(expect.objectContaining({ code: 'ENOTSOCK' }));
    expect(statusOf(fd) & O_NONBLOCK).toBe(O_NONBLOCK);
    server.close();
  });

  it.runIf(HAS_PYTHON)('that Node watches is refused', () => {
    // A pipe's handle takes any descriptor of a stream or socket: what libuv watches, nobody else can.
    const code = `
      const { Pipe, constants: { SOCKET } } = process.binding('pipe_wrap');
      const pipe = new Pipe(SOCKET);
      pipe.open(3);
      pipe.readStart();
      let code;
      try { socketFromFd(3); } catch (error) { code = error.code; }
      fstatSync(3);
      console.log(JSON.stringify(code));
      process.exit(0);`;
    expect(inheriting(near(), `process.noDeprecation = true; ${code}`)).toBe('EEXIST');
  });
});

describe('a failed fromFd', () => {
  it('leaves the descriptor as it was', () => {
    // A blocking one, whose interface has gone.
    const script = `
import os, socket, subprocess, sys
packet = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
packet.bind(('v0', 0x88b5))
subprocess.run(['${program('ip')}', 'link', 'delete', 'v0'], check=True)
os.set_inheritable(packet.fileno(), True)
sys.exit(subprocess.run([sys.argv[1], '-e', sys.argv[2], str(packet.fileno())], close_fds=False).returncode)`;
    const code = `
      const { socketFromFd } = require(${JSON.stringify(dist)});
      const fd = Number(process.argv[1]);
      const flags = () => /^flags:\\s*(\\d+)/m.exec(require('node:fs').readFileSync('/proc/self/fdinfo/' + fd, 'utf8'))[1];
      const before = flags();
      let code;
      try { socketFromFd(fd); } catch (error) { code = error.code; }
      console.log(JSON.stringify([code, before === flags(), parseInt(before, 8) & ${O_NONBLOCK}]));`;
    const { stdout, stderr } = stage.pair.near.run(() =>
      spawnSync('python3', ['-c', script, process.execPath, code], { encoding: 'utf8' }),
    );
    expect(stderr).toBe('');
    expect(JSON.parse(stdout)).toEqual(['EBADFD', true, 0]);
  });
});

it('fromFd in a Worker prints no warning', async () => {
  const tun = kept(TunSocket.open({ netns: stage.pair.near }));
  const packet = near();
  const script = `
    const { Worker } = require('node:worker_threads');
    const worker = new Worker(
      "const { socketFromFd } = require(" + JSON.stringify(${JSON.stringify(dist)}) + ");" +
      "for (const fd of [3, 4]) socketFromFd(fd).close();", { eval: true });
    worker.on('exit', (code) => console.log(code));`;
  const { stdout, stderr } = spawnSync(process.execPath, ['-e', script], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe', packet.fd, tun.fd],
  });
  expect([stdout, stderr]).toEqual(['0\n', '']);
});

it.runIf(HAS_PYTHON).each([
  ['SO_TIMESTAMPNS_OLD', 35, 1],
  ['SO_TIMESTAMPNS_NEW', 64, 1],
  ['SO_TIMESTAMP_OLD', 29, 1],
  ['SO_TIMESTAMP_NEW', 63, 1],
  ['SO_TIMESTAMPING_OLD', 37, 0x18],
  ['SO_TIMESTAMPING_NEW', 65, 0x18],
])(
  'an adopted socket with %s tells the time, the tag and the status, and no control data is cut',
  (_, option, value) => {
    // With all else that brings control data: SO_RXQ_OVFL, SO_RCVMARK.
    const script = `
import os, socket, subprocess, sys
packet = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
packet.bind(('v0', 3))
for name, setting in ((40, 1), (75, 1), (${option}, ${value})):
    packet.setsockopt(socket.SOL_SOCKET, name, setting)
os.set_inheritable(packet.fileno(), True)
sys.exit(subprocess.run([sys.argv[1], '-e', sys.argv[2], str(packet.fileno())], close_fds=False).returncode)`;
    const bytes = frame(
      0x8100,
      Buffer.concat([Buffer.from([0, 42, TEST >> 8, TEST & 255]), Buffer.alloc(50, 1)]),
    );
    const code = `
    const { Netns, PacketSocket, PacketBatch, socketFromFd, constants } = require(${JSON.stringify(dist)});
    const socket = socketFromFd(Number(process.argv[1]));
    const far = PacketSocket.open({ interface: 'v1', netns: '/proc/' + process.argv[2] + '/fd/' + process.argv[3], protocol: 0 });
    const bytes = Buffer.from('${bytes.toString('hex')}', 'hex');
    for (let i = 0; i < 2; i++) far.sendmsg(bytes);
    const data = Buffer.alloc(200);
    const one = socket.recvmsg(data);
    const batch = new PacketBatch();
    socket.recvmmsg(batch);
    const right = (info) => [
      info.flags, info.vlan?.id, (info.status & constants.TP_STATUS_VLAN_VALID) !== 0,
      Math.abs(Number(info.timestamp / 1000000n) - Date.now()) < 60000,
    ];
    console.log(JSON.stringify([right(one), right(batch.info(0)), bytes.equals(data.subarray(0, one.bytes)), bytes.equals(batch.at(0))]));`;
    const args = [
      '-c',
      script,
      process.execPath,
      code
        .replaceAll('process.argv[2]', `${process.pid}`)
        .replaceAll('process.argv[3]', `${stage.pair.far.fd}`),
    ];
    const { stdout, stderr } = stage.pair.near.run(() => spawnSync('python3', args, { encoding: 'utf8' }));
    expect(stderr).toBe('');
    const told = [0, 42, true, true];
    expect(JSON.parse(stdout)).toEqual([told, told, true, true]);
  },
);

it('a counter that a socket can not tell is absent', () => {
  const tun = kept(TunSocket.open({ netns: stage.pair.near }));
  expect(tun.stats()).toEqual({
    received: { packets: 0, bytes: 0, truncated: 0, wouldBlock: 0, errors: 0 },
    sent: { packets: 0, bytes: 0, truncated: 0, wouldBlock: 0, errors: 0 },
  });
  const packet = near({ offload: 'none' });
  far().sendmsg(text('one'));
  expect(packet.stats().received).toMatchObject({ dropped: 0, arrived: 1 });
  expect('dropped' in packet.stats().sent).toBe(false);
  expect(packet.recvmsg(room()).flags & constants.MSG_CTRUNC).toBe(0);
});
