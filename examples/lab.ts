/**
 * A laboratory in one process: two hosts, each a Worker in a network namespace of its own, talk by ordinary sockets; the
 * router between them is JavaScript. Nothing of it touches the network of the machine.
 *
 *     node lab.js
 */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { Netns, TunSocket } from 'tunsock';
import { enterOwnNamespace } from './own-namespace';
import { forwarded, layoutOf } from './packets';

/** Forwards IPv4 packets between hosts; each host is the only one on its link. */
export class Router {
  readonly #ports = new Map<string, TunSocket>();
  /** Packets that went on, and that had nowhere to go. */
  forwarded = 0;
  dropped = 0;

  /** Takes a cable from a host with that address. */
  connect(address: string, port: TunSocket): void {
    this.#ports.set(address, port);
    port.on('message', (packet) => this.#forward(packet));
  }

  #forward(packet: Buffer): void {
    const destination = layoutOf(packet)?.destination.join('.') ?? '';
    const port = this.#ports.get(destination);
    const next = port === undefined ? undefined : forwarded(packet);
    if (port === undefined || next === undefined) {
      this.dropped += 1;
    } else {
      this.forwarded += 1;
      port.send(next);
    }
  }
}

/** A network namespace with one interface, whose other end is in the router. */
export class Host {
  readonly netns = Netns.create();
  readonly #port: TunSocket;
  readonly #workers: Worker[] = [];

  constructor(router: Router, address: string) {
    this.#port = TunSocket.open({
      name: 'eth0',
      netns: this.netns,
      address: `${address}/24`,
      routes: 'default',
    });
    router.connect(address, this.#port);
  }

  /** Runs a program (CommonJS, as text) on this host: a thread stays in the namespace that it was started in. */
  run(program: string): Worker {
    const worker = this.netns.run(() => new Worker(program, { eval: true }));
    this.#workers.push(worker);
    return worker;
  }

  async close(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
    this.#port.close();
    this.netns.close();
  }
}

/** Echoes over TCP and UDP; posts 'ready'. */
export const SERVER = `
  const { parentPort } = require('node:worker_threads');
  const tcp = require('node:net').createServer((connection) => connection.pipe(connection)).listen(7);
  const udp = require('node:dgram').createSocket('udp4').bind(7);
  udp.on('message', (message, from) => udp.send(message, from.port, from.address));
  const { once } = require('node:events');
  Promise.all([once(tcp, 'listening'), once(udp, 'listening')]).then(() => parentPort.postMessage('ready'));
`;

/** Says something over TCP and UDP; posts { tcp, udp, peer }: what came back, and who sent it. */
export const client = (server: string, text: string): string => `
  const { parentPort } = require('node:worker_threads');
  const { once } = require('node:events');
  async function main() {
    const tcp = require('node:net').connect(7, '${server}');
    tcp.end(${JSON.stringify(text)});
    const echoed = [];
    for await (const chunk of tcp) echoed.push(chunk);
    const udp = require('node:dgram').createSocket('udp4');
    udp.send(${JSON.stringify(text.slice(0, 1000))}, 7, '${server}');
    const [message, from] = await once(udp, 'message');
    udp.close();
    parentPort.postMessage({ tcp: String(Buffer.concat(echoed)), udp: String(message), peer: from.address });
  }
  main();
`;

/** What a host's program posts next; throws what it throws. */
export async function posted(worker: Worker): Promise<unknown> {
  return (await once(worker, 'message', { signal: AbortSignal.timeout(10_000) }))[0];
}

async function main(): Promise<void> {
  const router = new Router();
  const alice = new Host(router, '10.0.1.2');
  const bob = new Host(router, '10.0.2.2');
  await posted(bob.run(SERVER));
  console.log('alice hears', await posted(alice.run(client('10.0.2.2', 'hello, bob'))));
  console.log(`the router forwarded ${router.forwarded} packets`);
  await Promise.all([alice.close(), bob.close()]);
}

if (require.main === module) {
  enterOwnNamespace();
  main().catch((error) => {
    console.error(error);
    process.exitCode = 1;
  });
}
