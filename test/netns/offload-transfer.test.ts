import { beforeAll, describe, expect, it } from 'vitest';
import { EMULATED } from '../helpers/kernel';
import { enterQuietNamespace } from '../helpers/namespace';
import { HAS_PYTHON, tcpExchange, udpExchange } from '../helpers/peers';
import { type Cable, type TwoHosts, twoHosts } from '../helpers/two-hosts';

beforeAll(enterQuietNamespace);

const MIB = 2 ** 20;
const FAMILIES = [
  ['IPv4', 0],
  ['IPv6', 1],
] as const;

/** MiB each way for each family: 1 GiB over those forwarders that offload is for, less where each packet goes by itself. */
const [MUCH, LESS] = EMULATED ? [4, 2] : [512, 32];
const cables: (Cable & { mib: number })[] = [
  { mode: 'tun', near: 'split', far: 'split', mib: MUCH },
  { mode: 'tun', near: 'raw', far: 'raw', mib: MUCH },
  { mode: 'tun', near: 'split', far: 'none', mib: LESS },
  { mode: 'tun', near: 'none', far: 'split', mib: LESS },
  { mode: 'tap', near: 'split', far: 'split', mib: LESS },
  { mode: 'tap', near: 'raw', far: 'raw', mib: LESS },
];

const MTU = 1500;
const LINK_HEADER = { tun: 0, tap: 14 };

/** Both hosts sent in bulk: the kernel made superpackets of it, and took some, wherever it was let. */
function expectSuperpackets(hosts: TwoHosts, { mode, ...modes }: Cable): void {
  for (const end of ['near', 'far'] as const) {
    const { socket, longest } = hosts[end];
    const { offload, received, sent } = socket.stats();
    expect([received.errors, received.truncated, sent.errors]).toEqual([0, 0, 0]);
    // How many segments a superpacket has is the sender's choice, by how fast it finds the way to be: two at least.
    if (modes[end] === 'raw') expect(longest).toBeGreaterThan(MTU + LINK_HEADER[mode]);
    else expect(longest).toBe(MTU + LINK_HEADER[mode]);
    if (modes[end] !== 'split') {
      expect(offload).toBeUndefined();
      continue;
    }
    expect(offload?.received).toBeGreaterThan(0);
    expect(offload?.sent).toBeGreaterThan(0);
    expect(offload?.refused).toEqual([]);
  }
}

describe.each(cables)('$mode, $near to $far', ({ mib, ...cable }) => {
  // Emulation takes seconds for each; these differ from the first two by what is at their ends, and not by family.
  const families = EMULATED && mib === LESS ? FAMILIES.slice(0, 1) : FAMILIES;

  it.each(families)(`TCP over %s brings ${mib} MiB each way as they were`, async (_, family) => {
    await using hosts = twoHosts(cable);
    const { near, far } = hosts;
    const bytes = mib * MIB;
    const { client, server } = await tcpExchange(near.netns, far.netns, far.addresses[family], bytes);
    expect([client.bytes, server.bytes]).toEqual([bytes, bytes]);
    expect(server.received).toBe(client.sent);
    expect(client.received).toBe(server.sent);
    expect(client.sent).not.toBe(server.sent);
    expectSuperpackets(hosts, cable);
  });

  it
    .runIf(HAS_PYTHON)
    .each(families.flatMap(([name, family]) => [true, false].map((gso) => [name, gso, family] as const)))(
    'UDP over %s, UDP_SEGMENT %s, brings each datagram as it was',
    async (_, gso, family) => {
      await using hosts = twoHosts(cable);
      const { near, far } = hosts;
      const [bursts, count, size] = [EMULATED ? 5 : 100, 40, 1400];
      const burst = { bursts, count, size, gso };
      const seen = await udpExchange(near.netns, far.netns, far.addresses[family], burst);
      const sizes = Array.from({ length: bursts * count }, (_, index) =>
        index % count === count - 1 ? size - Math.floor(index / count) : size,
      );
      expect(seen.sizes).toEqual(sizes);
      expect(seen.received).toBe(seen.sent);
      const [received, sent] = [near.socket.stats().offload?.received, far.socket.stats().offload?.sent];
      if (cable.near === 'split') expect(received).toBe(gso ? bursts : 0);
      // What was a superpacket is one again; a burst whose datagrams come one by one may be met in any number of pieces.
      if (cable.far === 'split' && cable.near === 'split' && gso) expect(sent).toBe(bursts);
      if (cable.near === 'raw') expect(near.longest > MTU + LINK_HEADER[cable.mode]).toBe(gso);
    },
  );
});
