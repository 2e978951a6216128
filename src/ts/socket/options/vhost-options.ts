import { invalidArgValue } from '../../support/errors';
import { boolean, integer, string } from '../../support/options';
import type { OptionReader } from './socket-options';

/** Options of sockets whose packets the kernel's vhost thread can move. */
export interface VhostOptions {
  /**
   * Let the kernel's vhost thread move the packets: this process writes and reads rings in its memory, and next to no system call is made for
   * a packet. true: fail where that can't be had; 'prefer': do without then, as `vhost` of the socket says. Not with `packetInfo`, and of
   * packet sockets only with `type: 'raw'`. What differs is in docs/vhost.md. drivers/vhost/net.c. Default false.
   */
  vhost?: boolean | 'prefer';
  /**
   * Buffers of 2048 bytes in each of the two rings: a power of two (virtio 1.2, 2.7) from 64 to 32768. Default 256. An ordinary packet takes one
   * buffer, a superpacket of 64 KiB takes 33: in a ring of 32 it would wait for ever, and in one of 64 there is room for one at a time.
   */
  vhostRing?: number;
  /** The device file. Default '/dev/vhost-net'. */
  vhostDevice?: string;
}

/** VhostOptions, validated and with defaults; undefined where it is not wanted. */
export interface VhostConfig {
  device: string;
  ring: number;
  required: boolean;
}

export const VHOST_OPTIONS = [
  'vhost',
  'vhostRing',
  'vhostDevice',
] as const satisfies readonly (keyof VhostOptions)[];

/** A packet of 65535 bytes takes 33 buffers: in a ring with fewer it would wait for ever. */
const MIN_RING = 64;
const MAX_RING = 32768;

export function vhostConfig(optional: OptionReader<(typeof VHOST_OPTIONS)[number]>): VhostConfig | undefined {
  const vhost = optional('vhost', (name, value) => (value === 'prefer' ? value : boolean(name, value)));
  const ring = optional('vhostRing', ringSize) ?? 256;
  const device = optional('vhostDevice', string) ?? '/dev/vhost-net';
  return vhost ? { device, ring, required: vhost !== 'prefer' } : undefined;
}

function ringSize(name: string, value: unknown): number {
  const size = integer(name, value, MIN_RING, MAX_RING);
  if ((size & (size - 1)) !== 0) throw invalidArgValue(name, 'a power of two', size);
  return size;
}

/** What is in force beside an option that it does not go with, whose name is `name`. */
export function withoutVhost(vhost: VhostConfig | undefined, name: string, reason: string): undefined {
  if (vhost?.required)
    throw invalidArgValue('options.vhost', `false or 'prefer' with ${name}: ${reason}`, true);
}
