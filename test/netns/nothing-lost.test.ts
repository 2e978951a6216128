import { writeFileSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  constants,
  type Link,
  type MessageSocket,
  type Netns,
  type OffloadMode,
  PacketBatch,
  PacketSocket,
} from '../../dist';
import { EMULATED } from '../helpers/kernel';
import { enterQuietNamespace } from '../helpers/namespace';
import { keepToFirstProcessor, NumberedHost, SEGMENTS, type Seen } from '../helpers/numbered-traffic';
import { FAR_MAC, NEAR_MAC, vethPair } from '../helpers/pair';
import { twoHosts } from '../helpers/two-hosts';

beforeAll(() => {
  enterQuietNamespace();
  keepToFirstProcessor();
});

/** Datagrams each way. */
const COUNT = EMULATED ? 1000 : 10_000;
/** So short that a forwarder which falls behind loses packets, in a place that is counted. */
const QUEUE = 200;
const MTU = 1500;
const MEDIA = ['tun', 'tap', 'packet'] as const;
const MODES = ['none', 'split', 'raw'] as const;
const TAKES = ['message', 'batch', 'recvmmsg'] as const;
type Take = (typeof TAKES)[number];

/** One way through the forwarder, with all that may count what does not arrive. */
interface Way {
  from: MessageSocket;
  /** Packets that the forwarder was refused by who is to send them. */
  refused: number;
  longest: number;
  /** Packets, superpackets as one, that the kernel dropped before the forwarder had them. */
  droppedBefore(): number;
  /** Packets that it dropped after the forwarder had sent them. */
  droppedAfter(): number;
}

interface Forwarding extends AsyncDisposable {
  hosts: [Netns, Netns];
  addresses: [string, string];
  ways: [Way, Way];
  /** Goes on until it is closed, where nobody is told of packets. */
  stop(): void;
}

/** A forwarder by each way of taking packets; it loses none by itself, and counts those that the kernel refuses. */
function forward(take: Take, way: Way, to: MessageSocket): () => void {
  const { from } = way;
  const send = (batch: PacketBatch) => {
    for (const length of batch.lengths.subarray(0, batch.length)) way.longest = Math.max(way.longest, length);
    for (let sent = 0; sent < batch.length; ) {
      try {
        sent += to.sendmmsg(batch, 0, sent);
      } catch (error) {
        expect(error).toMatchObject({ code: 'ENOBUFS' });
        way.refused += 1;
        sent += 1;
      }
    }
  };
  if (take === 'batch') {
    from.on('batch', send);
  } else if (take === 'message') {
    from.on('message', (packet, { offload }) => {
      way.longest = Math.max(way.longest, packet.length);
      to.send(packet, offload === undefined ? {} : { offload }, (error) => {
        if (error !== null) way.refused += 1;
      });
    });
  } else {
    const batch = new PacketBatch({ packetSize: 66_000 });
    let stopped = false;
    const turn = () => {
      if (stopped) return;
      if (from.recvmmsg(batch, constants.MSG_DONTWAIT) > 0) send(batch);
      setImmediate(turn);
    };
    turn();
    return () => {
      stopped = true;
    };
  }
  return () => {};
}

function byDevices(mode: 'tun' | 'tap', offload: OffloadMode, take: Take): Forwarding {
  const ways: Way[] = [];
  const stops: (() => void)[] = [];
  const hosts = twoHosts({ mode, near: offload, far: offload, txQueueLength: QUEUE }, (from, to) => {
    const way: Way = {
      from: from.socket,
      refused: 0,
      longest: 0,
      droppedBefore: () => from.socket.link.counters().txDropped,
      droppedAfter: () => to.socket.link.counters().rxDropped,
    };
    ways.push(way);
    stops.push(forward(take, way, to.socket));
  });
  // Reports of multicast groups would be counted where the queue of a device has no room for them.
  for (const { netns } of [hosts.near, hosts.far])
    netns.run(() => writeFileSync('/proc/sys/net/ipv6/conf/all/disable_ipv6', '1'));
  return {
    hosts: [hosts.near.netns, hosts.far.netns],
    addresses: [hosts.near.addresses[0], hosts.far.addresses[0]],
    ways: ways as [Way, Way],
    stop: () => void stops.map((stop) => stop()),
    [Symbol.asyncDispose]: () => hosts[Symbol.asyncDispose](),
  };
}

/** A host, and the packet socket at the other end of its cable. */
interface End {
  netns: Netns;
  socket: PacketSocket;
  nearLink: Link;
  close(): void;
}

/** Two hosts with a cable each to where packet sockets forward. */
function byPacketSockets(offload: OffloadMode, take: Take): Forwarding {
  const ADDRESSES: [string, string] = ['10.7.0.1', '10.7.0.2'];
  const MACS = [NEAR_MAC, FAR_MAC];
  // 'v0' is in the host, 'v1' where the forwarder is.
  const ends = [0, 1].map((number) => {
    const { near: netns, far, nearLink, close } = vethPair();
    nearLink.mac = MACS[number] as string;
    nearLink.addAddress(`${ADDRESSES[number]}/24`);
    nearLink.addNeighbour(ADDRESSES[1 - number] as string, MACS[1 - number] as string);
    const socket = PacketSocket.open({
      interface: 'v1',
      netns: far,
      offload,
      ignoreOutgoing: true,
      receiveBuffer: 1 << 20,
    });
    return { netns, socket, nearLink, close };
  }) as [End, End];
  const way = (from: End): Way => ({
    from: from.socket,
    refused: 0,
    longest: 0,
    droppedBefore: () =>
      from.nearLink.counters().txDropped + (from.socket.stats().received.dropped as number),
    // What the forwarder was not told of; a frame that the other end had no room for is also refused.
    droppedAfter: () => 0,
  });
  const ways: [Way, Way] = [way(ends[0]), way(ends[1])];
  const stops = [forward(take, ways[0], ends[1].socket), forward(take, ways[1], ends[0].socket)];
  return {
    hosts: [ends[0].netns, ends[1].netns],
    addresses: ADDRESSES,
    ways,
    stop: () => void stops.map((stop) => stop()),
    async [Symbol.asyncDispose]() {
      for (const { socket, close } of ends) {
        await socket[Symbol.asyncDispose]();
        close();
      }
    },
  };
}

/** How many datagrams did not arrive, and how many of those something counts; `whole` are in what the forwarder would have got. */
function balance(way: Way, sender: Seen, receiver: Seen, whole: number) {
  return {
    missing: sender.sent - receiver.delivered,
    counted: way.droppedBefore() * whole + way.refused + way.droppedAfter() + receiver.dropped,
  };
}

describe.each(MEDIA)('what goes through a forwarder on %s', { timeout: 300_000 }, (medium) => {
  describe.each(MODES)("with offload '%s'", (offload) => {
    it.each(TAKES)("by '%s': what does not arrive is counted, and what arrives is in order", async (take) => {
      await using forwarding =
        medium === 'packet' ? byPacketSockets(offload, take) : byDevices(medium, offload, take);
      const { hosts, addresses, ways } = forwarding;
      // A packet socket that leaves offload alone shows what the host has not finished.
      const gso = offload !== 'none';
      const whole = gso ? SEGMENTS : 1;
      const framed = medium === 'packet' && !gso;
      const start = (index: 0 | 1) => {
        const header = (index === 0 ? [FAR_MAC, NEAR_MAC] : [NEAR_MAC, FAR_MAC]).join('').replaceAll(':', '');
        return NumberedHost.start({
          netns: hosts[index],
          address: addresses[index],
          peer: addresses[1 - index] as string,
          count: COUNT,
          gso,
          ...(framed && { frames: { interface: 'v0', header: `${header}0800` } }),
        });
      };
      await using near = await start(0);
      await using far = await start(1);
      near.start();
      far.start();
      const look = async () => {
        const seen: [Seen, Seen] = [await near.seen(), await far.seen()];
        const sums = [balance(ways[0], seen[0], seen[1], whole), balance(ways[1], seen[1], seen[0], whole)];
        return { seen, sums };
      };
      const settled = ({ seen, sums }: Awaited<ReturnType<typeof look>>) =>
        seen.every(({ done }) => done) && sums.every(({ missing, counted }) => missing === counted);
      // Until nothing moves any more.
      let last = await look();
      for (let still = 0; still < 30 && !settled(last); ) {
        await setTimeout(100);
        const now = await look();
        still = JSON.stringify(now) === JSON.stringify(last) ? still + 1 : 0;
        last = now;
      }
      forwarding.stop();
      const { seen, sums } = last;
      expect(sums.map(({ missing }) => missing)).toEqual(sums.map(({ counted }) => counted));
      for (const [index, { sent, delivered, outOfOrder }] of seen.entries()) {
        expect({ sent, outOfOrder }).toEqual({ sent: COUNT, outOfOrder: 0 });
        expect(delivered).toBeGreaterThan(0);
        const { from, longest } = ways[index as 0 | 1];
        const { truncated, errors } = from.stats().received;
        expect([truncated, errors, from.stats().sent.truncated]).toEqual([0, 0, 0]);
        if (offload === 'raw') expect(longest).toBeGreaterThan(5 * MTU);
        else expect(longest).toBeLessThanOrEqual(MTU + 14);
        if (offload === 'split') expect(from.stats().offload?.received).toBeGreaterThan(0);
      }
    });
  });
});
