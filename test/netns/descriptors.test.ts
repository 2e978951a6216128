import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  fstatSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { DescriptorChannel, Link, PacketSocket, socketFromFd, TunSocket } from '../../dist';
import { codeOf } from '../helpers/device';
import { enterQuietNamespace } from '../helpers/namespace';

const dist = join(__dirname, '../../dist');
/** What this process has open, by number. */
const descriptors = () =>
  readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      return `${fd} ${readlinkSync(`/proc/self/fd/${fd}`)}`;
    } catch {
      return []; // that of the folder itself
    }
  });
/** O_CLOEXEC in the flags that the kernel tells of a descriptor (proc_pid_fdinfo(5)). */
const isCloseOnExec = (fd: number) =>
  (Number.parseInt(/^flags:\s*(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1] ?? '', 8) &
    0o2000000) !==
  0;

let folder = '';
let before: string[] = [];
beforeAll(() => {
  enterQuietNamespace();
  // What the addon and the loop open once.
  const [one, other] = DescriptorChannel.pair();
  one.close();
  other.close();
});
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tunsock-'));
  before = descriptors();
});
afterEach(async () => {
  rmSync(folder, { recursive: true });
  // libuv closes what it watched a turn later.
  await new Promise((resolve) => setImmediate(resolve));
  // None that is new; one of before may have been collected.
  expect(descriptors().filter((entry) => !before.includes(entry))).toEqual([]);
});

describe('detach()', () => {
  it('closes the socket and leaves the device, by a number that is close-on-exec', async () => {
    const tun = TunSocket.open({ name: 'given' });
    const { fd } = tun;
    expect(tun.detach()).toBe(fd);
    expect(tun).toMatchObject({ closed: true, fd: -1 });
    expect(codeOf(() => tun.detach())).toBe('ERR_SOCKET_CLOSED');
    await once(tun, 'close');
    expect(Link.get('given').type).toBe('tun');
    expect(isCloseOnExec(fd)).toBe(true);
    socketFromFd(fd).close();
    expect(codeOf(() => Link.get('given'))).toBe('ENODEV');
  });

  it('hands a device to a Worker', async () => {
    const tun = TunSocket.open({ name: 'given', address: '10.0.0.1/24' });
    const worker = new Worker(
      `const { parentPort, workerData } = require('worker_threads');
       const { socketFromFd } = require(workerData.dist);
       const socket = socketFromFd(workerData.fd);
       parentPort.postMessage(socket.name);
       socket.close();`,
      { eval: true, workerData: { dist, fd: tun.detach() } },
    );
    expect((await once(worker, 'message'))[0]).toBe('given');
    await once(worker, 'exit');
    expect(codeOf(() => Link.get('given'))).toBe('ENODEV');
  });
});

describe('a DescriptorChannel', () => {
  it('passes several sockets and another descriptor with bytes, close-on-exec', async () => {
    const [one, other] = DescriptorChannel.pair();
    const tun = TunSocket.open({ name: 'given' });
    const packet = PacketSocket.open({ interface: 'lo' });
    const file = openSync('/dev/null', 'r');
    one.send([tun, file, packet], Buffer.from('three'));
    tun.close();
    packet.close();
    closeSync(file);
    const message = await other.receive();
    expect(message.sockets[0]).toBeInstanceOf(TunSocket);
    expect(message.sockets[1]).toBeInstanceOf(PacketSocket);
    expect(message.sockets.map(({ name }) => name)).toEqual(['given', 'lo']);
    expect(message.data.toString()).toBe('three');
    expect(message.dropped).toBe(0);
    expect(message.credentials).toEqual({
      pid: process.pid,
      uid: process.getuid?.(),
      gid: process.getgid?.(),
    });
    const [null_] = message.descriptors as [number];
    expect(fstatSync(null_).isCharacterDevice()).toBe(true);
    for (const fd of [null_, ...message.sockets.map((socket) => socket.fd)])
      expect(isCloseOnExec(fd)).toBe(true);
    closeSync(null_);
    for (const socket of message.sockets) socket.close();
    one.close();
    other.close();
  });

  it('connects by a path and by an abstract name, and tells the ends of each other', async () => {
    for (const path of [join(folder, 'opener'), `\0tunsock-test-${process.pid}`]) {
      const accepted: DescriptorChannel[] = [];
      const listener = DescriptorChannel.listen(path, (channel) => {
        accepted.push(channel);
        channel.send(0, Buffer.from(path));
      });
      expect(codeOf(() => DescriptorChannel.listen(path, () => {}))).toBe('EADDRINUSE');
      const channel = DescriptorChannel.connect(path);
      const message = await channel.receive();
      expect(message.data.toString()).toBe(path);
      expect(message.descriptors).toHaveLength(1);
      closeSync(message.descriptors[0] as number);
      expect(accepted[0]?.credentials.pid).toBe(process.pid);
      listener.close();
      channel.close();
      accepted[0]?.close();
      expect(codeOf(() => DescriptorChannel.connect(path))).toBe(
        path.startsWith('\0') ? 'ECONNREFUSED' : 'ENOENT',
      );
    }
  });

  it('takes over a socket that is one, and leaves others with the caller', () => {
    const [one, other] = DescriptorChannel.pair();
    expect(codeOf(() => DescriptorChannel.fromFd(-1))).toBe('ERR_OUT_OF_RANGE');
    const file = openSync('/dev/null', 'r');
    expect(codeOf(() => DescriptorChannel.fromFd(file))).toBe('ENOTSOCK');
    closeSync(file);
    const packet = PacketSocket.open({ interface: 'lo' });
    // Two owners would close it under each other.
    expect(codeOf(() => DescriptorChannel.fromFd(packet.fd))).toBe('EEXIST');
    expect(codeOf(() => DescriptorChannel.fromFd(one.fd))).toBe('EEXIST');
    const fd = packet.detach();
    expect(codeOf(() => DescriptorChannel.fromFd(fd))).toBe('EPROTOTYPE');
    closeSync(fd);
    one.close();
    other.close();
  });

  it('closes descriptors beyond those that are expected, and those that nobody takes', async () => {
    const [one, other] = DescriptorChannel.pair();
    one.send([0, 0, 0]);
    one.send([0, 0]);
    const message = await other.receive({ maxDescriptors: 1 });
    expect(message).toMatchObject({ dropped: 2, sockets: [] });
    expect(message.descriptors).toHaveLength(1);
    closeSync(message.descriptors[0] as number);
    const tun = TunSocket.open({ name: 'given' });
    one.send(tun);
    tun.close();
    expect(Link.get('given').name).toBe('given');
    other.close();
    expect(codeOf(() => Link.get('given'))).toBe('ENODEV');
    one.close();
  });

  it('closes what nobody takes in a Worker without a warning of Node', () => {
    const program = `
      const { DescriptorChannel, Netns, TunSocket } = require(process.argv[2]);
      const [one, other] = DescriptorChannel.pair();
      Netns.create().enter();
      (async () => {
        one.send([0, 0, 0]);
        const { dropped, descriptors } = await other.receive({ maxDescriptors: 0 });
        // A socket that follows its interface opens and closes the namespaces that it comes through.
        const tun = TunSocket.open({ name: 'goes' });
        tun.on('message', () => {});
        await new Promise(setImmediate);
        const moved = new Promise((resolve) => tun.on('link', ({ kind }) => kind === 'moved' && resolve()));
        tun.link.moveTo(Netns.create());
        await moved;
        console.log(dropped, descriptors.length, tun.closed);
        process.exit();
      })();`;
    const { stdout, stderr } = spawnSync(
      process.execPath,
      [
        '-e',
        "new (require('worker_threads').Worker)(process.argv[2], { eval: true, argv: [process.argv[1]] });",
        dist,
        program,
      ],
      { encoding: 'utf8' },
    );
    expect([stdout, stderr]).toEqual(['3 0 false\n', '']);
  });

  it('passes the most descriptors that a message may have, and refuses more', async () => {
    const [one, other] = DescriptorChannel.pair();
    one.send(new Array<number>(253).fill(0));
    const { descriptors: got } = await other.receive();
    expect(got).toHaveLength(253);
    for (const fd of got) closeSync(fd);
    expect(codeOf(() => one.send(new Array<number>(254).fill(0)))).toBe('ERR_OUT_OF_RANGE');
    one.close();
    other.close();
  });

  it('gives what was sent before the peer closed, then ends; an empty message is none of the ends', async () => {
    const [one, other] = DescriptorChannel.pair();
    one.send(0);
    one.send([], Buffer.from('last'));
    one.close();
    const seen: string[] = [];
    for await (const { data, descriptors: got } of other) {
      seen.push(data.toString());
      for (const fd of got) closeSync(fd);
    }
    expect(seen).toEqual(['', 'last']);
    expect(other.closed).toBe(true);
    await expect(other.receive()).rejects.toMatchObject({ code: 'ERR_SOCKET_CLOSED' });
  });

  it('tells who waits that the peer has closed, and who sends', async () => {
    const [one, other] = DescriptorChannel.pair();
    const waiting = expect(other.receive()).rejects.toMatchObject({ code: 'ERR_SOCKET_CLOSED' });
    one.close();
    await waiting;
    const [third, fourth] = DescriptorChannel.pair();
    fourth.close();
    expect(codeOf(() => third.send(0))).toBe('EPIPE');
    third.close();
  });

  it('gives what a peer sent that closed without receiving, then ECONNRESET', async () => {
    const [one, other] = DescriptorChannel.pair();
    one.send([], Buffer.from('sent'));
    other.send(0, Buffer.from('x'));
    one.close();
    expect((await other.receive()).data.toString()).toBe('sent');
    await expect(other.receive()).rejects.toMatchObject({ code: 'ECONNRESET' });
  });

  it('gives up a receive() that is aborted, and loses nothing by that', async () => {
    const [one, other] = DescriptorChannel.pair();
    const abort = new AbortController();
    const first = expect(other.receive({ signal: abort.signal })).rejects.toMatchObject({
      code: 'ABORT_ERR',
    });
    abort.abort();
    await first;
    one.send([], Buffer.from('kept'));
    expect((await other.receive()).data.toString()).toBe('kept');
    one.close();
    other.close();
  });

  it("says that there is no room, and 'drain' when there is", async () => {
    const [one, other] = DescriptorChannel.pair();
    let sent = 0;
    let code: string | undefined;
    while (code === undefined && sent < 1000) {
      try {
        one.send([], Buffer.alloc(4096));
        sent++;
      } catch (error) {
        code = (error as { code: string }).code;
      }
    }
    expect(code).toBe('EAGAIN');
    const drained = once(one, 'drain');
    for (; sent > 0; sent--) await other.receive();
    await drained;
    one.close();
    other.close();
  });

  it('refuses what is neither a socket nor a descriptor, and closed sockets', () => {
    const [one, other] = DescriptorChannel.pair();
    const tun = TunSocket.open();
    tun.close();
    expect(codeOf(() => one.send(tun))).toBe('ERR_SOCKET_CLOSED');
    expect(codeOf(() => one.send('3' as never))).toBe('ERR_INVALID_ARG_TYPE');
    const gone = new Uint8Array(10);
    structuredClone(gone.buffer, { transfer: [gone.buffer] });
    expect(codeOf(() => one.send(0, gone))).toBe('ERR_INVALID_ARG_TYPE');
    expect(codeOf(() => one.send([]))).toBe('ERR_INVALID_ARG_VALUE');
    expect(codeOf(() => one.send(0, Buffer.alloc(65537)))).toBe('ERR_OUT_OF_RANGE');
    expect(codeOf(() => one.send(1_000_000))).toBe('EBADF');
    for (const path of ['', '\0', 'a\0b'])
      expect(codeOf(() => DescriptorChannel.connect(path))).toBe('ERR_INVALID_ARG_VALUE');
    expect(codeOf(() => DescriptorChannel.connect('x'.repeat(108)))).toBe('ERR_OUT_OF_RANGE');
    one.close();
    other.close();
    expect(codeOf(() => one.send(0))).toBe('ERR_SOCKET_CLOSED');
  });

  it('loses a message for which there are not enough descriptors, closes all of it, and lives on', () => {
    const program = `
      const { DescriptorChannel } = require(process.argv[1]);
      const { readdirSync } = require('fs');
      const [one, other] = DescriptorChannel.pair();
      const count = () => readdirSync('/proc/self/fd').length;
      (async () => {
        const before = count();
        one.send(new Array(200).fill(0));
        const error = await other.receive().catch((error) => error);
        one.send([], Buffer.from('on'));
        console.log(error.code, error.syscall, count() - before, (await other.receive()).data.toString());
      })();`;
    const { stdout, stderr } = spawnSync(
      'sh',
      ['-c', 'ulimit -n 100; exec "$0" -e "$1" "$2"', process.execPath, program, dist],
      { encoding: 'utf8' },
    );
    expect(stderr).toBe('');
    expect(stdout).toBe('EMFILE recvmsg 0 on\n');
  });

  it('hands a device to a child that inherits its end', async () => {
    const [one, other] = DescriptorChannel.pair();
    const child = spawn(
      process.execPath,
      [
        '-e',
        `const { DescriptorChannel } = require(process.argv[1]);
         DescriptorChannel.fromFd(3).receive().then(({ sockets, credentials }) => {
           console.log(sockets[0].name, credentials.pid === process.ppid);
           process.exit();
         });`,
        dist,
      ],
      { stdio: ['ignore', 'pipe', 'inherit', other.fd] },
    );
    other.close();
    const tun = TunSocket.open({ name: 'given' });
    one.send(tun);
    tun.close();
    expect(String((await once(child.stdout as Readable, 'data'))[0])).toBe('given true\n');
    await once(child, 'close');
    one.close();
  });
});

/** What a program prints that got the descriptors of `stdio` from 3 on, with variables as given; PID stands for its own. */
function started(variables: string, fds: number[]): string {
  const program = `
    const { inheritedSockets } = require(process.argv[1]);
    const cloexec = (fd) => (parseInt(/flags:\\s*(\\d+)/.exec(require('fs').readFileSync('/proc/self/fdinfo/' + fd))[1], 8) & 0o2000000) !== 0;
    try {
      console.log([...inheritedSockets()].map(([name, s]) => [name, s.name, s.fd, cloexec(s.fd)].join(' ')).join(', '));
    } catch (error) {
      console.log(error.code);
    }
    console.log(Object.keys(process.env).filter((name) => name.startsWith('LISTEN_')).length, inheritedSockets().size);`;
  const { stdout, stderr } = spawnSync(
    'sh',
    ['-c', `PID=$$; ${variables} exec "$0" -e "$1" "$2"`, process.execPath, program, dist],
    { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe', ...fds] },
  );
  expect(stderr).toBe('');
  return stdout;
}

describe('inheritedSockets()', () => {
  it('has what the variables name, close-on-exec, and removes them', () => {
    const tun = TunSocket.open({ name: 'tun7' });
    const lo = PacketSocket.open({ interface: 'lo' });
    const both = [tun.fd, lo.fd];
    expect(started('LISTEN_PID=$PID LISTEN_FDS=2 LISTEN_FDNAMES=device:cable', both)).toBe(
      'device tun7 3 true, cable lo 4 true\n0 0\n',
    );
    expect(started('LISTEN_PID=$PID LISTEN_FDS=2', both)).toBe(
      'unknown tun7 3 true, unknown:2 lo 4 true\n0 0\n',
    );
    expect(started('LISTEN_PID=1 LISTEN_FDS=2', both)).toBe('\n0 0\n');
    expect(started('', both)).toBe('\n0 0\n');
    tun.close();
    lo.close();
  });

  it('refuses variables that make no sense, and descriptors that are no sockets of ours', () => {
    const file = openSync('/dev/null', 'r');
    for (const wrong of [
      'LISTEN_PID=x LISTEN_FDS=1',
      'LISTEN_PID=$PID LISTEN_FDS=0',
      'LISTEN_PID=$PID LISTEN_FDS=-1',
      'LISTEN_PID=$PID LISTEN_FDS=99999999',
      'LISTEN_PID=$PID LISTEN_FDS=1 LISTEN_FDNAMES=a:b',
    ])
      expect(started(wrong, [file])).toBe('ERR_INVALID_ARG_VALUE\n0 0\n');
    expect(started('LISTEN_PID=$PID LISTEN_FDS=1', [file])).toBe('ENOTSOCK\n0 0\n');
    expect(started('LISTEN_PID=$PID LISTEN_FDS=1000', [file])).toBe('EBADF\n0 0\n');
    closeSync(file);
  });
});
