import { createSocket } from 'node:dgram';
import { describe, expect, it } from 'vitest';
import {
  constants,
  type DatagramPacketSocketOptions,
  PacketBatch,
  type PacketSocket,
  type PacketSocketOptions,
} from '../../dist';
import { codeOf, ETH_P_IP } from '../helpers/device';
import { empty, packetStage, room } from '../helpers/packet-stage';
import { udpPacket } from '../helpers/packets';
import { FAR_MAC, frame, NEAR_MAC } from '../helpers/pair';

/**
 * What the kernel's own selftests check of packet sockets (tools/testing/selftests/net: psock_snd.sh, psock_fanout.c, psock_tpacket.c), written
 * anew against this package. Each test has the name that its case has there. Not expressed, and why:
 *
 * - psock_tpacket.c, TPACKET_V1, V2 and V3 with PACKET_RX_RING and PACKET_TX_RING: there are no rings here (docs/performance.md says what
 *   one would gain). What they transfer is transferred by recvmmsg(2) and sendmmsg(2).
 * - psock_fanout.c, PACKET_FANOUT_EBPF: is in packet-control.test.ts, with the program's descriptor.
 * - psock_fanout.c, "control_socket: PACKET_FANOUT and PACKET_RX_RING": no rings.
 * - psock_snd.sh, "raw gso max size + 1": an IP packet of 65536 bytes, whose length its header can't say; nothing here writes headers.
 * - psock_snd.sh, UFO (VIRTIO_NET_HDR_GSO_UDP) for the cases with gso: kernels no longer make it; USO takes its place.
 */

const { MSG_DONTWAIT, VIRTIO_NET_HDR_GSO_UDP_L4 } = constants;
const stage = packetStage();
const { near, far } = stage;

const [NEAR, FAR] = ['10.3.0.1', '10.3.0.2'];
const PORT = 8000;
const MTU = 1500;
const UDP_HEADERS = 28;
const MSS = MTU - UDP_HEADERS;
const ETHERNET = 14;
const payload = (size: number) => Buffer.alloc(size, 'a');
const datagram = (size: number, unfinished = false) =>
  udpPacket([FAR, 9000], [NEAR, PORT], payload(size), { unfinished });
const inFrame = (packet: Buffer) => frame(ETH_P_IP, packet);
const inVlan = (packet: Buffer) => frame(0x8100, Buffer.concat([Buffer.from([0, 0, 8, 0]), packet]));
const unfinished = { needsChecksum: true, checksumStart: ETHERNET + 20, checksumOffset: 6 };
const cut = { ...unfinished, gsoType: VIRTIO_NET_HDR_GSO_UDP_L4, gsoSize: MSS };

/** The sizes of what the host's UDP socket at the other end gets of what `send` sends, up to `total` bytes. */
async function heard(send: () => void, total: number): Promise<number[]> {
  stage.pair.nearLink.addAddress(`${NEAR}/24`);
  // A look-up that answers at once, so that the socket is made and bound in the namespace.
  const udp = createSocket({ type: 'udp4', lookup: (name, _, done) => done(null, name, 4) });
  stage.pair.near.run(() => udp.bind(PORT, NEAR));
  const sizes: number[] = [];
  let sum = 0;
  udp.setRecvBufferSize(1 << 20);
  const all = new Promise<void>((resolve) => {
    udp.on('message', (message) => {
      expect(message.equals(payload(message.length))).toBe(true);
      sizes.push(message.length);
      sum += message.length;
      if (sum === total) resolve();
    });
  });
  send();
  await all;
  udp.close();
  return sizes;
}

describe('psock_snd.sh', () => {
  const dgram = (options: Partial<DatagramPacketSocketOptions> = {}) =>
    far({ type: 'dgram', protocol: ETH_P_IP, destination: { address: NEAR_MAC }, ...options });

  it('dgram', async () => {
    const socket = far({ type: 'dgram', interface: 'any', protocol: ETH_P_IP });
    const to = { address: NEAR_MAC, interface: stage.pair.farLink.index };
    expect(await heard(() => socket.sendmsg(datagram(100), 0, { to }), 100)).toEqual([100]);
  });
  it('dgram bind', async () => {
    expect(await heard(() => dgram().sendmsg(datagram(100)), 100)).toEqual([100]);
  });
  it('raw', async () => {
    const socket = far({ interface: 'any' });
    const to = { interface: stage.pair.farLink.index };
    expect(await heard(() => socket.sendmsg(inFrame(datagram(100)), 0, { to }), 100)).toEqual([100]);
  });
  it('raw bind', async () => {
    expect(await heard(() => far().sendmsg(inFrame(datagram(100))), 100)).toEqual([100]);
  });
  it('raw qdisc bypass', async () => {
    expect(await heard(() => far({ qdiscBypass: true }).sendmsg(inFrame(datagram(100))), 100)).toEqual([100]);
  });
  it('raw vlan', async () => {
    // Number 0: a priority tag, which the host takes off.
    expect(await heard(() => far().sendmsg(inVlan(datagram(100))), 100)).toEqual([100]);
  });
  it('raw vnet hdr', async () => {
    expect(await heard(() => far({ offload: 'raw' }).sendmsg(inFrame(datagram(100))), 100)).toEqual([100]);
  });
  it('raw csum_off', async () => {
    const send = () =>
      far({ offload: 'raw' }).sendmsg(inFrame(datagram(100, true)), 0, { offload: unfinished });
    expect(await heard(send, 100)).toEqual([100]);
  });
  it('raw csum_off with bad offset (expected to fail)', () => {
    const offload = { ...unfinished, checksumOffset: 2000 };
    const send = () => far({ offload: 'raw' }).sendmsg(inFrame(datagram(100, true)), 0, { offload });
    expect(codeOf(send)).toBe('EINVAL');
  });
  it('raw min size', async () => {
    expect(await heard(() => far().sendmsg(inFrame(datagram(1))), 1)).toEqual([1]);
  });
  it('raw mtu size', async () => {
    expect(await heard(() => far().sendmsg(inFrame(datagram(MSS))), MSS)).toEqual([MSS]);
  });
  it('raw mtu size + 1 (expected to fail)', () => {
    expect(codeOf(() => far().sendmsg(inFrame(datagram(MSS + 1))))).toBe('EMSGSIZE');
  });
  it('raw vlan mtu size', async () => {
    expect(await heard(() => far().sendmsg(inVlan(datagram(MSS))), MSS)).toEqual([MSS]);
  });
  it('raw vlan mtu size + 1 (expected to fail)', () => {
    expect(codeOf(() => far().sendmsg(inVlan(datagram(MSS + 1))))).toBe('EMSGSIZE');
  });
  it('dgram mtu size', async () => {
    expect(await heard(() => dgram().sendmsg(datagram(MSS)), MSS)).toEqual([MSS]);
  });
  it('dgram mtu size + 1 (expected to fail)', () => {
    expect(codeOf(() => dgram().sendmsg(datagram(MSS + 1)))).toBe('EMSGSIZE');
  });
  it('raw truncate hlen (expected to fail: does not arrive)', () => {
    const receiver = near({ protocol: ETH_P_IP });
    far().sendmsg(inFrame(datagram(100)).subarray(0, ETHERNET));
    // The header alone, which is no datagram.
    expect(receiver.recvmsg(room())).toMatchObject({ size: ETHERNET, protocol: ETH_P_IP });
    expect(() => receiver.recvmsg(room(), MSG_DONTWAIT)).toThrow(empty);
  });
  it('raw truncate hlen - 1 (expected to fail)', () => {
    expect(codeOf(() => far().sendmsg(inFrame(datagram(100)).subarray(0, ETHERNET - 1)))).toBe('EINVAL');
  });

  const superpacket = (size: number) => () =>
    far({ offload: 'raw' }).sendmsg(inFrame(datagram(size, true)), 0, { offload: cut });
  it('raw gso min size', async () => {
    expect(await heard(superpacket(MSS + 1), MSS + 1)).toEqual([MSS, 1]);
  });
  it('raw gso max size', async () => {
    const size = 65535 - UDP_HEADERS;
    const sizes = await heard(superpacket(size), size);
    expect(sizes).toEqual([...Array(Math.floor(size / MSS)).fill(MSS), size % MSS]);
  });
});

describe('psock_fanout.c', () => {
  type Fanout = NonNullable<PacketSocketOptions['fanout']>;
  const open = (fanout: Fanout, options: Partial<PacketSocketOptions> = {}) =>
    near({ fanout, protocol: 'ip', receiveBuffer: 64 << 10, ...options });
  const refused = (fn: () => unknown) => expect(['EINVAL', 'ERR_INVALID_ARG_VALUE']).toContain(codeOf(fn));
  const send = (ports: [number, number][]) => {
    const socket = far();
    for (const [from, count] of ports) {
      for (let i = 0; i < count; i++) {
        socket.sendmsg(inFrame(udpPacket([FAR, from], [NEAR, PORT], payload(100))));
      }
    }
  };
  const count = (socket: PacketSocket) => {
    const batch = new PacketBatch({ capacity: 512 });
    return socket.recvmmsg(batch, MSG_DONTWAIT);
  };

  it('test_control_single: rollover of rollover is refused', () => {
    refused(() => open({ group: 1, mode: 'rollover', rollover: true }));
  });

  it('test_control_group: members with other flags, mode or protocol are refused', () => {
    open({ group: 0xbad, mode: 'hash' });
    refused(() => open({ group: 0xbad, mode: 'hash', defrag: true }));
    refused(() => open({ group: 0xbad, mode: 'hash', rollover: true }));
    refused(() => open({ group: 0xbad, mode: 'cpu' }));
    refused(() => open({ group: 0xbad, mode: 'hash' }, { protocol: 'all' }));
    open({ group: 0xbad, mode: 'hash' });
  });

  it('test_control_group_max_num_members', () => {
    expect(codeOf(() => open({ group: 0xbad, mode: 'hash', maxMembers: 2 ** 16 + 1 }))).toBe(
      'ERR_OUT_OF_RANGE',
    );
    open({ group: 0xbad, mode: 'hash', maxMembers: 2 ** 16 });
    // Who says nothing takes the group as it is; who says otherwise is refused.
    open({ group: 0xbad, mode: 'hash' });
    open({ group: 0xbad, mode: 'hash', maxMembers: 2 ** 16 });
    refused(() => open({ group: 0xbad, mode: 'hash', maxMembers: 2 ** 16 - 1 }));
  });

  it('test_unique_fanout_group_ids', () => {
    const first = open({ group: 'unique', mode: 'hash' });
    const second = open({ group: 'unique', mode: 'hash' });
    expect(second.fanoutGroup).not.toBe(first.fanoutGroup);
    open({ group: first.fanoutGroup as number, mode: 'hash' });
    refused(() => open({ group: second.fanoutGroup as number, mode: 'cpu' }));
  });

  it.each(['hash', 'lb', 'random', 'queue-mapping', 'cpu'] as const)('test_datapath: %s', (mode) => {
    const [a, b] = [open({ group: 2, mode }), open({ group: 2, mode })];
    send([
      [PORT + 1, 15],
      [PORT + 2, 5],
    ]);
    const [first, second] = [count(a), count(b)];
    expect(first + second).toBe(20);
    if (mode === 'hash') expect([0, 5, 15, 20]).toContain(first);
    if (mode === 'lb') expect(first).toBe(10);
    // All come in on the queue and the processor of one sender.
    if (mode === 'queue-mapping') expect([first, second]).toEqual([20, 0]);
  });

  it('test_datapath: rollover fills one member after another', () => {
    const [a, b] = [
      open({ group: 3, mode: 'rollover' }, { receiveBuffer: 5000 }),
      open({ group: 3, mode: 'rollover' }),
    ];
    send([[PORT + 1, 30]]);
    const [first, second] = [count(a), count(b)];
    expect(first).toBeGreaterThan(0);
    expect(second).toBeGreaterThan(0);
    expect(first + second).toBe(30);
  });

  it('test_datapath: hash with rollover goes to the other when one is full', () => {
    const fanout = { group: 4, mode: 'hash', rollover: true } as const;
    const [a, b] = [open(fanout, { receiveBuffer: 5000 }), open(fanout, { receiveBuffer: 5000 })];
    send([[PORT + 1, 30]]);
    const [first, second] = [count(a), count(b)];
    expect(first).toBeGreaterThan(0);
    expect(second).toBeGreaterThan(0);
  });

  it('test_datapath: cbpf', () => {
    // The first byte of the UDP payload says who gets it, from the network header on: ld [28]; and 1; ret.
    const program = '3\n48 0 0 28\n84 0 0 1\n22 0 0 0';
    const [a, b] = [open({ group: 5, program }), open({ group: 5, program })];
    const socket = far();
    for (const byte of [0, 1, 1, 0, 1]) {
      socket.sendmsg(inFrame(udpPacket([FAR, 1], [NEAR, PORT], Buffer.alloc(100, byte))));
    }
    expect([count(a), count(b)]).toEqual([2, 3]);
  });

  it('test_datapath: a member that leaves gives its share to the others', () => {
    const [a, b] = [open({ group: 6, mode: 'lb' }), open({ group: 6, mode: 'lb' })];
    b.close();
    send([[PORT + 1, 20]]);
    expect(count(a)).toBe(20);
  });
});

describe('psock_tpacket.c', () => {
  const NUM_PACKETS = 100;
  const packets = Array.from({ length: NUM_PACKETS }, (_, i) =>
    frame(ETH_P_IP, udpPacket([NEAR, PORT], [FAR, PORT], Buffer.alloc(64, i)), FAR_MAC, NEAR_MAC),
  );
  const batchOf = () => {
    const batch = new PacketBatch({ capacity: NUM_PACKETS });
    for (const packet of packets) batch.push(packet);
    return batch;
  };

  it.each(['none', 'split', 'raw'] as const)(
    "PACKET_RX: every packet once, whole and in order, with '%s'",
    (offload) => {
      const receiver = far({ protocol: ETH_P_IP, offload });
      near({ protocol: 0 }).sendmmsg(batchOf());
      const received: Buffer[] = [];
      const batch = new PacketBatch({ capacity: 33 });
      while (received.length < NUM_PACKETS) {
        receiver.recvmmsg(batch);
        for (const packet of batch) received.push(Buffer.from(packet));
      }
      expect(received).toEqual(packets);
      expect(receiver.stats().received).toMatchObject({ packets: NUM_PACKETS, dropped: 0 });
    },
  );

  it('PACKET_TX: the batch leaves whole, and the counters of the interface say so', () => {
    const sender = near({ protocol: 0 });
    const before = stage.pair.near.run(() => stage.pair.nearLink.counters().txPackets);
    expect(sender.sendmmsg(batchOf())).toBe(NUM_PACKETS);
    expect(stage.pair.near.run(() => stage.pair.nearLink.counters().txPackets) - before).toBe(NUM_PACKETS);
  });
});
