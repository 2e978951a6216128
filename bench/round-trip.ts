import type { Operation } from './lib/operation';

/** A packet comes in as a 'message', and goes back by send() with its IPv4 addresses swapped. */
export const roundTrip: Operation = {
  name: 'round trip',
  device: 'tun',
  baseline: 'echo_loop',
  baselineName: 'poll+read+write',
  traffic: ['ping'],
  sizes: [64],
  clock: 'wall',
  packets: 1000,
  rounds: 40,
  target: { timeAtMost: 1.3 },
  prepare(socket) {
    let left = 0;
    let done: (value: undefined) => void;
    socket.pause();
    socket.on('message', (packet) => {
      const source = packet.readUInt32BE(12);
      packet.copyWithin(12, 16, 20);
      packet.writeUInt32BE(source, 16);
      socket.send(packet);
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
