import type { Operation } from './lib/operation';

/** The 'message' event, with Buffers that the listener owns. */
export const messageEvent: Operation = {
  name: "'message' event",
  device: 'tun',
  baseline: 'poll_read_loop',
  baselineName: 'poll+read',
  traffic: ['queued', 'flood'],
  sizes: [64, 1400],
  clock: 'cpu',
  packets: 16_000,
  rounds: 60,
  target: { speedAtLeast: 0.7 },
  prepare(socket) {
    let left = 0;
    let done: (value: undefined) => void;
    socket.pause();
    socket.on('message', () => {
      left -= 1;
      if (left > 0) return;
      socket.pause();
      done(undefined);
    });
    return (packets) =>
      new Promise((resolve) => {
        left = packets;
        done = resolve;
        socket.resume();
      });
  },
};
