import { afterEach, beforeEach, expect } from 'vitest';
import { type MessageSocket, PacketSocket, type PacketSocketOptions } from '../../dist';
import { frame, type Pair, vethPair } from './pair';

/** EtherTypes for local experiments (IEEE 802). */
export const TEST = 0x88b5;
export const OTHER = 0x88b6;

/** What recvmsg() throws when nothing is queued. */
export const empty = expect.objectContaining({ code: 'EAGAIN', syscall: 'recvmsg' });

/** A frame for v0 with that text in it: 64 bytes. */
export const text = (value: string) => frame(TEST, Buffer.from(value.padEnd(50, '.')));
export const room = () => Buffer.alloc(2048);

type Options = Partial<PacketSocketOptions>;

/** A pair of interfaces, anew for each test of the file, and packet sockets on them that are closed after it. */
export interface PacketStage {
  readonly pair: Pair;
  /** Opens a socket on v0. */
  near(options?: Options): PacketSocket;
  /** Opens a socket on v1. */
  far(options?: Options): PacketSocket;
  /** Closes `socket` after the test. */
  kept<S extends MessageSocket>(socket: S): S;
}

export function packetStage(): PacketStage {
  let pair: Pair;
  let sockets: MessageSocket[];
  beforeEach(() => {
    pair = vethPair();
    sockets = [];
  });
  afterEach(() => {
    for (const socket of sockets) socket[Symbol.dispose]();
    pair.close();
  });
  const kept = <S extends MessageSocket>(socket: S): S => {
    sockets.push(socket);
    return socket;
  };
  const defaults = { protocol: TEST, receiveTimeout: 5000 };
  return {
    get pair() {
      return pair;
    },
    near: (options) =>
      kept(PacketSocket.open({ ...defaults, interface: 'v0', netns: pair.near, ...options })),
    far: (options) => kept(PacketSocket.open({ ...defaults, interface: 'v1', netns: pair.far, ...options })),
    kept,
  };
}
