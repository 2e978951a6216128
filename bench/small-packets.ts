import { writeFileSync } from 'node:fs';
import { constants, Netns, PacketBatch, TunSocket } from 'tunsock';
import { compiled } from './lib/compiled';
import { Peer } from './lib/peer';
import { median } from './lib/statistics';

const PACKETS = 8192;
const ROUNDS = 40;
const QUICK_ROUNDS = 10;
const SIZE = 64;
const TRAFFIC_CORE = 1;

/** Nanoseconds of CPU time for each packet of 64 bytes, where offload has nothing to gain. */
export interface SmallPackets {
  offload: 'none' | 'split';
  receive: number;
  send: number;
}

/** What offload costs those whose packets are small: recvmmsg() and sendmmsg() of 64 packets at a time, in both modes in turn. */
export async function smallPackets(quick: boolean): Promise<SmallPackets[]> {
  const sides = [new Side('none'), new Side('split')];
  try {
    for (let round = 0; round < (quick ? QUICK_ROUNDS : ROUNDS); round++) {
      for (const side of sides) await side.round();
    }
    return sides.map((side) => side.result());
  } finally {
    for (const side of sides) await side[Symbol.asyncDispose]();
  }
}

class Side implements AsyncDisposable {
  readonly #offload: 'none' | 'split';
  readonly #netns = Netns.create();
  readonly #tun: TunSocket;
  readonly #traffic: Peer;
  readonly #batch = new PacketBatch();
  readonly #receive: number[] = [];
  readonly #send: number[] = [];

  constructor(offload: 'none' | 'split') {
    this.#offload = offload;
    this.#netns.run(() => writeFileSync('/proc/sys/net/ipv6/conf/default/disable_ipv6', '1'));
    const address = '10.7.0.1/24';
    this.#tun = TunSocket.open({ netns: this.#netns, address, offload, txQueueLength: 2 * PACKETS });
    const traffic = compiled('traffic');
    this.#traffic = this.#netns.run(() => new Peer([traffic], [this.#tun.fd], TRAFFIC_CORE));
  }

  async round(): Promise<void> {
    await this.#traffic.ask(`singles ${PACKETS} ${SIZE}`);
    const batch = this.#batch;
    let received = 0;
    this.#receive.push(
      cpuTime(() => {
        for (let count = -1; count !== 0; received += count) {
          count = this.#tun.recvmmsg(batch, constants.MSG_DONTWAIT);
        }
      }) / received,
    );
    if (received < PACKETS) throw new Error(`${PACKETS - received} packets are missing`);
    // Back to the host's sink, from where they were to go.
    await this.#traffic.ask(`singles ${batch.capacity} ${SIZE}`);
    this.#tun.recvmmsg(batch, constants.MSG_DONTWAIT);
    for (const packet of batch) turnAround(packet);
    const sends = PACKETS / batch.length;
    this.#send.push(
      cpuTime(() => {
        for (let count = 0; count < sends; count++) {
          for (let sent = 0; sent < batch.length; ) sent += this.#tun.sendmmsg(batch, 0, sent);
        }
      }) / PACKETS,
    );
  }

  result(): SmallPackets {
    return { offload: this.#offload, receive: median(this.#receive), send: median(this.#send) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#traffic[Symbol.asyncDispose]();
    this.#tun.close();
    this.#netns.close();
  }
}

/** Swaps the addresses, and aims at port 9, which nobody reads. Each packet gets a source port of its own: no two of them merge. */
let port = 0;
function turnAround(packet: Buffer): void {
  const source = packet.readUInt32BE(12);
  packet.copy(packet, 12, 16, 20);
  packet.writeUInt32BE(source, 16);
  port = (port + 1) % 60_000;
  packet.writeUInt16BE(1024 + port, 20);
  packet.writeUInt16BE(9, 22);
  packet.writeUInt16BE(0, 26); // no checksum
}

function cpuTime(work: () => void): number {
  const start = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(start);
  return (user + system) * 1000;
}
