import { PacketBatch } from 'tunsock';
import type { Operation } from './lib/operation';

/** sendmmsg() of 64 packets at a time. */
export const sendmmsg: Operation = {
  name: 'sendmmsg',
  device: 'tun',
  baseline: 'write_loop',
  baselineName: 'write',
  traffic: ['none'],
  sizes: [64, 1400],
  clock: 'cpu',
  packets: 64 * 256,
  rounds: 40,
  target: { speedAtLeast: 0.97 },
  prepare(socket, packet) {
    const batch = new PacketBatch();
    while (batch.length < batch.capacity) batch.push(packet);
    return (packets) => {
      for (let left = packets; left > 0; ) left -= socket.sendmmsg(batch);
      return undefined;
    };
  },
};

/** The same on a packet socket, where the kernel has sendmmsg(2). */
export const packetSendmmsg: Operation = {
  ...sendmmsg,
  name: 'packet socket sendmmsg',
  device: 'veth',
  baseline: 'sendmmsg_loop',
  baselineName: 'sendmmsg',
};
