import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { constants, PacketBatch, TunSocket } from 'tunsock';
import type { Operation, Round, Traffic } from './operation';
import { Peer } from './peer';

const ROOT = join(__dirname, '..', '..', '..');
const BUILT = join(ROOT, 'build', 'bench', 'baseline');
/** Longer than any round that is queued beforehand. */
const QUEUE_PACKETS = 16_384;
const CONTENDER_CORE = 0;
const TRAFFIC_CORE = 1;

/** What a round cost each of the two processes. */
export interface StagedRound {
  round: Awaited<ReturnType<Peer['ask']>>;
  traffic: Round | undefined;
}

/** The device that all sides use in turn, and the process behind it that sends and answers. */
export class Stage implements AsyncDisposable {
  readonly #tun: TunSocket;
  readonly #traffic: Peer;
  readonly #leftovers = new PacketBatch();

  constructor(tunOptions: { napi?: boolean } = {}) {
    // No router solicitations between our packets.
    writeFileSync('/proc/sys/net/ipv6/conf/default/disable_ipv6', '1');
    this.#tun = TunSocket.open({
      ...tunOptions,
      name: 'bench0',
      address: '10.7.0.1/24',
      txQueueLength: QUEUE_PACKETS,
    });
    this.#traffic = new Peer([compiled('traffic')], this.#tun.fd, TRAFFIC_CORE);
  }

  /** The C program that does the operation; `threaded`, in a process that has a second thread, as Node's has several. */
  baseline(operation: Operation, size: number, threaded = false): Peer {
    const command = [
      compiled(operation.baseline),
      packetFor(size).toString('hex'),
      ...(threaded ? ['threaded'] : []),
    ];
    return new Peer(command, this.#tun.fd, CONTENDER_CORE);
  }

  /** The Node process that does the operation. */
  contender(operation: Operation, size: number, nodeFlags: readonly string[] = []): Peer {
    const script = join(__dirname, 'contender.js');
    const packet = packetFor(size).toString('hex');
    return new Peer(
      [process.execPath, ...nodeFlags, script, operation.name, packet],
      this.#tun.fd,
      CONTENDER_CORE,
    );
  }

  /** Lets `peer` do a round of `packets` packets of `size` bytes, with the traffic that this needs. */
  async round(peer: Peer, traffic: Traffic, packets: number, size: number): Promise<StagedRound> {
    this.#discardLeftovers();
    switch (traffic) {
      case 'none':
        return { round: await peer.ask(`${packets}`), traffic: undefined };
      case 'queued':
        await this.#traffic.ask(`burst ${packets} ${size}`);
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
    this.#tun.close();
  }

  #discardLeftovers(): void {
    while (this.#tun.recvmmsg(this.#leftovers, constants.MSG_DONTWAIT) > 0);
  }
}

/** Paths of what was compiled, by name. */
const programs = new Map<string, string>();

/** Compiles a program of bench/baseline, once; returns its path. */
function compiled(name: string): string {
  const known = programs.get(name);
  if (known !== undefined) return known;
  mkdirSync(BUILT, { recursive: true });
  const program = join(BUILT, name);
  const source = join(ROOT, 'bench', 'baseline', `${name}.c`);
  execFileSync(process.env.CC ?? 'cc', ['-O2', '-Wall', '-Wextra', '-pthread', '-o', program, source], {
    stdio: 'inherit',
  });
  programs.set(name, program);
  return program;
}

/** A UDP packet of `size` bytes from behind the device to a port of the host that nobody reads. */
function packetFor(size: number): Buffer {
  const packet = Buffer.alloc(size);
  if (size === 0) return packet;
  packet.set([0x45, 0, size >> 8, size & 0xff, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 7, 0, 2, 10, 7, 0, 1]);
  let sum = 0;
  for (let at = 0; at < 20; at += 2) sum += packet.readUInt16BE(at);
  packet.writeUInt16BE(~(sum + (sum >> 16)) & 0xffff, 10);
  packet.writeUInt16BE(7, 20);
  packet.writeUInt16BE(9, 22);
  packet.writeUInt16BE(size - 20, 24); // its checksum stays 0: none
  return packet;
}
