/**
 * An Ethernet switch: hosts with a tap device each; the bridge learns which address is at which port (IEEE 802.1D), and floods only
 * what is for all, or for somebody it does not know yet.
 *
 *     node tap-bridge.js
 */
import { Netns, TunSocket } from 'tunsock';
import { readEthernet } from 'tunsock/packets';
import { ECHO_SERVER, echoClient, posted, runExample, runIn } from './stage';

const MAX_ADDRESSES = 1024;
const AGEING_MS = 300_000;

export class Bridge {
  readonly #ports: TunSocket[] = [];
  readonly #table = new Map<string, { port: TunSocket; seen: number }>();
  forwarded = 0;
  flooded = 0;

  /** The addresses that were learnt, with the number of their port. */
  get addresses(): Map<string, number> {
    return new Map([...this.#table].map(([mac, { port }]) => [mac, this.#ports.indexOf(port)]));
  }

  connect(port: TunSocket): void {
    this.#ports.push(port);
    port.on('message', (frame) => this.#take(frame, port));
  }

  #take(frame: Buffer, from: TunSocket): void {
    const header = readEthernet(frame);
    if (header === undefined) return;
    this.#learn(header.source, from);
    const entry = this.#table.get(header.destination);
    if (entry !== undefined && Date.now() - entry.seen < AGEING_MS) {
      if (entry.port === from) return; // who sent it has it already
      this.forwarded += 1;
      entry.port.send(frame);
    } else {
      this.flooded += 1;
      for (const port of this.#ports) if (port !== from) port.send(frame);
    }
  }

  #learn(mac: string, port: TunSocket): void {
    if (isGroup(mac)) return; // nobody sends from such an address
    // A flood of made-up addresses pushes out old ones, and does not fill the memory.
    if (!this.#table.has(mac) && this.#table.size >= MAX_ADDRESSES) {
      this.#table.delete(this.#table.keys().next().value as string);
    }
    this.#table.set(mac, { port, seen: Date.now() });
  }
}

/** Broadcast and multicast have the lowest bit of the first byte set. */
function isGroup(mac: string): boolean {
  return (Number.parseInt(mac.slice(0, 2), 16) & 1) === 1;
}

async function main(): Promise<void> {
  const bridge = new Bridge();
  const hosts = [1, 2, 3].map((number) => {
    const netns = Netns.create();
    const tap = TunSocket.open({
      mode: 'tap',
      netns,
      address: `10.0.0.${number}/24`,
      mac: `02:00:00:00:00:0${number}`,
    });
    bridge.connect(tap);
    return { netns, tap };
  });
  const [first, second, third] = hosts as [(typeof hosts)[0], (typeof hosts)[0], (typeof hosts)[0]];
  const server = runIn(second.netns, ECHO_SERVER);
  await posted(server);
  const client = runIn(first.netns, echoClient('10.0.0.2', 'x'.repeat(100_000)));
  const { tcp } = (await posted(client)) as { tcp: string };
  console.log(`host 1 had ${tcp.length} bytes back from host 2`);
  for (const [mac, port] of bridge.addresses) console.log(`  ${mac} is at port ${port}`);
  console.log(`forwarded ${bridge.forwarded} frames, flooded ${bridge.flooded}`);
  const overheard = third.tap.link.counters().rxPackets;
  console.log(
    `host 3 overheard ${overheard <= bridge.flooded ? 'only what was flooded' : 'more than was flooded'}`,
  );
  await Promise.all([server.terminate(), client.terminate()]);
  for (const { netns, tap } of hosts) {
    tap.close();
    netns.close();
  }
}

runExample(module, main);
