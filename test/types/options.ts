/**
 * What the types of options allow: tsc is the judge (`npm run lint`). Nothing here runs; that the same mistakes are typed errors at run time
 * is tested with the sockets.
 */
import type {
  CommonTunOptions,
  FanoutOptions,
  OffloadMode,
  PacketSocket,
  PacketSocketOptions,
  TapOptions,
  TunOptions,
  TunSocket,
} from '../../dist';

declare const open: (typeof TunSocket)['open'];
declare const packet: (typeof PacketSocket)['open'];
declare const mode: 'tun' | 'tap';
declare const offload: OffloadMode;
const mac = '02:00:00:00:00:01';
const filter = '1\n6 0 0 262144';

export function device(): void {
  open();
  open({ mac, mode: 'tap' });
  open({ mode: 'tap', filter, napi: 'frags' });
  open({ mode: 'tun', napi: true });
  // A mode that is known at run time only takes what both have.
  open({ mode, offload, address: '10.0.0.1/24', napi: true });
  open(mode === 'tap' ? { mode, mac } : { mode });
  const tap: TapOptions = { mode: 'tap', mac };
  const either: TunOptions = tap;
  const common: CommonTunOptions = either;
  open({ ...common, mode: 'tap', mac });

  // @ts-expect-error: a tun device has no hardware address
  open({ mac });
  // @ts-expect-error
  open({ mode: 'tun', mac });
  // @ts-expect-error: it may be a tun device
  open({ mode, mac });
  // @ts-expect-error: classic BPF is a tap's
  open({ filter });
  // @ts-expect-error: fragments are a tap's
  open({ mode: 'tun', napi: 'frags' });
  // @ts-expect-error: no such mode
  open({ mode: 'ip' });
  // @ts-expect-error: no such order
  open({ offload: 'raw', byteOrder: 'middle' });
  // @ts-expect-error: no such feature
  open({ offload: { mode: 'raw', features: ['ufo'] } });
}

export function packets(): void {
  packet({ interface: 'lo', offload: 'raw', vlan: 'inline', vhost: true });
  packet({ interface: 'lo', type: 'raw' });
  packet({ interface: 'lo', type: 'dgram', destination: { address: mac }, vhost: 'prefer' });
  packet({ interface: 'lo', type: 'dgram', offload: 'none', vlan: 'metadata' });
  const dgram: PacketSocketOptions = { interface: 'lo', type: 'dgram' };
  packet({ ...dgram, promiscuous: true });

  // @ts-expect-error: an interface, or 'any'
  packet({});
  // @ts-expect-error: a frame has its destination in its header
  packet({ interface: 'lo', destination: { address: mac } });
  // @ts-expect-error
  packet({ interface: 'lo', type: 'raw', destination: { address: mac } });
  // @ts-expect-error: there is no link header, and nothing to be cut by
  packet({ interface: 'lo', type: 'dgram', offload: 'split' });
  // @ts-expect-error: nor one for a tag to stand in
  packet({ interface: 'lo', type: 'dgram', vlan: 'inline' });
  // @ts-expect-error: vhost-net takes whole frames only
  packet({ interface: 'lo', type: 'dgram', vhost: true });
}

export const groups: FanoutOptions[] = [
  { group: 1, mode: 'hash', rollover: true },
  { group: 'unique', program: filter },
  { group: 1, program: 7, maxMembers: 300 },
  // @ts-expect-error: who gets a packet says the one or the other
  { group: 1, mode: 'hash', program: filter },
  // @ts-expect-error: neither says it
  { group: 1 },
];
