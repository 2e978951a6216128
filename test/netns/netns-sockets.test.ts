import { execFileSync } from 'node:child_process';
import { createSocket, type Socket as DatagramSocket } from 'node:dgram';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { createServer as createHttpServer, get } from 'node:http';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Link, Netns } from '../../dist';
import { IS_REAL_ROOT } from '../helpers/kernel';
import { enterQuietNamespace } from '../helpers/namespace';
import { program } from '../helpers/optional';

enterQuietNamespace();

let ns: Netns;
const opened: { close(): void }[] = [];
beforeEach(() => {
  ns = Netns.create();
});
afterEach(async () => {
  for (const each of opened.splice(0)) each.close();
  ns.close();
});

const here = () => statSync('/proc/thread-self/ns/net').ino;
const descriptors = () => readdirSync('/proc/self/fd').length;
/** A table of /proc/net as the namespace has it; each line of it is one socket of there. */
const table = (netns: Netns, name: string) =>
  netns.run(() => readFileSync(`/proc/thread-self/net/${name}`, 'latin1'));
const hexPort = (port: number) => `:${port.toString(16).toUpperCase().padStart(4, '0')} `;
const portOf = (server: { address(): unknown }) => (server.address() as AddressInfo).port;

function greeting(): Server {
  const server = createServer((socket) => socket.on('error', () => {}).end('hello'));
  opened.push(server);
  return server;
}
async function text(socket: Socket): Promise<string> {
  let all = '';
  for await (const chunk of socket) all += chunk;
  return all;
}
function udp(type: 'udp4' | 'udp6'): DatagramSocket {
  const socket = createSocket(type);
  opened.push(socket);
  return socket;
}

describe('listen and connect', () => {
  it.each([
    ['IPv4', '127.0.0.1', 'tcp'],
    ['IPv6', '::1', 'tcp6'],
  ])('%s: the server and its client are in the namespace alone', async (_family, host, proc) => {
    using outside = Netns.current();
    const server = await ns.listen(greeting(), 0, host);
    const port = portOf(server);
    expect(server.address()).toMatchObject({ address: host });
    expect(table(ns, proc)).toContain(hexPort(port));
    expect(table(outside, proc)).not.toContain(hexPort(port));
    expect(await text(ns.connect(port, host))).toBe('hello');
    const [refused] = await once(connect(port, host), 'error');
    expect(refused).toMatchObject({ code: 'ECONNREFUSED' });
    expect(here()).toBe(outside.inode);
  });

  it('takes no host, and then both families', async () => {
    const called: string[] = [];
    const server = await ns.listen(greeting(), 0, () => called.push('listening'));
    expect(called).toEqual(['listening']);
    expect(server.address()).toMatchObject({ address: '::' });
    expect(await text(ns.connect(portOf(server)))).toBe('hello');
    expect(await text(ns.connect({ port: portOf(server), host: '::1' }))).toBe('hello');
  });

  it('listens on IPv4 alone where there is no IPv6', async () => {
    using other = Netns.create();
    const child = other.spawn('sh', ['-c', 'echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; exit 0'], {
      stdio: 'ignore',
    });
    await once(child, 'exit');
    const server = await other.listen(greeting(), 0);
    expect(await text(other.connect(portOf(server), 'localhost'))).toBe('hello');
  });

  it('reaches a link-local address by its zone, an interface of the namespace', async () => {
    using peer = Netns.create();
    ns.run(() =>
      Link.create({
        type: 'veth',
        name: 'in0',
        up: true,
        address: 'fe80::1/64',
        peer: { name: 'out0', netns: peer },
      }),
    );
    peer.run(() => {
      const link = Link.get('out0');
      link.addAddress('fe80::2/64');
      link.up();
    });
    const server = await ns.listen(greeting(), 0, 'fe80::1%in0');
    expect(
      await text(
        peer.connect(
          ns.run(() => portOf(server)),
          'fe80::1%out0',
        ),
      ),
    ).toBe('hello');
    expect(() => peer.connect(1, 'fe80::1%in0')).toThrow(
      expect.objectContaining({ code: 'ENODEV', syscall: 'if_nametoindex' }),
    );
  });

  it('abstract Unix sockets belong to the namespace', async () => {
    const name = '\0tunsock-test';
    const server = await ns.listen(greeting(), name);
    expect(server.address()).toBe(name);
    expect(table(ns, 'unix')).toContain('@tunsock-test');
    expect(await text(ns.connect(name))).toBe('hello');
    const [refused] = await once(connect({ path: name }), 'error');
    expect(refused).toMatchObject({ code: 'ECONNREFUSED' });
  });

  it('Unix sockets by path, whose file goes with the server', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'tunsock-'));
    const path = join(folder, 'socket');
    const server = await ns.listen(greeting(), { path, writableAll: true });
    expect(table(ns, 'unix')).toContain(path);
    expect(statSync(path).mode & 0o777).toBe(0o722);
    expect(await text(ns.connect({ path }))).toBe('hello');
    opened.length = 0;
    server.close();
    await once(server, 'close');
    expect(existsSync(path)).toBe(false);
    rmSync(folder, { recursive: true });
  });

  it('http: a server, and a request by createConnection', async () => {
    const server = createHttpServer((_request, response) => response.end('over http'));
    opened.push(server);
    await ns.listen(server, { port: 0, host: '127.0.0.1' });
    const request = get({
      port: portOf(server),
      createConnection: ({ port }) => ns.connect({ port: Number(port), host: '127.0.0.1' }),
    });
    const [response] = await once(request, 'response');
    expect(await text(response)).toBe('over http');
  });

  it("tells bind's errors, and connect's as Node does", async () => {
    const server = await ns.listen(greeting(), 0, '127.0.0.1');
    const port = portOf(server);
    const before = descriptors();
    await expect(ns.listen(createServer(), port, '127.0.0.1')).rejects.toMatchObject({
      code: 'EADDRINUSE',
      address: '127.0.0.1',
      port,
    });
    await expect(ns.listen(createServer(), 0, '192.0.2.1')).rejects.toMatchObject({
      code: 'EADDRNOTAVAIL',
      syscall: 'bind',
    });
    await expect(ns.listen(server, 0)).rejects.toMatchObject({ code: 'ERR_SERVER_ALREADY_LISTEN' });
    expect(descriptors()).toBe(before);
    const socket = ns.connect(1, '127.0.0.1');
    const [error] = await once(socket, 'error');
    expect(error).toMatchObject({ code: 'ECONNREFUSED', syscall: 'connect', port: 1 });
    await once(socket, 'close');
    expect(descriptors()).toBeLessThanOrEqual(before); // of earlier connections some may have closed by now
  });

  it('refuses what it does not take, and leaves no descriptor', async () => {
    const before = descriptors();
    await expect(ns.listen({} as never, 0)).rejects.toThrow(TypeError);
    await expect(ns.listen(createServer(), { fd: 3 } as never)).rejects.toMatchObject({
      code: 'ERR_INVALID_ARG_VALUE',
    });
    await expect(ns.listen(createServer(), 0, 'example.org')).rejects.toMatchObject({
      code: 'ERR_INVALID_ARG_VALUE',
      message: expect.stringContaining('looked up outside of the network namespace'),
    });
    await expect(ns.listen(createServer(), 65536)).rejects.toMatchObject({ code: 'ERR_OUT_OF_RANGE' });
    await expect(ns.listen(createServer(), `/${'x'.repeat(200)}`)).rejects.toMatchObject({
      code: 'ENAMETOOLONG',
    });
    expect(() => ns.connect(80, 'example.org')).toThrow(TypeError);
    expect(() => ns.connect({ port: 70000 })).toThrow(RangeError);
    expect(() => ns.connect('a\0b')).toThrow(TypeError);
    expect(descriptors()).toBe(before);
  });
});

describe('bind', () => {
  it.each([
    ['udp4', '127.0.0.1', 'udp'],
    ['udp6', '::1', 'udp6'],
  ] as const)('%s sockets talk in the namespace alone', async (type, address, proc) => {
    using outside = Netns.current();
    const a = await ns.bind(udp(type), 0, address);
    const b = await ns.bind(udp(type), { port: 0, address });
    const { port } = a.address();
    expect(table(ns, proc)).toContain(hexPort(port));
    expect(table(outside, proc)).not.toContain(hexPort(port));
    b.send('to a', port, address);
    const [message, from] = await once(a, 'message');
    expect([String(message), from.port]).toEqual(['to a', b.address().port]);
  });

  it('tells errors, closes what it opened, and refuses the other family', async () => {
    const a = await ns.bind(udp('udp4'), 0, '127.0.0.1');
    const { port } = a.address();
    const other = udp('udp4');
    const before = descriptors();
    await expect(ns.bind(other, port, '127.0.0.1')).rejects.toMatchObject({ code: 'EADDRINUSE' });
    await expect(ns.bind(other, 0, '::1')).rejects.toMatchObject({ code: 'ERR_INVALID_ARG_VALUE' });
    await expect(ns.bind(a, 0)).rejects.toMatchObject({ code: 'ERR_SOCKET_ALREADY_BOUND' });
    await expect(ns.bind({} as never, 0)).rejects.toThrow(TypeError);
    expect(descriptors()).toBe(before);
    const shared = { port: 0, address: '127.0.0.1', reuseAddr: true, reusePort: true };
    const first = await ns.bind(udp('udp4'), shared);
    const second = await ns.bind(udp('udp4'), { ...shared, port: first.address().port });
    expect(second.address().port).toBe(first.address().port);
  });
});

describe('spawn and worker', () => {
  it('a child process lives there', async () => {
    const child = ns.spawn('readlink', ['/proc/self/ns/net']);
    expect(await text(child.stdout as never)).toBe(`net:[${ns.inode}]\n`);
    const [error] = await once(ns.spawn('/no/such/program'), 'error');
    expect(error).toMatchObject({ code: 'ENOENT' });
  });

  it('a Worker lives there from its first line, on every later tick', async () => {
    const worker = ns.worker(
      `const inode = () => require('fs').statSync('/proc/thread-self/ns/net').ino;
      const seen = [inode()];
      setTimeout(() => require('worker_threads').parentPort.postMessage([...seen, inode()]), 5);`,
      { eval: true },
    );
    const ended = once(worker, 'exit');
    expect(await once(worker, 'message')).toEqual([[ns.inode, ns.inode]]);
    await ended;
    expect(here()).not.toBe(ns.inode);
  });
});

if (!IS_REAL_ROOT)
  console.log('skipped: names of network namespaces, which need root outside of a user namespace');

describe('names', () => {
  const name = `tunsock-test-${process.pid}`;
  const listed = () => execFileSync(program('ip'), ['netns', 'list'], { encoding: 'utf8' }).split(/\s/);

  it.runIf(IS_REAL_ROOT)('are those of ip netns, and outlive the descriptor', () => {
    const made = Netns.create({ name });
    try {
      const { inode } = made;
      expect(made.name).toBe(name);
      expect(listed()).toContain(name);
      expect(
        execFileSync(program('ip'), ['netns', 'exec', name, 'readlink', '/proc/self/ns/net'], {
          encoding: 'utf8',
        }),
      ).toBe(`net:[${inode}]\n`);
      made.close();
      using again = Netns.open(name);
      expect([again.inode, again.name]).toEqual([inode, name]);
      const before = descriptors();
      expect(() => Netns.create({ name })).toThrow(
        expect.objectContaining({ code: 'EEXIST', path: `/run/netns/${name}` }),
      );
      expect(descriptors()).toBe(before);
    } finally {
      made.remove();
    }
    expect(listed()).not.toContain(name);
    expect(existsSync(`/run/netns/${name}`)).toBe(false);
    expect(() => made.remove()).toThrow(expect.objectContaining({ code: 'ENOENT' }));
  });

  it.runIf(IS_REAL_ROOT)('can be made by ip netns and removed here', () => {
    execFileSync(program('ip'), ['netns', 'add', name]);
    using found = Netns.open(name);
    found.remove();
    expect(listed()).not.toContain(name);
    expect(found.run(() => Link.list().length)).toBeGreaterThan(0);
  });

  it.each(['', '.', '..', 'a/b', 'a\0b', 'x'.repeat(256), 1])('%j is none', (bad) => {
    expect(() => Netns.create({ name: bad as string })).toThrow(TypeError);
  });

  it('who has none can not be removed', () => {
    expect(() => ns.remove()).toThrow(expect.objectContaining({ code: 'ERR_INVALID_STATE' }));
  });
});

it('shows what it is', () => {
  const { fd, inode } = ns;
  expect(inspect(ns)).toBe(`Netns { name: undefined, fd: ${fd}, inode: ${inode} }`);
});
