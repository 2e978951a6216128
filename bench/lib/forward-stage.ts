import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Netns, type TunOptions, TunSocket } from 'tunsock';
import { compiled } from './compiled';
import type { Round } from './operation';
import { Peer } from './peer';

export type Offload = 'none' | 'split' | 'raw';

/** Who forwards, and what of offload its devices have. */
export interface Forwarder {
  name: string;
  by: 'C' | 'tunsock';
  offload: Offload;
  /** Whether the kernel's vhost threads move its packets; of tunsock only. Default false. */
  vhost?: boolean;
}

/** What a stream cost. */
export interface ForwardRound {
  gigabitsPerSecond: number;
  /** Milliseconds of user and system time of the forwarder's process, for 10^9 bytes. */
  cpuPerGigabyte: number;
  /** The same of its main thread alone. */
  threadPerGigabyte: number;
}

/** What a forwarder has done so far; without `thread`, its process has one thread only. */
export interface ForwardTotals extends Round {
  thread?: number;
}

const PORT = '5001';
const NETS = { near: 'far', far: 'near' } as const;
const ADDRESSES = { near: '10.9.1', far: '10.9.2' } as const;
const QUEUE_PACKETS = 10_000;

/** One of the two devices, each in a namespace that has the other's net behind it. */
export function tunOptions(
  side: keyof typeof NETS,
  netns: string | Netns,
  offload: Offload,
  vhost = false,
): TunOptions {
  return {
    netns,
    offload,
    vhost,
    name: 'forward0',
    address: `${ADDRESSES[side]}.1/24`,
    routes: [`${ADDRESSES[NETS[side]]}.0/24`],
    txQueueLength: QUEUE_PACKETS,
  };
}

/** Two hosts, a forwarder between their tun devices, and a TCP connection through it. */
export class ForwardStage implements AsyncDisposable {
  readonly #hosts: readonly Netns[];
  readonly #forwarder: Peer;
  readonly #receiver: Peer;
  readonly #sender: Peer;

  private constructor(hosts: readonly Netns[], forwarder: Peer, receiver: Peer, sender: Peer) {
    this.#hosts = hosts;
    this.#forwarder = forwarder;
    this.#receiver = receiver;
    this.#sender = sender;
  }

  static async open({ by, offload, vhost = false }: Forwarder): Promise<ForwardStage> {
    const [near, far] = [host(), host()];
    const forwarder = by === 'C' ? inC(offload, near, far) : inNode(offload, vhost, near, far);
    await forwarder.ask('ready?');
    const address = `${ADDRESSES.far}.1`;
    const receiver = far.run(() => new Peer([compiled('stream'), 'receive', address, PORT]));
    await receiver.answer();
    const sender = near.run(() => new Peer([compiled('stream'), 'send', address, PORT]));
    return new ForwardStage([near, far], forwarder, receiver, sender);
  }

  /** Sends so many bytes through the forwarder. */
  async round(bytes: number): Promise<ForwardRound> {
    const before: ForwardTotals = await this.#forwarder.ask('totals?');
    const { nanoseconds } = await this.#sender.ask(`${bytes}`);
    const after: ForwardTotals = await this.#forwarder.ask('totals?');
    const perGigabyte = (cpu: number) => cpu / 1e6 / (bytes / 1e9);
    const thread = ({ thread, cpu }: ForwardTotals) => thread ?? cpu;
    return {
      gigabitsPerSecond: (bytes * 8) / nanoseconds,
      cpuPerGigabyte: perGigabyte(after.cpu - before.cpu),
      threadPerGigabyte: perGigabyte(thread(after) - thread(before)),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const peer of [this.#sender, this.#receiver, this.#forwarder]) await peer[Symbol.asyncDispose]();
    for (const netns of this.#hosts) netns.close();
  }
}

function host(): Netns {
  const netns = Netns.create();
  // No router solicitations between our packets.
  netns.run(() => writeFileSync('/proc/sys/net/ipv6/conf/default/disable_ipv6', '1'));
  return netns;
}

/** A C program that inherits two devices. */
function inC(offload: Offload, near: Netns, far: Netns): Peer {
  using a = TunSocket.open(tunOptions('near', near, offload));
  using b = TunSocket.open(tunOptions('far', far, offload));
  return new Peer([compiled('forward_loop')], [a.fd, b.fd]);
}

/** A Node process that opens its own, as a user's would. */
function inNode(offload: Offload, vhost: boolean, near: Netns, far: Netns): Peer {
  const path = (netns: Netns) => `/proc/${process.pid}/fd/${netns.fd}`;
  return new Peer([
    process.execPath,
    join(__dirname, 'forwarder.js'),
    offload,
    `${vhost}`,
    path(near),
    path(far),
  ]);
}
