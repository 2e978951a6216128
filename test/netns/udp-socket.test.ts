import { spawnSync } from 'node:child_process';
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { constants, Netns, PacketBatch, TunSocket, type UdpSocket } from '../../dist';
import { codeOf } from '../helpers/device';
import { inheriting } from '../helpers/inheriting';
import { HAS_PYTHON } from '../helpers/peers';
import { batchOf, queued, udpStage } from '../helpers/udp-stage';

const { MSG_DONTWAIT, MSG_ERRQUEUE, MSG_PEEK, MSG_TRUNC } = constants;
const { open, kept } = udpStage();
const empty = expect.objectContaining({ code: 'EAGAIN', syscall: 'recvmsg' });
const data = (text: string) => Buffer.from(text);

async function dgram(address: string): Promise<Socket & Disposable> {
  const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4');
  socket.bind(0, address);
  await once(socket, 'listening');
  return kept(Object.assign(socket, { [Symbol.dispose]: () => void socket.close() }));
}

describe.each(['none', 'split', 'raw'] as const)('offload %s', (offload) => {
  it('sends to and receives from dgram', async () => {
    const udp = open({ offload });
    expect(udp.offload).toBe(offload);
    const peer = await dgram('127.0.0.1');
    const { address, port, family } = udp.address();
    expect({ address, family }).toEqual({ address: '127.0.0.1', family: 'IPv4' });
    peer.send('question', port, address);
    const { packet, info } = await udp.receiveMessage();
    expect(packet).toEqual(data('question'));
    expect(info).toMatchObject({
      size: 8,
      bytes: 8,
      flags: 0,
      from: { address: '127.0.0.1', port: peer.address().port, family: 'IPv4' },
      to: '127.0.0.1',
      ecn: 0,
      segmentSize: undefined,
    });
    const answered = once(peer, 'message') as Promise<[Buffer, RemoteInfo]>;
    udp.send(data('answer'), { to: info.from });
    const [answer, from] = await answered;
    expect(answer).toEqual(data('answer'));
    expect(from.port).toBe(port);
  });

  it('memory that is gone is no empty datagram', () => {
    const a = open({ offload });
    const b = open({ offload });
    a.connect('127.0.0.1', b.address().port);
    const Resizable = ArrayBuffer as unknown as new (
      length: number,
      options: object,
    ) => ArrayBuffer & { resize(length: number): void };
    const buffer = new Resizable(100, { maxByteLength: 100 });
    const beyond = new Uint8Array(buffer, 50, 50);
    const transferred = new Uint8Array(10);
    const memory = new WebAssembly.Memory({ initial: 1 });
    const stale = new Uint8Array(memory.buffer);
    buffer.resize(20);
    structuredClone(transferred.buffer, { transfer: [transferred.buffer] });
    memory.grow(1);
    for (const gone of [beyond, transferred, stale, new Proxy(new Uint8Array(1), {})]) {
      expect(codeOf(() => a.sendmsg(gone))).toBe('ERR_INVALID_ARG_TYPE');
      expect(codeOf(() => a.sendmsg([data('x'), gone]))).toBe('ERR_INVALID_ARG_TYPE');
      expect(codeOf(() => a.send(gone))).toBe('ERR_INVALID_ARG_TYPE');
    }
    // It shrinks while the call reads its options.
    const options = {
      get ecn() {
        buffer.resize(20);
        return 0;
      },
    };
    for (const call of [
      () => a.sendmsg(beyond, 0, options),
      () => a.send(beyond, options),
      () => new PacketBatch().push(beyond, options),
    ]) {
      buffer.resize(100);
      expect(codeOf(call)).toBe('ERR_INVALID_ARG_TYPE');
    }
    expect(() => b.recvmsg(Buffer.alloc(10), MSG_DONTWAIT)).toThrow(empty);
  });

  it('has empty datagrams both ways, also in batches and events', async () => {
    const a = open({ offload });
    const b = open({ offload });
    const to = b.address();
    const sizes: number[] = [];
    a.sendmsg(Buffer.alloc(0), 0, { to });
    expect(b.recvmsg(Buffer.alloc(10))).toMatchObject({ size: 0, bytes: 0, flags: 0 });
    expect(a.sendmmsg(batchOf([data('x'), data(''), data('y'), data('')], { to }))).toBe(4);
    expect(queued(b).map(String)).toEqual(['x', '', 'y', '']);
    b.on('message', (packet) => sizes.push(packet.length));
    a.send([], { to });
    a.send(data('z'), { to });
    while (sizes.length < 2) await once(b, 'message');
    expect(sizes).toEqual([0, 1]);
    expect(b.stats().received).toMatchObject({ packets: 7, bytes: 3, errors: 0 });
  });

  it('cuts, peeks and tells the true length as recvmsg(2) does', () => {
    const a = open({ offload });
    const b = open({ offload });
    const to = b.address();
    a.sendmsg([data('one'), data('two')], 0, { to });
    const room = Buffer.alloc(4);
    expect(b.recvmsg(room, MSG_PEEK)).toMatchObject({ bytes: 4, size: 6, flags: MSG_TRUNC });
    expect(b.recvmsg(room, MSG_PEEK | MSG_TRUNC)).toMatchObject({ bytes: 6, size: 6 });
    expect(b.recvmsg([room.subarray(0, 1), room.subarray(1)])).toMatchObject({ bytes: 4, size: 6 });
    expect(room).toEqual(data('onet'));
    expect(() => b.recvmsg(room, MSG_DONTWAIT)).toThrow(empty);
    a.sendmsg(data('gone'), 0, { to });
    expect(b.recvmsg([], 0)).toMatchObject({ bytes: 0, size: 4, flags: MSG_TRUNC });
    expect(() => b.recvmsg(room, MSG_DONTWAIT)).toThrow(empty);
    expect(b.stats().received).toMatchObject({ packets: 2, truncated: 2 });
    expect(() => b.recvmsg(room, 0x1)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  });

  it('sends each datagram of a batch to its own destination', () => {
    const a = open({ offload });
    const peers = [open({ offload }), open({ offload }), open({ offload })];
    const batch = new PacketBatch({ capacity: 30 });
    for (let index = 0; index < 30; index++) {
      batch.push(data(`to ${index % 3}`), { to: (peers[index % 3] as UdpSocket).address() });
    }
    expect(a.sendmmsg(batch)).toBe(30);
    peers.forEach((peer, index) => {
      expect(queued(peer).map(String)).toEqual(new Array(10).fill(`to ${index}`));
    });
  });

  it('carries ECN out and in', async () => {
    const a = open({ offload });
    const b = open({ offload });
    for (const ecn of [0, 1, 2, 3]) {
      a.sendmsg(data('x'), 0, { to: b.address(), ecn });
      expect(b.recvmsg(Buffer.alloc(9))).toMatchObject({ ecn, trafficClass: ecn });
    }
    a.sendmsg(data('x'), 0, { to: b.address(), trafficClass: 0xb8, ecn: 1 });
    expect(b.recvmsg(Buffer.alloc(9))).toMatchObject({ ecn: 1, trafficClass: 0xb9 });
  });
});

describe('families', () => {
  it('IPv6', async () => {
    const udp = open({ address: '::1' });
    const peer = await dgram('::1');
    peer.send('six', udp.address().port, '::1');
    const { info } = await udp.receiveMessage();
    expect(info.from).toEqual({ address: '::1', port: peer.address().port, family: 'IPv6' });
    expect(info).toMatchObject({ to: '::1', protocol: constants.ETH_P_IPV6 });
    const answered = once(peer, 'message');
    udp.sendmsg(data('back'), 0, { to: info.from, ecn: 3 });
    expect(String((await answered)[0])).toBe('back');
  });

  it('one socket for both: IPv4 is told as IPv4', async () => {
    const udp = open({ address: '::' });
    for (const address of ['127.0.0.1', '::1']) {
      const peer = await dgram(address);
      peer.send('hello', udp.address().port, address);
      const { info } = await udp.receiveMessage();
      expect(info).toMatchObject({ from: { address }, to: address });
      const answered = once(peer, 'message');
      udp.sendmsg(data('back'), 0, { to: info.from, from: address, ecn: 2 });
      expect(String((await answered)[0])).toBe('back');
    }
    const four = open();
    udp.sendmsg(data('ecn'), 0, { to: four.address(), ecn: 1 });
    expect(four.recvmsg(Buffer.alloc(9)).ecn).toBe(1);
  });

  it('ipv6Only hears no IPv4', () => {
    const six = open({ address: '::', ipv6Only: true });
    const a = open();
    a.sendmsg(data('x'), 0, { to: { address: '127.0.0.1', port: six.address().port } });
    expect(() => six.recvmsg(Buffer.alloc(9), MSG_DONTWAIT)).toThrow(empty);
    expect(codeOf(() => six.sendmsg(data('x'), 0, { to: a.address() }))).toBe('ENETUNREACH');
  });

  it('an IPv4 socket sends no IPv6', () => {
    expect(codeOf(() => open().sendmsg(data('x'), 0, { to: { address: '::1', port: 9 } }))).toBe(
      'EAFNOSUPPORT',
    );
  });
});

describe('a peer', () => {
  it('connect() names it: what others send is not received', () => {
    const [a, b, other] = [open(), open(), open()];
    b.connect('127.0.0.1', a.address().port);
    expect(b.remoteAddress()).toEqual(a.address());
    b.sendmsg(data('to a'));
    other.sendmsg(data('not heard'), 0, { to: b.address() });
    a.sendmsg(data('heard'), 0, { to: b.address() });
    expect(String(queued(a)[0])).toBe('to a');
    expect(queued(b).map(String)).toEqual(['heard']);
    expect(b.mtu).toBe(65535);
    b.connect('127.0.0.1', other.address().port);
    b.sendmsg(data('to other'));
    expect(queued(other).map(String)).toEqual(['to other']);
  });

  it('what others send is dropped by the kernel, which counts it for the namespace; what had come before connect() is not', () => {
    const [a, peer, stranger] = [open(), open(), open()];
    stranger.sendmsg(data('before'), 0, { to: a.address() });
    a.connect('127.0.0.1', peer.address().port);
    const room = Buffer.alloc(99);
    expect(a.recvmsg(room)).toMatchObject({ bytes: 6, from: stranger.address() });
    const noPorts = () => {
      const lines = readFileSync('/proc/thread-self/net/snmp', 'utf8').split('\n');
      const [names, values] = lines.filter((line) => line.startsWith('Udp: ')).map((line) => line.split(' '));
      return Number(values?.[names?.indexOf('NoPorts') ?? -1]);
    };
    const before = noPorts();
    stranger.connect('127.0.0.1', a.address().port);
    for (let count = 0; count < 3; count++) expect(stranger.sendmsg(data('after'))).toBe(5);
    expect(noPorts()).toBe(before + 3);
    expect(queued(a)).toEqual([]);
    expect(a.stats().received).toMatchObject({ packets: 1, dropped: 0, errors: 0 });
    expect(stranger.recvmsg(room, MSG_ERRQUEUE)).toMatchObject({ error: 'ECONNREFUSED' });
  });

  it.each([0, 4711])('disconnect() leaves the socket at its port (asked for: %s)', (port) => {
    const [a, b] = [open({ address: '0.0.0.0', port }), open()];
    const before = a.address();
    a.connect('127.0.0.1', b.address().port);
    expect(a.address()).toEqual({ ...before, address: '127.0.0.1' });
    a.disconnect();
    expect(a.address()).toEqual(before);
    b.sendmsg(data('still'), 0, { to: { address: '127.0.0.1', port: before.port } });
    expect(queued(a).map(String)).toEqual(['still']);
    for (const call of [() => a.disconnect(), () => a.remoteAddress()]) {
      expect(codeOf(call)).toBe('ERR_SOCKET_DGRAM_NOT_CONNECTED');
    }
    expect(codeOf(() => a.mtu)).toBe('ENOTCONN');
    expect(codeOf(() => a.sendmsg(data('nowhere')))).toBe('EDESTADDRREQ');
  });
});

describe('what the others have too', () => {
  it('batch events, iteration, streams and close', async () => {
    const [a, b] = [open(), open()];
    a.connect('127.0.0.1', b.address().port);
    const seen: string[] = [];
    const heard = new Promise<void>((resolve) => {
      b.on('batch', (batch) => {
        for (let index = 0; index < batch.length; index++) {
          seen.push(`${batch.at(index)} ${batch.info(index).from?.port === a.address().port}`);
        }
        if (seen.length >= 3) resolve();
      });
    });
    for (const text of ['1', '2', '3']) a.send(data(text));
    await heard;
    expect(seen).toEqual(['1 true', '2 true', '3 true']);
    b.removeAllListeners('batch');
    expect(await a.sendBatch(batchOf([data('4'), data('5')]))).toBe(2);
    for await (const packet of b) {
      seen.push(String(packet));
      if (seen.length === 5) break;
    }
    expect(seen.slice(3)).toEqual(['4', '5']);
    b.stream({ info: true }).destroy();
    await once(b, 'close');
    expect(codeOf(() => b.address())).toBe('ERR_SOCKET_CLOSED');
    expect(codeOf(() => b.connect('127.0.0.1', 1))).toBe('ERR_SOCKET_CLOSED');
  });

  it('a batch from a tun device goes to the peer as it is, and back', async () => {
    using tun = TunSocket.open({ address: '10.9.0.1/24' });
    const [a, b] = [open(), open()];
    a.connect('127.0.0.1', b.address().port);
    a.sendmsg(data('ping'), 0, { to: b.address() });
    b.recvmsg(Buffer.alloc(9));
    const host = await dgram('10.9.0.1');
    host.send('over the tunnel', 9, '10.9.0.2');
    const packet = await tun.receive();
    const batch = batchOf([packet, packet]);
    expect(a.sendmmsg(batch)).toBe(2);
    expect(queued(b)).toEqual([packet, packet]);
  });

  it("a destination that is a datagram's is refused elsewhere, and the other way round", () => {
    using tun = TunSocket.open();
    const udp = open();
    const to = { address: '127.0.0.1', port: 9 };
    expect(codeOf(() => tun.sendmsg(data('x'), 0, { to }))).toBe('ERR_INVALID_ARG_VALUE');
    const hardware = { to: { address: '02:00:00:00:00:01' } };
    expect(codeOf(() => udp.sendmsg(data('x'), 0, hardware))).toBe('ERR_INVALID_ARG_VALUE');
    expect(codeOf(() => udp.sendmsg(data('x'), 0, { offload: {} }))).toBe('ERR_INVALID_ARG_VALUE');
  });

  it('a destination before or behind packets of another layout is only its own', () => {
    const [a, b] = [open(), open()];
    a.connect('127.0.0.1', b.address().port);
    const other = open();
    const batch = new PacketBatch();
    batch.push(data('link'), { to: { address: '02:00:00:00:00:01', protocol: 7 } });
    batch.push(data('other'), { to: other.address() });
    batch.push(data('peer'));
    expect(a.sendmmsg(batch)).toBe(3);
    expect(queued(b).map(String)).toEqual(['link', 'peer']);
    expect(queued(other).map(String)).toEqual(['other']);
  });

  it('another process takes the descriptor over', () => {
    const [a, b] = [open(), open()];
    a.sendmsg(data('inherited'), 0, { to: b.address() });
    const seen = inheriting(
      b,
      `const udp = socketFromFd(3);
       const room = Buffer.alloc(20);
       const { from } = udp.recvmsg(room, constants.MSG_DONTWAIT);
       console.log(JSON.stringify([udp.constructor.name, udp.address().port, String(room.subarray(0, 9)), from.port]));`,
    );
    expect(seen).toEqual(['UdpSocket', b.address().port, 'inherited', a.address().port]);
  });

  it.runIf(HAS_PYTHON)(
    'says MSG_CTRUNC when who opened it wants more to be told than there is room for',
    () => {
      // IPV6_RECVHOPOPTS (RFC 3542): 760 bytes of options that a receiver is to skip (0x1e, RFC 4727), beside each datagram.
      const script = `
import os, socket, sys
to, sender = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
to.bind(('::1', 0))
to.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPOPTS, 1)
option = lambda size: bytes([0x1e, size]) + bytes(size)
for options in (bytes([0, 94]) + option(250) + option(250) + option(252), b''):
  sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_HOPOPTS, options)
  for _ in range(2): sender.sendto(b'told', to.getsockname())
os.set_inheritable(to.fileno(), True)
os.execv(sys.argv[1], [sys.argv[1], '-e', sys.argv[2], str(to.fileno())])`;
      const code = `
const { UdpSocket, PacketBatch } = require(${JSON.stringify(join(__dirname, '../../dist'))});
const udp = UdpSocket.fromFd(Number(process.argv[1]));
const room = Buffer.alloc(20);
const told = () => { const { bytes, flags } = udp.recvmsg(room); return [String(room.subarray(0, bytes)), flags]; };
const first = told();
const batch = new PacketBatch();
udp.recvmmsg(batch);
console.log(JSON.stringify([first, ...[...batch].map((data, at) => [String(data), batch.flags[at]])]));`;
      const { stdout, stderr } = spawnSync('python3', ['-c', script, process.execPath, code], {
        encoding: 'utf8',
      });
      expect(stderr).toBe('');
      const { MSG_CTRUNC } = constants;
      expect(JSON.parse(stdout)).toEqual([
        ['told', MSG_CTRUNC],
        ['told', MSG_CTRUNC],
        ['told', 0],
        ['told', 0],
      ]);
    },
  );

  it('lives in the namespace that it was opened in', () => {
    using netns = Netns.create();
    const [a, b] = [open({ netns }), open({ netns })];
    a.sendmsg(data('there'), 0, { to: b.address() });
    expect(queued(b).map(String)).toEqual(['there']);
    const here = open({ port: b.address().port });
    expect(() => here.recvmsg(Buffer.alloc(1), MSG_DONTWAIT)).toThrow(empty);
  });

  it('counts what the kernel dropped for want of room', () => {
    const b = open({ receiveBuffer: 2304 });
    const a = open();
    const batch = batchOf(new Array<Buffer>(64).fill(Buffer.alloc(1000)), { to: b.address() });
    expect(a.sendmmsg(batch)).toBe(64);
    const received = queued(b).length;
    expect(received).toBeLessThan(64);
    expect(b.stats().received).toMatchObject({ packets: received, dropped: 64 - received });
  });
});
