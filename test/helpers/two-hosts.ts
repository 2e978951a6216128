import { writeFileSync } from 'node:fs';
import { Netns, type OffloadMode, TunSocket } from '../../dist';

/** How two hosts are connected: by a device in each, and this process between. */
export interface Cable {
  mode: 'tun' | 'tap';
  near: OffloadMode;
  far: OffloadMode;
  /** Packets that wait in each device at most. */
  txQueueLength?: number;
}

export interface Host {
  netns: Netns;
  socket: TunSocket;
  /** IPv4 and IPv6. */
  addresses: [string, string];
  /** Bytes of the longest packet that came from this host. */
  longest: number;
}

export interface TwoHosts extends AsyncDisposable {
  near: Host;
  far: Host;
}

const MACS = ['02:00:00:00:00:01', '02:00:00:00:00:02'] as const;

/** Two network namespaces that reach each other through a device in each; what the one is handed the other gets, as `forward` brings it. */
export function twoHosts(
  { mode, near, far, txQueueLength = 2000 }: Cable,
  forward: (from: Host, to: Host) => void = inBatches,
): TwoHosts {
  const host = (number: 1 | 2, offload: OffloadMode): Host => {
    const netns = Netns.create();
    // New interfaces say nothing by themselves, and a burst of a whole TCP window fits the device's queue.
    netns.run(() => writeFileSync('/proc/sys/net/ipv6/conf/default/addr_gen_mode', '1'));
    const addresses: [string, string] = [`10.7.0.${number}`, `fd07::${number}`];
    const socket = TunSocket.open({
      ...(mode === 'tap' ? { mode, mac: MACS[number - 1] as string } : { mode }),
      netns,
      offload,
      address: [`${addresses[0]}/24`, `${addresses[1]}/64`],
      txQueueLength,
    });
    if (mode === 'tap') {
      const other = 3 - number;
      for (const peer of [`10.7.0.${other}`, `fd07::${other}`]) {
        netns.run(() => socket.link.addNeighbour(peer, MACS[other - 1] as string));
      }
    }
    return { netns, socket, addresses, longest: 0 };
  };
  const [a, b] = [host(1, near), host(2, far)];
  forward(a, b);
  forward(b, a);
  return {
    near: a,
    far: b,
    async [Symbol.asyncDispose]() {
      for (const { socket, netns } of [a, b]) {
        await socket[Symbol.asyncDispose]();
        netns.close();
      }
    },
  };
}

/** Sends on the device of `to` what that of `from` receives, a batch at a time and untouched. */
function inBatches(from: Host, to: Host): void {
  from.socket.on('batch', (batch) => {
    for (let index = 0; index < batch.length; index++) {
      from.longest = Math.max(from.longest, batch.lengths[index] as number);
    }
    for (let sent = 0; sent < batch.length; ) sent += to.socket.sendmmsg(batch, 0, sent);
  });
}
