import { join } from 'node:path';
import { constants, PacketBatch } from 'tunsock';
import { compiled } from './compiled';
import { type Device, type DeviceKind, openDevice } from './device';
import type { Operation, Round, Traffic } from './operation';
import { Peer } from './peer';

const CONTENDER_CORE = 0;
const TRAFFIC_CORE = 1;

/** What a round cost each of the two processes. */
export interface StagedRound {
  round: Awaited<ReturnType<Peer['ask']>>;
  traffic: Round | undefined;
}

/** The device that all sides use in turn, and the process behind it that sends and answers. */
export class Stage implements AsyncDisposable {
  readonly #device: Device;
  readonly #traffic: Peer;
  readonly #leftovers = new PacketBatch();

  constructor(kind: DeviceKind) {
    this.#device = openDevice(kind);
    const { traffic, trafficFd } = this.#device;
    const [program, ...args] = traffic;
    this.#traffic = new Peer([compiled(program), ...args], [trafficFd], TRAFFIC_CORE);
  }

  /** The process that does the operation otherwise; `threaded`, a C program that has a second thread, as Node's has several. */
  baseline(operation: Operation, size: number, threaded = false): Peer {
    if (typeof operation.baseline === 'function') return this.#node(operation, size, [], ['baseline']);
    const packet = this.#device.packetOf(size).toString('hex');
    const command = [compiled(operation.baseline), packet, ...(threaded ? ['threaded'] : [])];
    return new Peer(command, [this.#device.socket.fd], CONTENDER_CORE);
  }

  /** The Node process that does the operation with tunsock. */
  contender(operation: Operation, size: number, nodeFlags: readonly string[] = []): Peer {
    return this.#node(operation, size, nodeFlags, []);
  }

  /** Lets `peer` do a round of an operation with packets of `size` bytes, with the traffic that this needs. */
  async round(
    peer: Peer,
    traffic: Traffic,
    { packets, spare = 0 }: Pick<Operation, 'packets' | 'spare'>,
    size: number,
  ): Promise<StagedRound> {
    this.#discardLeftovers();
    switch (traffic) {
      case 'none':
        return { round: await peer.ask(`${packets}`), traffic: undefined };
      case 'queued':
        await this.#traffic.ask(`burst ${packets + spare} ${size}`);
        return { round: await peer.ask(`${packets}`), traffic: undefined };
      case 'flood': {
        const flood = this.#traffic.ask(`flood ${size}`);
        const round = await peer.ask(`${packets}`);
        this.#traffic.tell('stop');
        return { round, traffic: await flood };
      }
      case 'ping': {
        const answered = peer.ask(`${packets}`);
        const sent = await this.#traffic.ask(`ping ${packets} ${size}`);
        return { round: { ...(await answered), nanoseconds: sent.nanoseconds }, traffic: sent };
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#traffic[Symbol.asyncDispose]();
    this.#device[Symbol.dispose]();
  }

  #node(operation: Operation, size: number, flags: readonly string[], side: readonly string[]): Peer {
    const script = join(__dirname, 'contender.js');
    const packet = this.#device.packetOf(size).toString('hex');
    const command = [process.execPath, ...flags, script, operation.name, packet, ...side];
    return new Peer(command, [this.#device.socket.fd], CONTENDER_CORE);
  }

  #discardLeftovers(): void {
    while (this.#device.socket.recvmmsg(this.#leftovers, constants.MSG_DONTWAIT) > 0);
  }
}
