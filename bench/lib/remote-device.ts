import { writeFileSync } from 'node:fs';
import { Netns, type OffloadMode, TunSocket } from 'tunsock';
import { compiled } from './compiled';
import { Peer } from './peer';

const ADDRESS = '10.7.0.1/24';
const QUEUE_PACKETS = 5000;
const TRAFFIC_CORE = 1;

/** A device in a namespace of its own whose packets come to this process, and the program there that sends and answers. */
export class RemoteDevice implements AsyncDisposable {
  readonly socket: TunSocket;
  readonly traffic: Peer;
  readonly #netns = Netns.create();

  constructor(offload: OffloadMode = 'none') {
    this.#netns.run(() => writeFileSync('/proc/sys/net/ipv6/conf/default/disable_ipv6', '1'));
    this.socket = TunSocket.open({
      netns: this.#netns,
      address: ADDRESS,
      offload,
      txQueueLength: QUEUE_PACKETS,
    });
    const traffic = compiled('traffic');
    this.traffic = this.#netns.run(() => new Peer([traffic], [this.socket.fd], TRAFFIC_CORE));
  }

  /** Sends each packet back to where it came from. */
  echo(): void {
    this.socket.on('message', (packet) => {
      const source = packet.readUInt32BE(12);
      packet.copyWithin(12, 16, 20);
      packet.writeUInt32BE(source, 16);
      this.socket.send(packet);
    });
  }

  /** Nanoseconds from there to here and back, `count` times. */
  async pings(count: number, size: number): Promise<number[]> {
    const times: number[] = [];
    for (let index = 0; index < count; index++) {
      times.push((await this.traffic.ask(`ping 1 ${size}`)).nanoseconds);
    }
    return times;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.traffic[Symbol.asyncDispose]();
    this.socket.close();
    this.#netns.close();
  }
}
