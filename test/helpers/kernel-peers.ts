import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import type { Netns } from '../../dist';
import { Peer } from './peer';

/** What the kernel is told by programs, for tests of what tunsock has no call for. */

/** Runs a command in `netns`; returns what it says when it fails or is not there. */
export function failure(netns: Netns, command: string, ...args: string[]): string | undefined {
  const { error, status, stderr } = netns.run(() => spawnSync(command, args, { encoding: 'utf8' }));
  return error?.message ?? (status === 0 ? undefined : stderr.trim() || `${command}: status ${status}`);
}

/** RTM_NEWLINK with IFLA_GSO_MAX_SIZE, IFLA_GRO_MAX_SIZE, and the same for IPv4 (41, 58, 63 and 64 in linux/if_link.h). */
const SET_MAX_SIZES = `
import socket, struct, sys
name, size = sys.argv[1], int(sys.argv[2])
attributes = b''.join(struct.pack('HHI', 8, kind, size) for kind in (41, 58, 63, 64))
body = struct.pack('BxHiII', 0, 0, socket.if_nametoindex(name), 0, 0) + attributes
netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
netlink.send(struct.pack('IHHII', 16 + len(body), 16, 5, 1, 0) + body)
error = struct.unpack('i', netlink.recv(4096)[16:20])[0]
sys.exit(f'RTM_NEWLINK: {error}' if error else 0)
`;

/**
 * Lets the kernel make superpackets of up to `bytes` bytes for an interface (BIG TCP; IPv4 since Linux 6.3). How long they are is also for TCP
 * to choose, by the pace that it finds. So that a slow machine makes them too, round trips of up to a second count as short (tcp_tso_rtt_log in
 * the kernel's ip-sysctl), buffers are wide from the start, and the congestion window, half of which a superpacket may have, grows until something is
 * lost, and stays: CUBIC stops it where round trips become longer (HyStart).
 */
export function allowBigTcp(netns: Netns, name: string, bytes: number): string | undefined {
  const buffer = `4096 ${16 << 20} ${16 << 20}`;
  const settings = {
    tso_rtt_log: '20',
    rmem: buffer,
    wmem: buffer,
    congestion_control: 'reno',
    slow_start_after_idle: '0',
  };
  netns.run(() => {
    for (const [key, value] of Object.entries(settings)) {
      writeFileSync(`/proc/sys/net/ipv4/tcp_${key}`, value);
    }
  });
  return failure(netns, 'python3', '-c', SET_MAX_SIZES, name, String(bytes));
}

const SINK = `
  const { createHash } = require('node:crypto');
  const server = require('node:net').createServer((socket) => {
    const hash = createHash('sha1');
    let arrived = 0;
    socket.on('data', (chunk) => { hash.update(chunk); arrived += chunk.length; });
    socket.on('end', () => { tell({ hash: hash.digest('hex'), bytes: arrived }); socket.end(); });
    socket.on('error', () => {});
  });
  server.listen(7, data, () => tell('ready'));
`;

/**
 * One TCP connection's data, one way, by a program whose sockets have options that Node's have not. The first 200 kB are to be acknowledged before
 * the rest: the kernel makes superpackets of half the window that it knows of when the program hands data over, not when it sends them.
 */
const SOURCE = `
import fcntl, hashlib, socket, struct, sys, time
address, size, options = sys.argv[1], int(sys.argv[2]), bytes.fromhex(sys.argv[3])
six = ':' in address
tcp = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_STREAM)
seconds = size / 30_000 # an emulated machine takes a third of that
tcp.settimeout(seconds)
if options:
    if six: tcp.setsockopt(socket.IPPROTO_IPV6, 57, options) # IPV6_RTHDR
    else: tcp.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, options)
tcp.connect((address, 7))
data = b''.join(hashlib.sha1(at.to_bytes(4, 'big')).digest() for at in range(size // 20))
tcp.sendall(data[:200_000])
end = time.monotonic() + seconds
while struct.unpack('i', fcntl.ioctl(tcp, 0x5411, bytes(4)))[0] > 0: # SIOCOUTQ
    if time.monotonic() > end: raise TimeoutError
    time.sleep(0.01)
tcp.sendall(data[200_000:])
tcp.shutdown(socket.SHUT_WR)
tcp.recv(1)
print(hashlib.sha1(data).hexdigest())
`;

export interface Poured {
  sent: string;
  received: string;
  bytes: number;
}

/**
 * One TCP connection from `from` to `address` of `to`, `bytes` one way. `options`: IP_OPTIONS, or for IPv6 a routing header
 * (IPV6_RTHDR).
 */
export async function pour(
  from: Netns,
  to: Netns,
  address: string,
  bytes: number,
  options: Buffer = Buffer.alloc(0),
): Promise<Poured> {
  using sink = new Peer(to, SINK, address);
  await sink.next();
  const arguments_ = ['-c', SOURCE, address, String(bytes), options.toString('hex')];
  const source = from.run(() => spawn('python3', arguments_, { stdio: ['ignore', 'pipe', 'pipe'] }));
  let [sent, said] = ['', ''];
  source.stdout.on('data', (text) => {
    sent += text;
  });
  source.stderr.on('data', (text) => {
    said += text;
  });
  const [status] = await once(source, 'close');
  if (status !== 0) throw new Error(`the sender failed: ${status} ${said}`);
  const { hash, bytes: count } = await sink.next<{ hash: string; bytes: number }>();
  return { sent: sent.trim(), received: hash, bytes: count };
}
