import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import type { Netns } from '../../dist';
import { Peer } from './peer';

/** Programs with ordinary sockets at the two ends of a cable, each in a process of its own. */

/** Whether python3 is there for {@link sendDatagrams}: Node's dgram cannot set UDP_SEGMENT. */
export const HAS_PYTHON = spawnSync('python3', ['-V']).error === undefined;
if (!HAS_PYTHON) console.log('skipped: what needs python3');

/** What one end of a connection or flow has seen of it: SHA-1 of all that it sent and received. */
export interface Ends {
  sent: string;
  received: string;
  bytes: number;
}

/** Both directions at once, `bytes` each way; the sender's blocks all differ, and so does what each end sends. */
const TCP_PEER = `
  const { listen, address, bytes } = data;
  const { createHash, randomBytes } = require('node:crypto');
  const { once } = require('node:events');
  const net = require('node:net');

  async function exchange(socket) {
    const [sent, received] = [createHash('sha1'), createHash('sha1')];
    let arrived = 0;
    socket.on('data', (chunk) => { received.update(chunk); arrived += chunk.length; });
    const ended = once(socket, 'end');
    const block = randomBytes(1 << 20);
    for (let at = 0; at < bytes; at += block.length) {
      const chunk = Buffer.from(block.subarray(0, Math.min(block.length, bytes - at)));
      chunk.writeUInt32BE(at / block.length, 0);
      sent.update(chunk);
      if (!socket.write(chunk)) await once(socket, 'drain');
    }
    socket.end();
    await ended;
    tell({ sent: sent.digest('hex'), received: received.digest('hex'), bytes: arrived });
  }

  if (listen) {
    const server = net.createServer({ allowHalfOpen: true }, (socket) => { server.close(); exchange(socket); });
    server.listen(7, address, () => tell('ready'));
  } else {
    const socket = net.connect({ port: 7, host: address, allowHalfOpen: true }, () => exchange(socket));
  }
`;

/** One TCP connection from `client` to `server` at `address`, with `bytes` each way: what each end saw of it. */
export async function tcpExchange(
  client: Netns,
  server: Netns,
  address: string,
  bytes: number,
): Promise<{ client: Ends; server: Ends }> {
  using serving = new Peer(server, TCP_PEER, { listen: true, address, bytes });
  await serving.next();
  using connecting = new Peer(client, TCP_PEER, { listen: false, address, bytes });
  const [atServer, atClient] = await Promise.all([serving.next<Ends>(), connecting.next<Ends>()]);
  return { client: atClient, server: atServer };
}

/**
 * Sends bursts of `count` datagrams of `size` bytes (the last of a burst shorter), by one call where gso is 1, and waits for the
 * answer to each burst before the next: no queue has more than one burst to hold. Prints the hash of it all.
 */
const UDP_SENDER = `
import hashlib, os, socket, sys
address, port, bursts, count, size, gso = sys.argv[1], *map(int, sys.argv[2:])
family = socket.AF_INET6 if ':' in address else socket.AF_INET
udp = socket.socket(family, socket.SOCK_DGRAM)
udp.settimeout(10)
udp.connect((address, port))
if gso:
    udp.setsockopt(17, 103, size) # SOL_UDP, UDP_SEGMENT
digest = hashlib.sha1()
for burst in range(bursts):
    data = os.urandom(count * size - burst % size)
    digest.update(data)
    if gso:
        udp.send(data)
    else:
        for at in range(0, len(data), size):
            udp.send(data[at:at + size])
    udp.recv(1)
print(digest.hexdigest())
`;

const UDP_RECEIVER = `
  const { address, count } = data;
  const { createHash } = require('node:crypto');
  const hash = createHash('sha1');
  const sizes = [];
  const udp = require('node:dgram').createSocket(address.includes(':') ? 'udp6' : 'udp4');
  udp.on('message', (datagram, from) => {
    hash.update(datagram);
    sizes.push(datagram.length);
    if (sizes.length % count === 0) udp.send('.', from.port, from.address);
  });
  udp.bind(7, address, () => tell('ready'));
  process.on('message', () => tell({ received: hash.digest('hex'), sizes }));
`;

export interface Bursts {
  bursts: number;
  count: number;
  size: number;
  gso: boolean;
}

/** Datagrams from `sender` to `receiver` at `address`: what was sent and received, and each datagram's size. */
export async function udpExchange(
  sender: Netns,
  receiver: Netns,
  address: string,
  { bursts, count, size, gso }: Bursts,
): Promise<{ sent: string; received: string; sizes: number[] }> {
  using receiving = new Peer(receiver, UDP_RECEIVER, { address, count });
  await receiving.next();
  const numbers = [7, bursts, count, size, gso ? 1 : 0].map(String);
  const child = sender.run(() =>
    spawn('python3', ['-c', UDP_SENDER, address, ...numbers], { stdio: ['ignore', 'pipe', 'inherit'] }),
  );
  let sent = '';
  child.stdout.on('data', (text) => {
    sent += text;
  });
  await once(child, 'close');
  receiving.tell('report');
  const { received, sizes } = await receiving.next<{ received: string; sizes: number[] }>();
  return { sent: sent.trim(), received, sizes };
}

/** An ordinary UDP socket in another namespace. */
export interface Listener extends Disposable {
  port: number;
  /** The next `count` datagrams. */
  datagrams(count: number): Promise<string[]>;
}

const UDP_LISTENER = `
  const udp = require('node:dgram').createSocket('udp4');
  udp.on('message', (datagram) => tell(String(datagram)));
  udp.bind(0, data, () => tell(udp.address().port));
`;

/** Listens at `address` of `netns`. */
export async function udpListener(netns: Netns, address: string): Promise<Listener> {
  const peer = new Peer(netns, UDP_LISTENER, address);
  const port = await peer.next<number>();
  return {
    port,
    async datagrams(count) {
      const arrived: string[] = [];
      while (arrived.length < count) arrived.push(await peer.next());
      return arrived;
    },
    [Symbol.dispose]() {
      peer[Symbol.dispose]();
    },
  };
}
