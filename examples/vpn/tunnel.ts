/** One end of a tunnel with one peer: packets of a tun device go to the peer's in UDP datagrams, sealed. */
import {
  type DatagramAddress,
  decodeOffload,
  encodeOffload,
  type Netns,
  PacketBatch,
  TunSocket,
  UdpSocket,
} from 'tunsock';
import { FragmentReader, isWholeSuperpacket, joined } from './fragments';
import { Handshakes, type HandshakeTiming } from './handshakes';
import { lossReport, type Mode, ModeChoice } from './loss';
import { type KeyPair, TAG_BYTES } from './noise';
import { Outbox, Parts } from './outbox';
import {
  HEADER_BYTES,
  type Header,
  INITIATION,
  PACKET,
  REPORT,
  RESPONSE,
  readHeader,
  type Session,
  SUPERPACKET,
} from './session';

export interface TunnelOptions {
  /** The device: its name, and its address in the tunnel as CIDR. */
  name?: string;
  address: string;
  /** This side's static key, and the peer's public one. */
  key: KeyPair;
  peer: Buffer;
  /** Where to receive. */
  listen?: { address?: string; port?: number };
  /** Where the peer is at first; without it, this side waits for the peer to start. */
  endpoint?: { address: string; port: number };
  /** 'auto' is 'superpacket', but goes back to 'packet' while datagrams are lost. Default 'auto'. */
  mode?: Mode | 'auto';
  /** Told of another mode. */
  onMode?: (mode: Mode) => void;
  /** The longest packet on the way to the peer. Default 1500. */
  pathMtu?: number;
  /** The namespaces of the device and of the socket. Default: this one. */
  inner?: Netns;
  outer?: Netns;
  /** Milliseconds; for tests. */
  timing?: Partial<Timing>;
}

interface Timing extends HandshakeTiming {
  /** Silence is broken after so long, and after three times that the peer has lost its keys. */
  keepalive: number;
  /** How often each side tells the other what it has lost. */
  report: number;
  /** How long superpackets are left alone when they are first lost. */
  backOff: number;
}

const TIMING: Timing = {
  rekeyAfter: 120_000,
  rejectAfter: 180_000,
  retryAfter: 1_000,
  keepalive: 2_000,
  report: 250,
  backOff: 10_000,
};

/** IPv4, UDP, our header, the tag. */
const OVERHEAD = 20 + 8 + HEADER_BYTES + TAG_BYTES;
const VIRTIO_HEADER = 10;
/** The longest superpacket: with the headers of its fragments it is one UDP message, which can have 65507 bytes. */
const MAX_SUPERPACKET = 62_000;

/** What went wrong, by its kind. */
export interface Drops {
  /** No message of ours, or of keys that are not known (any more). */
  unknown: number;
  /** Not sealed by the peer, or changed on the way. */
  forged: number;
  replayed: number;
  /** From the peer, but no packet. */
  refused: number;
  /** From the device, before there were keys. */
  unsent: number;
}

export class Tunnel {
  readonly drops: Drops = { unknown: 0, forged: 0, replayed: 0, refused: 0, unsent: 0 };
  readonly #options: TunnelOptions;
  readonly #timing: Timing;
  readonly #udp: UdpSocket;
  readonly #handshakes: Handshakes;
  readonly #choice: ModeChoice;
  readonly #reader = new FragmentReader();
  readonly #outgoing = new Outbox((message, segmentSize) => this.#send(message, segmentSize));
  readonly #incoming = new PacketBatch({ capacity: 64, packetSize: 2048 });
  readonly #timers: NodeJS.Timeout[] = [];
  #tun: TunSocket;
  #mode: Mode;
  #endpoint: DatagramAddress | undefined;
  #lastSent = 0;
  #lastReceived = performance.now();
  #unanswered = false;

  constructor(options: TunnelOptions) {
    this.#options = options;
    this.#timing = { ...TIMING, ...options.timing };
    this.#handshakes = new Handshakes(options.key, options.peer, this.#timing);
    this.#choice = new ModeChoice(this.#timing.backOff);
    this.#mode = options.mode === 'packet' ? 'packet' : 'superpacket';
    // Several datagrams in one message, both ways.
    this.#udp = UdpSocket.open({
      ...options.listen,
      offload: 'raw',
      receiveBuffer: 8 << 20,
      sendBuffer: 8 << 20,
      ...(options.outer === undefined ? {} : { netns: options.outer }),
    });
    try {
      this.#tun = this.#openTun();
    } catch (error) {
      this.#udp.close();
      throw error;
    }
    if (options.endpoint !== undefined) this.#endpoint = { ...options.endpoint, family: 'IPv4' };
    this.#udp.on('batch', (batch) => {
      for (let index = 0; index < batch.length; index++) {
        const { from, segmentSize } = batch.info(index);
        if (from !== undefined) this.#onMessage(batch.at(index), from, segmentSize);
      }
      this.#flush();
    });
    const every = (period: number, task: () => void) => this.#timers.push(setInterval(task, period));
    every(Math.min(this.#timing.keepalive / 4, this.#timing.retryAfter / 2), () => this.#tick());
    every(this.#timing.report, () => this.#report());
    this.#initiate();
  }

  /** Where the peer can send to. */
  get address(): DatagramAddress {
    return this.#udp.address();
  }

  get name(): string {
    return this.#tun.name;
  }

  get mode(): Mode {
    return this.#mode;
  }

  /** Where the peer is. */
  get endpoint(): DatagramAddress | undefined {
    return this.#endpoint;
  }

  /** How many handshakes have ended well. */
  get handshakes(): number {
    return this.#handshakes.count;
  }

  close(): void {
    for (const timer of this.#timers) clearInterval(timer);
    this.#tun[Symbol.dispose]();
    this.#udp[Symbol.dispose]();
  }

  // The inner leg: the device.

  /**
   * 'raw' gives superpackets with their virtio headers; 'split' gives the same packets one by one. The device has several queues, so that
   * one can be opened in the other mode before this one is closed: the interface stays.
   */
  #openTun(): TunSocket {
    const { name, address, inner, pathMtu = 1500 } = this.#options;
    const tun = TunSocket.open({
      name: this.#tun?.name ?? name ?? 'vpn%d',
      multiQueue: true,
      offload: this.#mode === 'superpacket' ? 'raw' : 'split',
      address,
      mtu: pathMtu - OVERHEAD,
      txQueueLength: 1000,
      ...(inner === undefined ? {} : { netns: inner }),
    });
    tun.link.gsoMaxSize = MAX_SUPERPACKET;
    if (this.#mode === 'packet') tun.on('batch', (batch) => this.#sendPackets(batch));
    else tun.on('batch', (batch) => this.#sendSuperpackets(batch));
    return tun;
  }

  #setMode(mode: Mode): void {
    if (mode === this.#mode) return;
    this.#mode = mode;
    const old = this.#tun;
    this.#tun = this.#openTun();
    old.close();
    this.#options.onMode?.(mode);
  }

  #sendPackets(batch: PacketBatch): void {
    const session = this.#ready(batch.length);
    if (session === undefined) return;
    for (const packet of batch) this.#sealed(session, PACKET, [packet]);
    this.#outgoing.flush();
  }

  #sendSuperpackets(batch: PacketBatch): void {
    const session = this.#ready(batch.length);
    if (session === undefined) return;
    const payload = (this.#options.pathMtu ?? 1500) - OVERHEAD + TAG_BYTES;
    for (let index = 0; index < batch.length; index++) {
      const { offload } = batch.info(index);
      const virtio = encodeOffload(offload ?? {}).subarray(0, VIRTIO_HEADER);
      const { counter, sealed } = session.seal(SUPERPACKET, [virtio, batch.at(index)]);
      const parts = new Parts(sealed);
      const { receiver } = session;
      const fragments = Math.ceil(parts.length / payload);
      for (let fragment = 0; fragment < fragments; fragment++) {
        const header: Header = { type: SUPERPACKET, fragment, fragments, receiver, counter };
        this.#outgoing.push(header, parts, Math.min(payload, parts.length));
      }
      // A superpacket is one message; what is no longer than a datagram, acknowledgements say, goes together.
      if (fragments > 1) this.#outgoing.flush();
    }
    this.#outgoing.flush();
  }

  /** What to seal with; without it, asks for one. */
  #ready(packets: number): Session | undefined {
    const session = this.#handshakes.current;
    if (session === undefined || this.#endpoint === undefined) {
      this.drops.unsent += packets;
      this.#initiate();
      return undefined;
    }
    this.#unanswered = true;
    this.#lastSent = performance.now();
    return session;
  }

  /** A message that is one datagram. */
  #sealed(session: Session, type: number, parts: readonly Uint8Array[]): void {
    const { counter, sealed } = session.seal(type, parts);
    const message = new Parts(sealed);
    const header: Header = { type, fragment: 0, fragments: 1, receiver: session.receiver, counter };
    this.#outgoing.push(header, message, message.length);
  }

  /** A message with nothing of the device in it. */
  #sendSmall(type: number, data: Buffer): void {
    const session = this.#handshakes.current;
    if (session === undefined) return;
    this.#sealed(session, type, [data]);
    this.#outgoing.flush();
    this.#lastSent = performance.now();
  }

  #send(message: Buffer, segmentSize?: number): void {
    if (this.#endpoint === undefined) return;
    try {
      this.#udp.sendmsg(message, 0, { to: this.#endpoint, segmentSize });
    } catch {
      this.drops.refused += 1; // no route, say: the same as a loss
    }
  }

  // The outer leg: whatever anybody sends.

  #onMessage(message: Buffer, from: DatagramAddress, segmentSize = message.length): void {
    if (isWholeSuperpacket(message, segmentSize)) {
      const header = readHeader(message);
      const session = this.#sessionOf(header);
      if (session !== undefined) this.#open(session, header, joined(message, segmentSize), from);
      return;
    }
    // An empty message is one datagram too.
    for (let at = 0; at === 0 || at < message.length; at += Math.max(segmentSize, 1))
      this.#onDatagram(message.subarray(at, at + segmentSize), from);
  }

  #onDatagram(datagram: Buffer, from: DatagramAddress): void {
    const type = datagram.length < HEADER_BYTES ? undefined : datagram[0];
    if (type === PACKET || type === SUPERPACKET || type === REPORT) this.#onData(datagram, from);
    else if (type === INITIATION) this.#onInitiation(datagram, from);
    else if (type === RESPONSE) this.#onResponse(datagram, from);
    else this.drops.unknown += 1;
  }

  #onInitiation(datagram: Buffer, from: DatagramAddress): void {
    const answer = this.#handshakes.accept(datagram);
    if (typeof answer === 'string') {
      this.drops[answer] += 1;
      return;
    }
    this.#endpoint = from;
    this.#send(answer);
  }

  #onResponse(datagram: Buffer, from: DatagramAddress): void {
    const session = this.#handshakes.finish(datagram);
    if (typeof session === 'string') {
      this.drops[session] += 1;
      return;
    }
    this.#hear(session, from);
    // The other side may use the keys once it sees that this one has them.
    this.#sendSmall(PACKET, Buffer.alloc(0));
  }

  #onData(datagram: Buffer, from: DatagramAddress): void {
    const header = readHeader(datagram);
    const session = this.#sessionOf(header);
    if (session === undefined) return;
    const payload = datagram.subarray(HEADER_BYTES);
    const sealed = header.type === SUPERPACKET ? this.#reader.add(header, payload) : payload;
    if (sealed !== undefined) this.#open(session, header, sealed, from);
  }

  /** The session that a message is of, if it is new in it: before the message is opened, which costs more. */
  #sessionOf({ receiver, counter }: Header): Session | undefined {
    const session = this.#handshakes.find(receiver);
    if (session === undefined) this.drops.unknown += 1;
    else if (!session.window.isNew(counter)) this.drops.replayed += 1;
    else return session;
    return undefined;
  }

  #open(session: Session, header: Header, sealed: Buffer, from: DatagramAddress): void {
    const plain = session.open(header.type, header.counter, sealed);
    if (plain === undefined) {
      this.drops.forged += 1;
      return;
    }
    // It is the peer's: now the address is believed, and the keys that it uses are the ones to use.
    this.#hear(session, from);
    this.#deliver(header, plain);
  }

  #hear(session: Session, from: DatagramAddress): void {
    this.#endpoint = from;
    this.#lastReceived = performance.now();
    this.#unanswered = false;
    this.#handshakes.heard(session);
  }

  #deliver({ type }: Header, plain: Buffer): void {
    if (type === REPORT) this.#onReport(plain);
    else if (plain.length === 0) return;
    else if (type === PACKET) this.#pushPacket(plain);
    else this.#writeSuperpacket(plain);
  }

  #pushPacket(packet: Buffer): void {
    if (packet.length > this.#incoming.packetSize) {
      this.drops.refused += 1;
      return;
    }
    this.#incoming.push(packet);
    if (this.#incoming.length === this.#incoming.capacity) this.#flush();
  }

  #writeSuperpacket(plain: Buffer): void {
    this.#flush();
    try {
      const offload = decodeOffload(plain.subarray(0, VIRTIO_HEADER));
      this.#tun.sendmsg(plain.subarray(VIRTIO_HEADER), 0, { offload });
    } catch {
      this.drops.refused += 1;
    }
  }

  /** Hands packets to the device, but for those that it refuses. */
  #flush(): void {
    const batch = this.#incoming;
    for (let sent = 0; sent < batch.length; ) {
      try {
        sent += this.#tun.sendmmsg(batch, 0, sent);
      } catch {
        this.drops.refused += 1;
        sent += 1;
      }
    }
    batch.clear();
  }

  // What time brings.

  #initiate(): void {
    if (this.#endpoint === undefined) return;
    const message = this.#handshakes.initiate();
    if (message !== undefined) this.#send(message);
  }

  #tick(): void {
    const now = performance.now();
    const { keepalive } = this.#timing;
    const silent = this.#unanswered && now - this.#lastReceived > 3 * keepalive;
    if (this.#handshakes.expire() || silent) this.#initiate();
    if (now - this.#lastSent > keepalive) this.#sendSmall(PACKET, Buffer.alloc(0));
  }

  #report(): void {
    const report = lossReport(this.#handshakes.sessions);
    if (report !== undefined) this.#sendSmall(REPORT, report);
  }

  #onReport(report: Buffer): void {
    if ((this.#options.mode ?? 'auto') === 'auto') this.#setMode(this.#choice.heard(report));
  }
}
