/** Which keys are in use: made together with the peer, changed in time, and forgotten. */
import { randomBytes } from 'node:crypto';
import { accept, Initiator, initiationBytes, type KeyPair, RESPONSE_BYTES } from './noise';
import { INITIATION, RESPONSE, Session } from './session';

/** Milliseconds. */
export interface HandshakeTiming {
  /** Keys are used for so long; whoever made them makes new ones then. */
  rekeyAfter: number;
  /** And they are forgotten after so long. */
  rejectAfter: number;
  /** A handshake that has no answer is tried again. */
  retryAfter: number;
}

/** What is wrong with a message. */
export type Fault = 'unknown' | 'forged' | 'replayed';

const PAYLOAD = 8;
/** Handshakes a second that are looked at: they cost more than all else that a stranger can send. */
const MAX_A_SECOND = 50;
/** The newest, the one before, and one that the peer has not used yet. */
const MAX_SESSIONS = 3;

export class Handshakes {
  /** How many have ended well. */
  count = 0;
  readonly #key: KeyPair;
  readonly #peer: Buffer;
  readonly #timing: HandshakeTiming;
  /** By the number that the peer names them by. */
  readonly #sessions = new Map<number, Session>();
  #current: Session | undefined;
  #pending: { initiator: Initiator; index: number; since: number } | undefined;
  #newestInitiation = 0;
  #second = { since: 0, left: MAX_A_SECOND };

  constructor(key: KeyPair, peer: Buffer, timing: HandshakeTiming) {
    this.#key = key;
    this.#peer = peer;
    this.#timing = timing;
  }

  /** What to seal with. */
  get current(): Session | undefined {
    return this.#current;
  }

  get sessions(): Iterable<Session> {
    return this.#sessions.values();
  }

  find(index: number): Session | undefined {
    return this.#sessions.get(index);
  }

  /** The peer has sealed something with these keys: so it has them, and they are the ones to use. */
  heard(session: Session): void {
    if (this.#current === undefined || session.born > this.#current.born) this.#current = session;
  }

  /** Forgets what is too old; whether it is time for new keys. */
  expire(): boolean {
    const { rekeyAfter, rejectAfter } = this.#timing;
    for (const [index, session] of this.#sessions) {
      if (session.age > rejectAfter) this.#sessions.delete(index);
    }
    if (this.#current !== undefined && !this.#sessions.has(this.#current.index)) this.#current = undefined;
    return this.#current === undefined || (this.#current.initiated && this.#current.age > rekeyAfter);
  }

  /** The first message, unless one is on its way already. */
  initiate(): Buffer | undefined {
    const now = performance.now();
    if (this.#pending !== undefined && now - this.#pending.since < this.#timing.retryAfter) return undefined;
    const initiator = new Initiator(this.#key, this.#peer);
    const index = newIndex();
    this.#pending = { initiator, index, since: now };
    const payload = Buffer.alloc(PAYLOAD);
    payload.writeDoubleLE(performance.timeOrigin + now); // so that an old one can't be played again
    const head = Buffer.from([INITIATION, 0, 0, 0, 0, 0, 0, 0]);
    head.writeUInt32LE(index, 4);
    return Buffer.concat([head, initiator.initiation(payload)]);
  }

  /** Takes the peer's first message, and returns the second. */
  accept(datagram: Buffer): Buffer | Fault {
    if (datagram.length !== 8 + initiationBytes(PAYLOAD) || !this.#mayAccept()) return 'unknown';
    try {
      const { peer, payload, respond } = accept(this.#key, datagram.subarray(8));
      if (!peer.equals(this.#peer)) return 'forged';
      const time = payload.readDoubleLE(0);
      if (!(time > this.#newestInitiation)) return 'replayed';
      this.#newestInitiation = time;
      const index = newIndex();
      const receiver = datagram.readUInt32LE(4);
      const { message, keys } = respond();
      this.#add(new Session(keys, index, receiver, false));
      const head = Buffer.from([RESPONSE, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
      head.writeUInt32LE(receiver, 4);
      head.writeUInt32LE(index, 8);
      return Buffer.concat([head, message]);
    } catch {
      return 'forged';
    }
  }

  /** Takes the peer's answer, and returns the session that both have now. */
  finish(datagram: Buffer): Session | Fault {
    const pending = this.#pending;
    if (pending === undefined || datagram.length !== 12 + RESPONSE_BYTES) return 'unknown';
    if (datagram.readUInt32LE(4) !== pending.index) return 'unknown';
    // Whoever forged it has spoilt the state of this handshake; there will be another.
    this.#pending = undefined;
    try {
      const keys = pending.initiator.finish(datagram.subarray(12));
      const session = new Session(keys, pending.index, datagram.readUInt32LE(8), true);
      this.#add(session);
      return session;
    } catch {
      return 'forged';
    }
  }

  #mayAccept(): boolean {
    const now = performance.now();
    if (now - this.#second.since > 1000) this.#second = { since: now, left: MAX_A_SECOND };
    if (this.#second.left === 0) return false;
    this.#second.left -= 1;
    return true;
  }

  #add(session: Session): void {
    this.count += 1;
    this.#sessions.set(session.index, session);
    for (const [index, old] of this.#sessions) {
      if (this.#sessions.size <= MAX_SESSIONS) break;
      if (old !== this.#current) this.#sessions.delete(index);
    }
  }
}

function newIndex(): number {
  return randomBytes(4).readUInt32LE(0);
}
