/**
 * A laboratory in one process: two hosts, each a Worker in a network namespace of its own, talk by ordinary sockets; the
 * router between them is JavaScript. Nothing of it touches the network of the machine.
 *
 *     node router.js
 */
import type { Worker } from 'node:worker_threads';
import { Netns, TunSocket } from 'tunsock';
import { forwardHop, readIp } from 'tunsock/packets';
import { ECHO_SERVER, echoClient, posted, runExample, runIn } from './stage';

/** Forwards packets between hosts; each host is the only one on its link. */
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
    const port = this.#ports.get(readIp(packet)?.destination ?? '');
    if (port === undefined || !forwardHop(packet)) {
      this.dropped += 1;
    } else {
      this.forwarded += 1;
      port.send(packet);
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

  /** Runs a program (CommonJS, as text) on this host. */
  run(program: string): Worker {
    const worker = runIn(this.netns, program);
    this.#workers.push(worker);
    return worker;
  }

  async close(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
    this.#port.close();
    this.netns.close();
  }
}

async function main(): Promise<void> {
  const router = new Router();
  const alice = new Host(router, '10.0.1.2');
  const bob = new Host(router, '10.0.2.2');
  await posted(bob.run(ECHO_SERVER));
  console.log('alice hears', await posted(alice.run(echoClient('10.0.2.2', 'hello, bob'))));
  console.log(`the router forwarded ${router.forwarded} packets`);
  await Promise.all([alice.close(), bob.close()]);
}

runExample(module, main);
