import type { Operation } from './lib/operation';

export const BURST = 64;

/** send(), 64 times in a tick; the last callback of a burst starts the next one. */
export const sendBursts: Operation = {
  name: 'send() bursts',
  device: 'tun',
  baseline: 'write_loop',
  baselineName: 'write',
  traffic: ['none'],
  sizes: [64, 1400],
  clock: 'cpu',
  packets: BURST * 256,
  rounds: 40,
  target: { speedAtLeast: 0.85 },
  prepare(socket, packet) {
    return (packets) =>
      new Promise((resolve, reject) => {
        let left = packets;
        const burst = (error: Error | null) => {
          if (error !== null) return reject(error);
          if (left <= 0) return resolve(undefined);
          for (let i = 1; i < BURST; i++) socket.send(packet);
          socket.send(packet, burst);
          left -= BURST;
        };
        burst(null);
      });
  },
};
