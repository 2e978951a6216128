import { constants, PacketBatch } from 'tunsock';
import type { Operation } from './lib/operation';

/** recvmmsg() of 64 packets at a time. */
export const recvmmsg: Operation = {
  name: 'recvmmsg',
  device: 'tun',
  baseline: 'read_loop',
  baselineName: 'read',
  traffic: ['queued'],
  sizes: [64, 1400],
  clock: 'cpu',
  packets: 8192,
  rounds: 80,
  target: { speedAtLeast: 0.97 },
  prepare(socket) {
    const batch = new PacketBatch();
    return (packets) => {
      for (let left = packets; left > 0; ) {
        const received = socket.recvmmsg(batch, constants.MSG_DONTWAIT);
        if (received === 0) throw new Error(`${left} packets are missing`);
        left -= received;
      }
      return undefined;
    };
  },
};

/** The same on a packet socket, where the kernel has recvmmsg(2). */
export const packetRecvmmsg: Operation = {
  ...recvmmsg,
  name: 'packet socket recvmmsg',
  device: 'veth',
  baseline: 'recvmmsg_loop',
  baselineName: 'recvmmsg',
};
