import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { beforeAll, expect, it } from 'vitest';
import { Link, PacketSocket, TunSocket, UdpSocket } from '../../dist';
import { enterQuietNamespace } from '../helpers/namespace';

/** No descriptor is inherited by the programs that a user starts: O_CLOEXEC in what the kernel tells (proc_pid_fdinfo(5)), and by effect. */

const HAS_VHOST = existsSync('/dev/vhost-net');
if (!HAS_VHOST) console.log('skipped: descriptors of vhost-net, which is not there');

/** Of what `open` opens: how much it is, what is not close-on-exec, and what a child has of it. */
function opened(open: string, inherited?: number): { count: number; inheritable: string[]; child: string[] } {
  const program = `
    const { DescriptorChannel, Link, Netns, PacketSocket, TunSocket, UdpSocket, socketFromFd } = require(process.argv[1]);
    const { readdirSync, readFileSync, readlinkSync } = require('node:fs');
    const { execFileSync } = require('node:child_process');
    const name = (fd) => { try { return readlinkSync('/proc/self/fd/' + fd); } catch {} };
    const present = () => readdirSync('/proc/self/fd').filter(name).map(Number);
    const closes = (fd) => (parseInt(/^flags:\\s*(\\d+)/m.exec(readFileSync('/proc/self/fdinfo/' + fd, 'utf8'))[1], 8) & 0o2000000) !== 0;
    (async () => {
      // What Node has itself, and what this process got from its parents, but for what is to be taken over.
      const before = present().filter((fd) => fd !== Number(process.argv[2]));
      const kept = [];
      ${open}
      // A link is watched from the next turn on.
      await new Promise(setImmediate);
      const news = present().filter((fd) => !before.includes(fd));
      const listed = execFileSync('ls', ['-l', '/proc/self/fd'], { encoding: 'utf8' });
      const child = news.map(name).filter((target) => listed.includes(target) && !target.startsWith('pipe:'));
      console.log(JSON.stringify({ count: news.length, inheritable: news.filter((fd) => !closes(fd)).map(name), child }));
      process.exit(kept.length > 0 ? 0 : 1);
    })();`;
  const { status, stdout, stderr } = spawnSync(
    'unshare',
    ['-n', process.execPath, '-e', program, process.cwd(), ...(inherited === undefined ? [] : ['3'])],
    { encoding: 'utf8', timeout: 60_000, stdio: ['ignore', 'pipe', 'pipe', inherited ?? 'ignore'] },
  );
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return JSON.parse(stdout);
}

beforeAll(enterQuietNamespace);

const NOTHING = { inheritable: [], child: [] };

it.each([
  [
    'a TunSocket, and what it listens to its link with',
    "kept.push(TunSocket.open({ multiQueue: true }).on('link', () => {}).on('message', () => {}));",
    2,
  ],
  ['a queue', 'const tun = TunSocket.open({ multiQueue: true }); kept.push(tun, tun.openQueue());', 2],
  [
    'a TunSocket in another namespace',
    "const ns = Netns.create(); kept.push(ns, TunSocket.open({ netns: '/proc/self/fd/' + ns.fd }));",
    3,
  ],
  [
    'a PacketSocket',
    "Link.get('lo').up(); kept.push(PacketSocket.open({ interface: 'lo' }).on('link', () => {}).on('message', () => {}));",
    2,
  ],
  [
    'a UdpSocket',
    "Link.get('lo').up(); kept.push(UdpSocket.open({ address: '127.0.0.1', offload: 'split' }));",
    1,
  ],
  ['a monitor of links', 'kept.push(Link.monitor({ netns: Netns.create() }));', 2],
  [
    'namespaces, created, opened and current',
    'kept.push(Netns.create(), Netns.open(process.pid), Netns.current());',
    3,
  ],
  [
    'channels: a pair, a listener, both ends of a connection',
    `kept.push(...DescriptorChannel.pair());
     kept.push(DescriptorChannel.listen('\\0close-on-exec', (channel) => kept.push(channel)));
     kept.push(DescriptorChannel.connect('\\0close-on-exec'));
     while (kept.length < 5) await new Promise(setImmediate);`,
    5,
  ],
  [
    'what a channel receives',
    `const [one, other] = DescriptorChannel.pair();
     one.send([TunSocket.open(), 1]);
     kept.push(one, other, await other.receive());`,
    5,
  ],
  [
    "sockets of Node's in a namespace",
    `const ns = Netns.create();
     const server = await ns.listen(require('node:net').createServer(), 7000, '127.0.0.1');
     const client = ns.connect(7000, '127.0.0.1');
     await require('node:events').once(client, 'connect');
     kept.push(ns, server, client, await ns.bind(require('node:dgram').createSocket('udp4'), 7000, '127.0.0.1'));`,
    4,
  ],
  ['a descriptor that a socket gave up', 'kept.push(TunSocket.open().detach());', 1],
])('%s', (_, open, count) => {
  const result = opened(open);
  expect(result).toMatchObject(NOTHING);
  expect(result.count).toBeGreaterThanOrEqual(count);
});

it.each([
  ['a TunSocket', () => TunSocket.open()],
  ['a PacketSocket', () => PacketSocket.open({ interface: 'lo' })],
  ['a UdpSocket', () => UdpSocket.open({ address: '127.0.0.1' })],
])('%s that was inherited, from when it is taken over', (_, open) => {
  Link.get('lo').up();
  using socket = open();
  expect(opened('kept.push(socketFromFd(3));', socket.fd)).toMatchObject(NOTHING);
});

it.runIf(HAS_VHOST)('vhost: its device and its event descriptors', () => {
  const result = opened('kept.push(TunSocket.open({ vhost: true }));');
  expect(result).toMatchObject(NOTHING);
  // The device, /dev/vhost-net, a kick and a call for each ring.
  expect(result.count).toBeGreaterThanOrEqual(6);
});
