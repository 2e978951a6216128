/** One end of a tunnel with one peer: packets of a tun device go to the peer's in UDP datagrams, sealed. */
import { randomBytes } from 'node:crypto';
import {
  type DatagramAddress,
  decodeOffload,
  encodeOffload,
  type Netns,
  PacketBatch,
  TunSocket,
  UdpSocket,
} from 'tunsock';
import { FragmentReader, FragmentWriter } from './fragments';
import { accept, Initiator, initiationBytes, type KeyPair, RESPONSE_BYTES, TAG_BYTES } from './noise';
import {
  HEADER_BYTES,
  type Header,
  INITIATION,
  PACKET,
  REPORT,
  RESPONSE,
  readHeader,
  Session,
  SUPERPACKET,
  writeHeader,
} from './session';

export type Mode = 'packet' | 'superpacket';

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
  /** 'superpacket' goes back to 'packet' by itself where it loses. Default 'superpacket'. */
  mode?: Mode;
  /** The longest packet on the way to the peer. Default 1500. */
  pathMtu?: number;
  /** The namespaces of the device and of the socket. Default: this one. */
  inner?: Netns;
  outer?: Netns;
  /** Milliseconds; for tests. */
  timing?: Partial<typeof TIMING>;
}

const TIMING = {
  /** Keys are used for so long; whoever made them makes new ones then. */
  rekeyAfter: 120_000,
  /** And they are forgotten after so long. */
  rejectAfter: 180_000,
  /** A handshake that has no answer is tried again. */
  retryAfter: 1_000,
  /** Silence is broken after so long, and after three times that the peer has lost its keys. */
  keepalive: 2_000,
  /** How often each side tells the other what it has lost. */
  report: 250,
  /** How long a mode that lost is left alone; each time twice as long, up to sixteen times. */
  backOff: 10_000,
};

/** IPv4, UDP, our header, the tag. */
const OVERHEAD = 20 + 8 + HEADER_BYTES + TAG_BYTES;
const VIRTIO_HEADER = 10;
const INITIATION_PAYLOAD = 8;
/** Handshakes a second that are looked at: they cost more than all else that a stranger can send. */
const MAX_HANDSHAKES = 50;
/** Of a hundred superpackets. */
const MAX_LOSS_PERCENT = 2;

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
  handshakes = 0;
  readonly #options: TunnelOptions;
  readonly #timing: typeof TIMING;
  readonly #udp: UdpSocket;
  readonly #datagram: number;
  readonly #writer = new FragmentWriter();
  readonly #reader = new FragmentReader();
  readonly #outgoing = new PacketBatch({ capacity: 64, packetSize: 2048 });
  readonly #incoming = new PacketBatch({ capacity: 64, packetSize: 2048 });
  readonly #room = Buffer.alloc(2048);
  readonly #timers: NodeJS.Timeout[] = [];
  /** By the number that the peer names them by: the newest, the one before, and one that the peer has not used yet. */
  readonly #sessions = new Map<number, Session>();
  #tun: TunSocket;
  #mode: Mode;
  #current: Session | undefined;
  #pending: { initiator: Initiator; index: number; since: number } | undefined;
  #endpoint: DatagramAddress | undefined;
  #newestInitiation = 0;
  #handshakesLeft = MAX_HANDSHAKES;
  #lastSent = 0;
  #lastReceived = performance.now();
  #unanswered = false;
  #blocked = { until: 0, times: 0 };

  constructor(options: TunnelOptions) {
    this.#options = options;
    this.#timing = { ...TIMING, ...options.timing };
    this.#datagram = (options.pathMtu ?? 1500) - 28;
    this.#mode = options.mode ?? 'superpacket';
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
    this.#udp.on('message', (data, info) =>
      this.#onMessage(data, info.segmentSize ?? data.length, info.from),
    );
    const every = (period: number, task: () => void) => this.#timers.push(setInterval(task, period));
    every(Math.min(this.#timing.keepalive / 4, this.#timing.retryAfter / 2), () => this.#tick());
    every(this.#timing.report, () => this.#report());
    every(1000, () => {
      this.#handshakesLeft = MAX_HANDSHAKES;
    });
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
  }

  #sendPackets(batch: PacketBatch): void {
    const session = this.#ready(batch.length);
    if (session === undefined) return;
    for (const packet of batch) {
      const { counter, sealed } = session.seal(PACKET, [packet]);
      this.#header(PACKET, session, counter);
      this.#outgoing.push([this.#room.subarray(0, HEADER_BYTES), ...sealed], { to: this.#endpoint });
      if (this.#outgoing.length === this.#outgoing.capacity) this.#flush(this.#outgoing, this.#udp);
    }
    this.#flush(this.#outgoing, this.#udp);
  }

  #sendSuperpackets(batch: PacketBatch): void {
    const session = this.#ready(batch.length);
    if (session === undefined) return;
    for (let index = 0; index < batch.length; index++) {
      const { offload } = batch.info(index);
      const header = encodeOffload(offload ?? {}).subarray(0, VIRTIO_HEADER);
      const { counter, sealed } = session.seal(SUPERPACKET, [header, batch.at(index)]);
      for (const { bytes, segmentSize } of this.#writer.runs(
        sealed,
        this.#datagram,
        session.receiver,
        counter,
      )) {
        this.#send(bytes, bytes.length > segmentSize ? segmentSize : undefined);
      }
    }
  }

  /** What to seal with; without it, asks for one. */
  #ready(packets: number): Session | undefined {
    const session = this.#current;
    if (session === undefined || this.#endpoint === undefined) {
      this.drops.unsent += packets;
      this.#initiate();
      return undefined;
    }
    this.#unanswered = true;
    this.#lastSent = performance.now();
    return session;
  }

  #header(type: number, { receiver }: Session, counter: number): void {
    writeHeader(this.#room, 0, { type, fragment: 0, fragments: 1, receiver, counter });
  }

  /** Sends a batch, but for packets that are refused. */
  #flush(batch: PacketBatch, socket: UdpSocket | TunSocket): void {
    for (let sent = 0; sent < batch.length; ) {
      try {
        sent += socket.sendmmsg(batch, 0, sent);
      } catch {
        this.drops.refused += 1;
        sent += 1;
      }
    }
    batch.clear();
  }

  #send(data: Uint8Array | readonly Uint8Array[], segmentSize?: number): void {
    if (this.#endpoint === undefined) return;
    try {
      this.#udp.sendmsg(data, 0, { to: this.#endpoint, segmentSize });
    } catch {
      this.drops.refused += 1; // no route, say: the same as a loss
    }
  }

  /** A message with nothing of the device in it. */
  #sendSmall(type: number, data: Buffer): void {
    const session = this.#current;
    if (session === undefined) return;
    const { counter, sealed } = session.seal(type, [data]);
    this.#header(type, session, counter);
    this.#send([this.#room.subarray(0, HEADER_BYTES), ...sealed]);
    this.#lastSent = performance.now();
  }

  // The outer leg: whatever anybody sends.

  #onMessage(data: Buffer, segmentSize: number, from: DatagramAddress): void {
    for (let at = 0; at < data.length; at += segmentSize) {
      this.#onDatagram(data.subarray(at, at + segmentSize), from);
    }
    this.#flush(this.#incoming, this.#tun);
  }

  #onDatagram(datagram: Buffer, from: DatagramAddress): void {
    if (datagram.length < HEADER_BYTES) {
      this.drops.unknown += 1;
      return;
    }
    const type = datagram[0];
    if (type === PACKET || type === SUPERPACKET || type === REPORT) this.#onData(datagram, from);
    else if (type === INITIATION) this.#onInitiation(datagram, from);
    else if (type === RESPONSE) this.#onResponse(datagram, from);
    else this.drops.unknown += 1;
  }

  #onData(datagram: Buffer, from: DatagramAddress): void {
    const header = readHeader(datagram);
    const session = this.#sessions.get(header.receiver);
    if (session === undefined) {
      this.drops.unknown += 1;
      return;
    }
    if (!session.window.isNew(header.counter)) {
      this.drops.replayed += 1;
      return;
    }
    const payload = datagram.subarray(HEADER_BYTES);
    const sealed = header.type === SUPERPACKET ? this.#reader.add(header, payload) : payload;
    if (sealed === undefined) return;
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
    if (this.#current === undefined || session.born > this.#current.born) this.#current = session;
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
    if (this.#incoming.length === this.#incoming.capacity) this.#flush(this.#incoming, this.#tun);
  }

  #writeSuperpacket(plain: Buffer): void {
    this.#flush(this.#incoming, this.#tun);
    try {
      const offload = decodeOffload(plain.subarray(0, VIRTIO_HEADER));
      this.#tun.sendmsg(plain.subarray(VIRTIO_HEADER), 0, { offload });
    } catch {
      this.drops.refused += 1;
    }
  }

  // Keys.

  #newIndex(): number {
    return randomBytes(4).readUInt32LE(0);
  }

  #initiate(): void {
    const now = performance.now();
    if (this.#endpoint === undefined) return;
    if (this.#pending !== undefined && now - this.#pending.since < this.#timing.retryAfter) return;
    const initiator = new Initiator(this.#options.key, this.#options.peer);
    const index = this.#newIndex();
    this.#pending = { initiator, index, since: now };
    const payload = Buffer.alloc(INITIATION_PAYLOAD);
    payload.writeDoubleLE(performance.timeOrigin + now); // so that an old one can't be played again
    const head = Buffer.from([INITIATION, 0, 0, 0, 0, 0, 0, 0]);
    head.writeUInt32LE(index, 4);
    this.#send(Buffer.concat([head, initiator.initiation(payload)]));
  }

  #onInitiation(datagram: Buffer, from: DatagramAddress): void {
    if (datagram.length !== 8 + initiationBytes(INITIATION_PAYLOAD) || this.#handshakesLeft === 0) {
      this.drops.unknown += 1;
      return;
    }
    this.#handshakesLeft -= 1;
    try {
      const { peer, payload, respond } = accept(this.#options.key, datagram.subarray(8));
      if (!peer.equals(this.#options.peer)) throw new Error('a stranger');
      const time = payload.readDoubleLE(0);
      if (!(time > this.#newestInitiation)) {
        this.drops.replayed += 1;
        return;
      }
      this.#newestInitiation = time;
      const index = this.#newIndex();
      const receiver = datagram.readUInt32LE(4);
      const { message, keys } = respond();
      this.#add(new Session(keys, index, receiver, false));
      this.#endpoint = from;
      const head = Buffer.from([RESPONSE, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
      head.writeUInt32LE(receiver, 4);
      head.writeUInt32LE(index, 8);
      this.#send(Buffer.concat([head, message]));
    } catch {
      this.drops.forged += 1;
    }
  }

  #onResponse(datagram: Buffer, from: DatagramAddress): void {
    const pending = this.#pending;
    if (
      pending === undefined ||
      datagram.length !== 12 + RESPONSE_BYTES ||
      datagram.readUInt32LE(4) !== pending.index
    ) {
      this.drops.unknown += 1;
      return;
    }
    try {
      const keys = pending.initiator.finish(datagram.subarray(12));
      this.#pending = undefined;
      const session = new Session(keys, pending.index, datagram.readUInt32LE(8), true);
      this.#add(session);
      this.#hear(session, from);
      // The other side may use the keys once it sees that this one has them.
      this.#sendSmall(PACKET, Buffer.alloc(0));
    } catch {
      // Whoever forged it has spoilt the state of this handshake; there will be another.
      this.#pending = undefined;
      this.drops.forged += 1;
    }
  }

  #add(session: Session): void {
    this.handshakes += 1;
    this.#sessions.set(session.index, session);
    for (const [index, old] of this.#sessions) {
      if (this.#sessions.size <= 3) break;
      if (old !== this.#current) this.#sessions.delete(index);
    }
  }

  #tick(): void {
    const { rekeyAfter, rejectAfter, keepalive } = this.#timing;
    const now = performance.now();
    for (const [index, session] of this.#sessions) {
      if (session.age > rejectAfter) this.#sessions.delete(index);
    }
    const session = this.#current;
    if (session !== undefined && !this.#sessions.has(session.index)) this.#current = undefined;
    const old = session?.initiated === true && session.age > rekeyAfter;
    const silent = this.#unanswered && now - this.#lastReceived > 3 * keepalive;
    if (this.#current === undefined || old || silent) this.#initiate();
    if (now - this.#lastSent > keepalive) this.#sendSmall(PACKET, Buffer.alloc(0));
  }

  // Loss.

  /** Tells how many of the peer's messages have come, of how many that were sent. */
  #report(): void {
    let sent = 0;
    let came = 0;
    // The peer may use other keys than this side does.
    for (const { window, opened, told } of this.#sessions.values()) {
      sent += window.highest - told.highest;
      came += opened - told.opened;
    }
    if (sent < 20) return;
    for (const session of this.#sessions.values()) {
      session.told = { highest: session.window.highest, opened: session.opened };
    }
    const report = Buffer.alloc(8);
    report.writeUInt32LE(sent, 0);
    report.writeUInt32LE(Math.min(came, sent), 4);
    this.#sendSmall(REPORT, report);
  }

  #onReport(report: Buffer): void {
    if (report.length !== 8 || this.#options.mode === 'packet') return;
    const sent = report.readUInt32LE(0);
    const lost = sent - report.readUInt32LE(4);
    const now = performance.now();
    if (this.#mode === 'superpacket') {
      if (lost * 100 <= sent * MAX_LOSS_PERCENT) return;
      // One datagram of forty takes the superpacket with it.
      this.#blocked.until = now + this.#timing.backOff * 2 ** Math.min(this.#blocked.times, 4);
      this.#blocked.times += 1;
      this.#setMode('packet');
    } else if (now > this.#blocked.until && lost * 2000 <= sent) {
      this.#setMode('superpacket');
    }
  }
}
