import { TunSocket } from 'tunsock';
import type { Operation } from './lib/operation';

/** A tun device with an address and an MTU, up; closing it is not measured. */
export const openConfigure: Operation = {
  name: 'open and configure',
  device: 'tun',
  baseline: 'ip_commands',
  baselineName: 'ip program',
  traffic: ['none'],
  sizes: [0],
  clock: 'wall',
  packets: 1,
  rounds: 40,
  target: { speedAtLeast: 10 },
  prepare() {
    return () => {
      const tun = TunSocket.open({ name: 'opened0', address: '10.8.0.1/24', mtu: 1400 });
      return () => void tun.close();
    };
  },
};
