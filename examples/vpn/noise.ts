/**
 * Noise_IK_25519_ChaChaPoly_SHA256 (https://noiseprotocol.org, revision 34): two messages after which both sides have keys that nobody else
 * has, and each knows the other's static key. The names are those of the specification.
 */
import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  hkdfSync,
  type KeyObject,
} from 'node:crypto';

const NAME = 'Noise_IK_25519_ChaChaPoly_SHA256';
/** So that a handshake of another program, or of another version of this one, is none of this one. */
const PROLOGUE = Buffer.from('tunsock example vpn 1');

export const KEY_BYTES = 32;
export const TAG_BYTES = 16;

/** A static or ephemeral key with its public half as it goes over the wire. */
export interface KeyPair {
  privateKey: KeyObject;
  publicKey: Buffer;
}

export function generateKeyPair(): KeyPair {
  const { privateKey } = generateKeyPairSync('x25519');
  return { privateKey, publicKey: rawPublicKey(privateKey) };
}

/** From 32 bytes in base64, as exportPrivateKey() gives them. */
export function importPrivateKey(base64: string): KeyPair {
  const der = Buffer.concat([
    Buffer.from('302e020100300506032b656e04220420', 'hex'),
    Buffer.from(base64, 'base64'),
  ]);
  const privateKey = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
  return { privateKey, publicKey: rawPublicKey(privateKey) };
}

export function exportPrivateKey({ privateKey }: KeyPair): string {
  return privateKey.export({ format: 'der', type: 'pkcs8' }).subarray(-KEY_BYTES).toString('base64');
}

function rawPublicKey(privateKey: KeyObject): Buffer {
  return createPublicKey(privateKey).export({ format: 'der', type: 'spki' }).subarray(-KEY_BYTES);
}

function dh({ privateKey }: KeyPair, publicKey: Buffer): Buffer {
  const der = Buffer.concat([Buffer.from('302a300506032b656e032100', 'hex'), publicKey]);
  // Throws for a public key of low order, with which the result would be known to everybody.
  return diffieHellman({ privateKey, publicKey: createPublicKey({ key: der, format: 'der', type: 'spki' }) });
}

/** The 12 bytes before a counter's 8: `domain` keeps what is of one kind from being taken for another. */
export function nonceOf(counter: number, domain = 0): Buffer {
  const nonce = Buffer.alloc(12);
  nonce.writeUInt32LE(domain, 0);
  nonce.writeUInt32LE(counter >>> 0, 4);
  nonce.writeUInt32LE(Math.floor(counter / 2 ** 32), 8);
  return nonce;
}

/** CipherState and SymmetricState. */
class Symmetric {
  #h: Buffer;
  #ck: Buffer;
  #k: Buffer = Buffer.alloc(0);
  #n = 0;

  constructor() {
    this.#h = Buffer.from(NAME); // 32 bytes, as long as the hash
    this.#ck = this.#h;
    this.mixHash(PROLOGUE);
  }

  mixHash(data: Buffer): void {
    this.#h = createHash('sha256').update(this.#h).update(data).digest();
  }

  mixKey(material: Buffer): void {
    [this.#ck, this.#k] = this.#derive(material);
    this.#n = 0;
  }

  encrypt(plain: Buffer): Buffer {
    const cipher = createCipheriv('chacha20-poly1305', this.#k, nonceOf(this.#n++), {
      authTagLength: TAG_BYTES,
    });
    cipher.setAAD(this.#h, { plaintextLength: plain.length });
    const sealed = Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
    this.mixHash(sealed);
    return sealed;
  }

  /** Throws for what was not sealed with this key. */
  decrypt(sealed: Buffer): Buffer {
    const decipher = createDecipheriv('chacha20-poly1305', this.#k, nonceOf(this.#n++), {
      authTagLength: TAG_BYTES,
    });
    decipher.setAAD(this.#h, { plaintextLength: sealed.length - TAG_BYTES });
    decipher.setAuthTag(sealed.subarray(-TAG_BYTES));
    const plain = Buffer.concat([decipher.update(sealed.subarray(0, -TAG_BYTES)), decipher.final()]);
    this.mixHash(sealed);
    return plain;
  }

  /** The keys of both directions, the initiator's first. */
  split(): [Buffer, Buffer] {
    return this.#derive(Buffer.alloc(0));
  }

  #derive(material: Buffer): [Buffer, Buffer] {
    const bytes = Buffer.from(hkdfSync('sha256', material, this.#ck, Buffer.alloc(0), 2 * KEY_BYTES));
    return [bytes.subarray(0, KEY_BYTES), bytes.subarray(KEY_BYTES)];
  }
}

/** Bytes of both messages, when the first one's payload has `payload` bytes. */
export const initiationBytes = (payload: number): number =>
  KEY_BYTES + (KEY_BYTES + TAG_BYTES) + payload + TAG_BYTES;
export const RESPONSE_BYTES = KEY_BYTES + TAG_BYTES;

export interface Keys {
  send: Buffer;
  receive: Buffer;
}

/** The side that starts: it knows the other's static key. */
export class Initiator {
  readonly #state = new Symmetric();
  readonly #s: KeyPair;
  readonly #e = generateKeyPair();
  readonly #rs: Buffer;

  constructor(s: KeyPair, rs: Buffer) {
    this.#s = s;
    this.#rs = rs;
  }

  /** -> e, es, s, ss */
  initiation(payload: Buffer): Buffer {
    const state = this.#state;
    state.mixHash(this.#rs);
    state.mixHash(this.#e.publicKey);
    state.mixKey(dh(this.#e, this.#rs));
    const s = state.encrypt(this.#s.publicKey);
    state.mixKey(dh(this.#s, this.#rs));
    return Buffer.concat([this.#e.publicKey, s, state.encrypt(payload)]);
  }

  /** <- e, ee, se. Throws for what is no answer to it. */
  finish(message: Buffer): Keys {
    const state = this.#state;
    const re = message.subarray(0, KEY_BYTES);
    state.mixHash(re);
    state.mixKey(dh(this.#e, re));
    state.mixKey(dh(this.#s, re));
    state.decrypt(message.subarray(KEY_BYTES));
    const [send, receive] = state.split();
    return { send, receive };
  }
}

/** What a responder learns from the first message. Throws for one that was not made for `s`. */
export function accept(
  s: KeyPair,
  message: Buffer,
): { peer: Buffer; payload: Buffer; respond(): { message: Buffer; keys: Keys } } {
  const state = new Symmetric();
  state.mixHash(s.publicKey);
  const re = Buffer.from(message.subarray(0, KEY_BYTES));
  state.mixHash(re);
  state.mixKey(dh(s, re));
  const peer = state.decrypt(message.subarray(KEY_BYTES, 2 * KEY_BYTES + TAG_BYTES));
  state.mixKey(dh(s, peer));
  const payload = state.decrypt(message.subarray(2 * KEY_BYTES + TAG_BYTES));
  return {
    peer,
    payload,
    respond() {
      const e = generateKeyPair();
      state.mixHash(e.publicKey);
      state.mixKey(dh(e, re));
      state.mixKey(dh(e, peer));
      const empty = state.encrypt(Buffer.alloc(0));
      const [receive, send] = state.split();
      return { message: Buffer.concat([e.publicKey, empty]), keys: { send, receive } };
    },
  };
}
