import type { Operation } from './lib/operation';

/** sendmsg() of one Buffer, one packet a call. */
export const sendmsg: Operation = {
  name: 'sendmsg',
  device: 'tun',
  baseline: 'write_loop',
  baselineName: 'write',
  traffic: ['none'],
  sizes: [64, 1400],
  clock: 'cpu',
  packets: 64 * 256,
  rounds: 40,
  target: { speedAtLeast: 0.85 },
  prepare(socket, packet) {
    return (packets) => {
      for (let left = packets; left > 0; left--) socket.sendmsg(packet);
      return undefined;
    };
  },
};
