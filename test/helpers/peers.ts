import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { Netns } from '../../dist';

/** Programs with ordinary sockets at the two ends of a cable, each in a thread or process of its own. */

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
  const { parentPort, workerData: { listen, address, bytes } } = require('node:worker_threads');
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
    parentPort.postMessage({ sent: sent.digest('hex'), received: received.digest('hex'), bytes: arrived });
  }

  if (listen) {
    const server = net.createServer({ allowHalfOpen: true }, (socket) => { server.close(); exchange(socket); });
    server.listen(7, address, () => parentPort.postMessage('ready'));
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
  const start = (netns: Netns, listen: boolean) =>
    netns.run(() => new Worker(TCP_PEER, { eval: true, workerData: { listen, address, bytes } }));
  const serving = start(server, true);
  await once(serving, 'message');
  const connecting = start(client, false);
  const [[atServer], [atClient]] = await Promise.all([once(serving, 'message'), once(connecting, 'message')]);
  await Promise.all([serving.terminate(), connecting.terminate()]);
  return { client: atClient as Ends, server: atServer as Ends };
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
  const { parentPort, workerData: { address, count } } = require('node:worker_threads');
  const { createHash } = require('node:crypto');
  const hash = createHash('sha1');
  const sizes = [];
  const udp = require('node:dgram').createSocket(address.includes(':') ? 'udp6' : 'udp4');
  udp.on('message', (data, from) => {
    hash.update(data);
    sizes.push(data.length);
    if (sizes.length % count === 0) udp.send('.', from.port, from.address);
  });
  udp.bind(7, address, () => parentPort.postMessage('ready'));
  parentPort.on('message', () => parentPort.postMessage({ received: hash.digest('hex'), sizes }));
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
  const workerData = { address, count };
  const receiving = receiver.run(() => new Worker(UDP_RECEIVER, { eval: true, workerData }));
  await once(receiving, 'message');
  const numbers = [7, bursts, count, size, gso ? 1 : 0].map(String);
  const child = sender.run(() =>
    spawn('python3', ['-c', UDP_SENDER, address, ...numbers], { stdio: ['ignore', 'pipe', 'inherit'] }),
  );
  let sent = '';
  child.stdout.on('data', (text) => {
    sent += text;
  });
  await once(child, 'close');
  receiving.postMessage('report');
  const [{ received, sizes }] = await once(receiving, 'message');
  await receiving.terminate();
  return { sent: sent.trim(), received, sizes };
}

/** An ordinary UDP socket in another namespace. */
export interface Listener extends AsyncDisposable {
  port: number;
  /** The next `count` datagrams. */
  datagrams(count: number): Promise<string[]>;
}

const UDP_LISTENER = `
  const { parentPort, workerData: address } = require('node:worker_threads');
  const udp = require('node:dgram').createSocket('udp4');
  udp.on('message', (data) => parentPort.postMessage(String(data)));
  udp.bind(0, address, () => parentPort.postMessage(udp.address().port));
`;

/** Listens at `address` of `netns`. */
export async function udpListener(netns: Netns, address: string): Promise<Listener> {
  const worker = netns.run(() => new Worker(UDP_LISTENER, { eval: true, workerData: address }));
  const [port] = await once(worker, 'message');
  const arrived: string[] = [];
  worker.on('message', (data) => arrived.push(data));
  return {
    port,
    async datagrams(count) {
      while (arrived.length < count) await once(worker, 'message');
      return arrived.splice(0, count);
    },
    async [Symbol.asyncDispose]() {
      await worker.terminate();
    },
  };
}
