import {
  constants,
  Link,
  type MessageSocket,
  type OffloadMode,
  PacketBatch,
  type PacketSendOptions,
  PacketSocket,
  TunSocket,
  UdpSocket,
} from '../../dist';
import type { Scenario } from './fault-scenarios';
import type { Fault } from './faults';
import { ethernetFrame, udpPacket } from './packets';

const { MSG_DONTWAIT } = constants;
const MAGIC = 0x7475_6e73;
/** Bytes of one numbered payload: where packets were merged, there are several of them in one. */
const BLOCK = 64;
const EXPERIMENTAL = 0x88b5;

/** One of two sockets that packets go between. */
interface End {
  socket: MessageSocket;
  /** What this end sends to have the other receive a payload. */
  packet(payload: Buffer): Buffer;
  options?: PacketSendOptions;
  /** Bytes before the payload in what it receives. */
  header: number;
}

/** Packets of one direction. */
class Flow {
  readonly #from: End;
  readonly #to: End;
  #next = 0;
  /** Numbers of those whose sending the library called a success, and of those that came. */
  #sent: number[] = [];
  #came: number[] = [];
  #told = 0;
  #before = 0;

  constructor(from: End, to: End) {
    this.#from = from;
    this.#to = to;
  }

  begin(): void {
    this.#sent = [];
    this.#came = [];
    this.#told = 0;
    this.#before = this.#counted();
  }

  #packet(length = BLOCK): Buffer {
    const payload = Buffer.alloc(length);
    payload.writeUInt32BE(MAGIC);
    payload.writeUInt32BE(this.#next++, 4);
    return this.#from.packet(payload);
  }

  /** Of two lengths, so that datagrams are two messages. */
  #batch(count: number): PacketBatch {
    const batch = new PacketBatch({ capacity: count });
    for (let n = 0; n < count; n++) {
      batch.push(this.#packet(n < count / 2 ? BLOCK : 2 * BLOCK), this.#from.options);
    }
    return batch;
  }

  /** Each of the calls that wait. */
  sends(): void {
    const { socket, options } = this.#from;
    for (const cut of [undefined, 10]) {
      const packet = this.#packet();
      const id = this.#next - 1;
      const data = cut === undefined ? packet : [packet.subarray(0, cut), packet.subarray(cut)];
      this.#told += told(() => {
        socket.sendmsg(data, 0, options);
        this.#sent.push(id);
      });
    }
    const batch = this.#batch(4);
    const first = this.#next - 4;
    for (let done = 0; done < 4; ) {
      const error = told(() => {
        const count = socket.sendmmsg(batch, 0, done);
        for (let n = 0; n < count; n++) this.#sent.push(first + done + n);
        done += count;
      });
      this.#told += error;
      if (error > 0) break;
    }
  }

  /** Each of the calls that wait, and then what is left. */
  receives(): void {
    const { socket } = this.#to;
    const memory = Buffer.alloc(2000);
    // Into much room a tun device's packets are read in another way.
    const large = Buffer.alloc(20_000);
    const batch = new PacketBatch({ capacity: 2 });
    // Nothing is queued for long: 'receiveTimeout' ends it.
    this.#told += told(() => {
      this.take(memory.subarray(0, socket.recvmsg(memory).bytes));
    });
    this.#told += told(() => {
      const { bytes } = socket.recvmsg([large.subarray(0, 20), large.subarray(20)], MSG_DONTWAIT);
      this.take(large.subarray(0, bytes));
    });
    for (let quiet = 0; quiet < 2; ) {
      let count = 0;
      this.#told += told(() => {
        count = socket.recvmmsg(batch, MSG_DONTWAIT);
        for (const packet of batch) this.take(packet);
      });
      quiet = count === 0 ? quiet + 1 : 0;
    }
  }

  /** The same by the calls and events that don't wait. */
  async passes(): Promise<void> {
    const sender = this.#from.socket;
    const receiver = this.#to.socket;
    const onMessage = (packet: Buffer) => this.take(packet);
    const onBatch = (batch: PacketBatch) => {
      for (const packet of batch) this.take(packet);
    };
    for (const [event, listener] of [
      ['message', onMessage],
      ['batch', onBatch],
    ] as const) {
      receiver.on(event as 'message', listener as typeof onMessage);
      const sends = Array.from({ length: 3 }, () => {
        const packet = this.#packet();
        const id = this.#next - 1;
        return new Promise<void>((resolve) => {
          sender.send(packet, this.#from.options ?? {}, (error) => {
            if (error == null) this.#sent.push(id);
            else
              this.#told += told(() => {
                throw error;
              });
            resolve();
          });
        });
      });
      await Promise.all(sends);
      const batch = this.#batch(4);
      const first = this.#next - 4;
      // What of a batch was sent before it failed is not known by its promise; by what comes it is.
      await sender.sendBatch(batch).then(
        () => this.#sent.push(first, first + 1, first + 2, first + 3),
        (error) => {
          this.#told += told(() => {
            throw error;
          });
        },
      );
      // What doesn't come as an event is looked for in the end.
      for (let turn = 0; turn < 20 && this.#came.length < this.#sent.length; turn++)
        await new Promise((resolve) => setTimeout(resolve, 1));
      receiver.off(event as 'message', listener as typeof onMessage);
    }
  }

  take(packet: Buffer): void {
    for (let at = this.#to.header; at + BLOCK <= packet.length; at += BLOCK)
      if (packet.readUInt32BE(at) === MAGIC) this.#came.push(packet.readUInt32BE(at + 4));
  }

  #counted(): number {
    const { received } = this.#to.socket.stats();
    return received.errors + received.truncated + (received.dropped ?? 0);
  }

  /** Throws where a packet that was sent neither came nor is counted, came twice, or came late. */
  check(fault: Fault): void {
    this.receives();
    const came = new Set(this.#came);
    if (came.size < this.#came.length) throw new Error(`packets came twice: ${this.#came}`);
    if (this.#came.some((id, n) => n > 0 && id < (this.#came[n - 1] as number)))
      throw new Error(`packets came out of order: ${this.#came}`);
    const lost = this.#sent.filter((id) => !came.has(id));
    // A read that gives less of a packet than there is can't be seen as such: no kernel does that.
    if (fault !== 'short' && lost.length > this.#counted() - this.#before)
      throw new Error(`packets are lost, and nobody counted them: ${lost} of ${this.#sent}`);
  }
}

/** Calls; 1 when it threw something typed, which for a receive may be that there is nothing. */
function told(call: () => void): number {
  try {
    call();
    return 0;
  } catch (error) {
    assertTyped(error);
    return 1;
  }
}

/** What the library throws has a code, and what the system refused the call that refused it. */
export function assertTyped(error: unknown): void {
  const { code, syscall } = error as NodeJS.ErrnoException;
  const fromSystem = typeof code === 'string' && /^E[A-Z0-9]+$/.test(code) && typeof syscall === 'string';
  const own = typeof code === 'string' && /^(ERR_[A-Z_]+|ABORT_ERR)$/.test(code);
  if (!(error instanceof Error) || !(fromSystem || own)) throw error;
}

function between(open: () => [End, End], pass: (flow: Flow) => void | Promise<void>): Scenario {
  let ends: [End, End];
  let flows: Flow[] = [];
  let errors = 0;
  const prepare = () => {
    ends = open();
    for (const { socket } of ends) {
      socket.on('error', (error) => {
        errors++;
        assertTyped(error);
      });
    }
    const [one, other] = ends;
    flows = [new Flow(one, other), new Flow(other, one)];
  };
  const end = async () => {
    for (const { socket } of ends) await socket[Symbol.asyncDispose]();
  };
  return {
    prepare,
    async run() {
      errors = 0;
      for (const flow of flows) flow.begin();
      for (const flow of flows) await pass(flow);
    },
    async check(fault) {
      if (!ends.some(({ socket }) => socket.closed)) {
        for (const flow of flows) flow.check(fault);
        return;
      }
      // The end of a socket is told, and what was on its way to it ends with it.
      if (errors === 0) throw new Error('a socket has closed, and nobody was told why');
      await end();
      prepare();
    },
    end,
  };
}

/** A program on the host, and one that is the network. */
function tunAndUdp(name: string, mode: 'tun' | 'tap', offload: OffloadMode) {
  return (): [End, End] => {
    const device = TunSocket.open({ name, mode, offload, address: '10.0.3.1/24', receiveTimeout: 1 });
    const udp = UdpSocket.open({ address: '10.0.3.1', offload, receiveTimeout: 1 });
    const { port } = udp.address();
    const mac = mode === 'tap' ? Buffer.from(device.link.mac.replaceAll(':', ''), 'hex') : Buffer.alloc(6);
    if (mode === 'tap') device.link.addNeighbour('10.0.3.2', '02:00:00:00:00:02');
    const framed = (packet: Buffer) =>
      mode === 'tap' ? ethernetFrame(mac, Buffer.from([2, 0, 0, 0, 0, 2]), 0x0800, packet) : packet;
    return [
      {
        socket: device,
        packet: (payload) => framed(udpPacket(['10.0.3.2', 9], ['10.0.3.1', port], payload)),
        header: (mode === 'tap' ? 14 : 0) + 28,
      },
      {
        socket: udp,
        packet: (payload) => payload,
        options: { to: { address: '10.0.3.2', port: 9 } },
        header: 0,
      },
    ];
  };
}

const IFF_RUNNING = 0x40;
const sleeper = new Int32Array(new SharedArrayBuffer(4));

/** A link that was brought up has no queue before the kernel's work on its carrier is done; what is sent until then is gone. */
function waitUntilRunning(link: Link): void {
  for (let tries = 0; (Link.get(link.name).flags & IFF_RUNNING) === 0; tries++) {
    if (tries === 10_000) throw new Error(`${link.name} does not run`);
    Atomics.wait(sleeper, 0, 0, 1);
  }
}

function packetPair(name: string, offload: OffloadMode) {
  return (): [End, End] => {
    for (const link of Link.list()) if (link.name === `${name}a`) link.delete();
    Link.create({
      type: 'veth',
      name: `${name}a`,
      peer: { name: `${name}b` },
      addressGeneration: 'none',
      up: true,
    });
    const links = [`${name}a`, `${name}b`].map((end) => Link.get(end));
    for (const link of links) {
      link.addressGeneration = 'none';
      link.up();
    }
    links.forEach(waitUntilRunning);
    const [one, other] = links.map(({ name: end }): End => {
      const socket = PacketSocket.open({
        ...{ interface: end, protocol: EXPERIMENTAL, offload, ignoreOutgoing: true, receiveTimeout: 1 },
      });
      const packet = (payload: Buffer) =>
        ethernetFrame(Buffer.alloc(6, 0xff), Buffer.from([2, 0, 0, 0, 0, 3]), EXPERIMENTAL, payload);
      return { socket, packet, header: 14 };
    }) as [End, End];
    return [one, other];
  };
}

const waits = (flow: Flow) => {
  flow.sends();
  flow.receives();
};
const events = (flow: Flow) => flow.passes();

/** Packets that go both ways between two sockets that stay: none is lost that nobody counts. */
export const traffic: Record<string, Scenario> = Object.fromEntries(
  (['none', 'split', 'raw'] as const).flatMap((offload, n) =>
    [
      ['tun and UDP', tunAndUdp(`u${n}`, 'tun', offload)] as const,
      ['tap and UDP', tunAndUdp(`p${n}`, 'tap', offload)] as const,
      ['packet sockets', packetPair(`k${n}`, offload)] as const,
    ].flatMap(([ends, open]) => [
      [`${ends}, offload ${offload}, calls that wait`, between(open, waits)],
      [`${ends}, offload ${offload}, events`, between(open, events)],
    ]),
  ),
);
