import { writeFileSync } from 'node:fs';
import { Link, Netns } from '../../dist';
import { ethernetFrame } from './packets';

/** Two interfaces with a cable between, each in a namespace of its own, both up and silent. */
export interface Pair {
  near: Netns;
  far: Netns;
  /** 'v0' in `near`. */
  nearLink: Link;
  /** 'v1' in `far`. */
  farLink: Link;
  close(): void;
}

export const NEAR_MAC = '02:00:00:00:00:01';
export const FAR_MAC = '02:00:00:00:00:02';

/**
 * Waits until a link that was brought up carries packets, which is a moment later: until then the kernel drops them
 * (net/core/link_watch.c).
 */
export function untilRunning(link: Link): void {
  const IFF_RUNNING = 0x40;
  const deadline = Date.now() + 10_000;
  while ((link.flags & IFF_RUNNING) === 0) {
    if (Date.now() > deadline) throw new Error(`${link.name} is not running`);
  }
}

export function vethPair(): Pair {
  const near = Netns.create();
  const far = Netns.create();
  // Neighbour and multicast discovery of IPv6 would come in between.
  for (const ns of [near, far]) {
    ns.run(() => writeFileSync('/proc/sys/net/ipv6/conf/default/disable_ipv6', '1'));
  }
  const nearLink = near.run(() =>
    Link.create({ type: 'veth', name: 'v0', peer: { name: 'v1', netns: far } }),
  );
  const farLink = far.run(() => Link.get('v1'));
  nearLink.mac = NEAR_MAC;
  farLink.mac = FAR_MAC;
  nearLink.up();
  farLink.up();
  untilRunning(nearLink);
  untilRunning(farLink);
  return {
    near,
    far,
    nearLink,
    farLink,
    close() {
      near.close();
      far.close();
    },
  };
}

function macBytes(mac: string): Buffer {
  return Buffer.from(mac.replaceAll(':', ''), 'hex');
}

/** An Ethernet frame from v1 to v0, unless other addresses are given. */
export function frame(protocol: number, payload: Buffer, to = NEAR_MAC, from = FAR_MAC): Buffer {
  return ethernetFrame(macBytes(to), macBytes(from), protocol, payload);
}
