import { afterEach, beforeEach } from 'vitest';
import { Netns, PacketBatch, UdpSocket, type UdpSocketOptions } from '../../dist';

/** UDP sockets of a namespace of this file's own, which are closed after each test. */
export interface UdpStage {
  /** A socket at 127.0.0.1, unless the options say otherwise. */
  open(options?: UdpSocketOptions): UdpSocket;
  /** Closes it after the test. */
  kept<S extends Disposable>(socket: S): S;
}

export function udpStage(): UdpStage {
  let sockets: Disposable[] = [];
  Netns.create().enter();
  beforeEach(() => {
    sockets = [];
  });
  afterEach(() => {
    for (const socket of sockets) socket[Symbol.dispose]();
  });
  const kept = <S extends Disposable>(socket: S): S => {
    sockets.push(socket);
    return socket;
  };
  return {
    open: (options = {}) => {
      const address = options.family === undefined ? { address: '127.0.0.1' } : {};
      return kept(UdpSocket.open({ ...address, receiveTimeout: 5000, ...options }));
    },
    kept,
  };
}

/** A batch with these datagrams. */
export function batchOf(data: readonly Buffer[], options?: Parameters<PacketBatch['push']>[1]): PacketBatch {
  const batch = new PacketBatch({ capacity: Math.max(data.length, 1), packetSize: 65535 });
  for (const one of data) batch.push(one, options);
  return batch;
}

/** Everything that is queued, one by one. */
export function queued(socket: UdpSocket): Buffer[] {
  const batch = new PacketBatch({ capacity: 64, packetSize: 65535 });
  const received: Buffer[] = [];
  while (socket.recvmmsg(batch, 0x40) > 0) for (const data of batch) received.push(Buffer.from(data));
  return received;
}
