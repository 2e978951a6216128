import { constants } from 'tunsock';
import type { Operation } from './lib/operation';

/** recvmsg() into one Buffer, one packet a call. */
export const recvmsg: Operation = {
  name: 'recvmsg',
  device: 'tun',
  baseline: 'read_loop',
  baselineName: 'read',
  traffic: ['queued'],
  sizes: [64, 1400],
  clock: 'cpu',
  packets: 8192,
  rounds: 60,
  target: { speedAtLeast: 0.85 },
  prepare(socket) {
    const room = Buffer.alloc(2048);
    return (packets) => {
      for (let left = packets; left > 0; left--) socket.recvmsg(room, constants.MSG_DONTWAIT);
      return undefined;
    };
  },
};
