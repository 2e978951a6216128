import { writeFileSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { constants, Link, Netns, type OffloadMode, PacketBatch, PacketSocket } from '../../dist';
import { ETH_P_IP } from '../helpers/device';
import { EMULATED } from '../helpers/kernel';
import { allowBigTcp, failure, pour } from '../helpers/kernel-peers';
import { addressBytes, checksum, TCP, UDP, type UdpOptions, udpPacket } from '../helpers/packets';
import { FAR_MAC, frame, NEAR_MAC, untilRunning } from '../helpers/pair';
import { HAS_PYTHON } from '../helpers/peers';

const ETHERNET = 14;
const ETH_P_IPV6 = 0x86dd;
const MTU = 1500;
const VXLAN_PORT = 4789;
const { VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_TCPV6, VIRTIO_NET_HDR_GSO_UDP_L4 } = constants;

/** Two hosts with IPv4 and IPv6 on a cable, which take source routes and segment routing. */
let near: Netns;
let far: Netns;
beforeEach(() => {
  near = Netns.create();
  far = Netns.create();
  for (const ns of [near, far]) {
    ns.run(() => {
      for (const name of ['all', 'default']) {
        const six = `/proc/sys/net/ipv6/conf/${name}`;
        const four = `/proc/sys/net/ipv4/conf/${name}`;
        writeFileSync(`${six}/addr_gen_mode`, '1');
        writeFileSync(`${six}/accept_dad`, '0');
        writeFileSync(`${six}/seg6_enabled`, '1');
        writeFileSync(`${four}/accept_source_route`, '1');
        writeFileSync(`${four}/rp_filter`, '0');
      }
    });
  }
  const nearLink = near.run(() =>
    Link.create({ type: 'veth', name: 'v0', peer: { name: 'v1', netns: far } }),
  );
  const farLink = far.run(() => Link.get('v1'));
  for (const [number, link, mac] of [
    [1, nearLink, NEAR_MAC],
    [2, farLink, FAR_MAC],
  ] as const) {
    link.mac = mac;
    for (const prefix of ['10.7.0.', '10.9.0.']) link.addAddress(`${prefix}${number}/24`);
    for (const prefix of ['fd70', 'fd73']) link.addAddress(`${prefix}::${number}/64`);
    link.up();
  }
  for (const ns of [near, far]) ns.run(() => Link.get('lo').up());
  untilRunning(nearLink);
  untilRunning(farLink);
});
afterEach(() => {
  near.close();
  far.close();
});

function open(offload: OffloadMode, protocol: 'all' | number = 'all'): PacketSocket {
  const socket = PacketSocket.open({
    interface: 'v1',
    netns: far,
    protocol,
    ignoreOutgoing: true,
    offload,
    receiveBuffer: 32 << 20,
    receiveTimeout: 5000,
  });
  onTestFinished(() => socket[Symbol.dispose]());
  return socket;
}

/** A TCP segment, and the addresses that its checksum counts. */
interface Segment {
  source: Buffer;
  destination: Buffer;
  tcp: Buffer;
}

/** The TCP segment of an Ethernet frame. */
function segmentIn(bytes: Buffer): Segment | undefined {
  const type = bytes.readUInt16BE(12);
  return type === ETH_P_IP || type === ETH_P_IPV6 ? segmentOf(bytes.subarray(ETHERNET)) : undefined;
}

/** The TCP segment of an IP packet, behind options, extension headers and outer packets. Throws for a length that is wrong. */
function segmentOf(packet: Buffer): Segment | undefined {
  const four = (packet[0] as number) >> 4 === 4;
  expect(four ? packet.readUInt16BE(2) : 40 + packet.readUInt16BE(4)).toBe(packet.length);
  return four ? segmentOfIp4(packet) : segmentOfIp6(packet);
}

function segmentOfIp4(packet: Buffer): Segment | undefined {
  const header = ((packet[0] as number) & 15) * 4;
  expect(checksum(packet.subarray(0, header))).toBe(0);
  let destination = packet.subarray(16, 20);
  for (let at = 20; at < header && packet[at] !== 0; ) {
    const kind = packet[at] as number;
    const length = kind === 1 ? 1 : (packet[at + 1] as number);
    // LSRR and SSRR: the last address is the final one until the pointer has passed it (RFC 791).
    if ((kind === 0x83 || kind === 0x89) && (packet[at + 2] as number) <= length) {
      destination = packet.subarray(at + length - 4, at + length);
    }
    at += length;
  }
  const source = packet.subarray(12, 16);
  const transport = packet.subarray(header);
  if (packet[9] === TCP) return { source, destination, tcp: transport };
  if (packet[9] !== UDP || transport.readUInt16BE(2) !== VXLAN_PORT) return undefined;
  expect(transport.readUInt16BE(4)).toBe(transport.length);
  if (transport.readUInt16BE(6) !== 0) expect(sum(UDP, source, destination, transport)).toBe(0);
  // Behind UDP's header and VXLAN's comes a whole frame.
  return segmentIn(transport.subarray(8 + 8));
}

function segmentOfIp6(packet: Buffer): Segment | undefined {
  let destination = packet.subarray(24, 40);
  let [at, next] = [40, packet[6] as number];
  // Hop-by-hop options, routing header, destination options.
  while (next === 0 || next === 43 || next === 60) {
    // The list of segments stands in reverse: the first is the final destination (RFC 8754).
    if (next === 43 && (packet[at + 3] as number) > 0) destination = packet.subarray(at + 8, at + 24);
    next = packet[at] as number;
    at += 8 + 8 * (packet[at + 1] as number);
  }
  if (next === 41) return segmentOf(packet.subarray(at));
  if (next !== TCP) return undefined;
  return { source: packet.subarray(8, 24), destination, tcp: packet.subarray(at) };
}

/** The checksum over a pseudo header too: 0 where the one in the packet is right. */
function sum(protocol: number, source: Buffer, destination: Buffer, transport: Buffer): number {
  const pseudo = Buffer.alloc(8);
  pseudo.writeUInt32BE(transport.length, 0);
  pseudo.writeUInt32BE(protocol, 4);
  return checksum(Buffer.concat([source, destination, pseudo, transport]));
}

/** Enough for superpackets, and for those of BIG TCP; emulation takes ten times as long for each. */
const BYTES = EMULATED ? 300_000 : 3_000_000;
const BIG_BYTES = EMULATED ? 600_000 : 3_000_000;

/** What a socket at the far end saw of a connection from the near end. */
interface Seen {
  /** Bytes of data, each counted once. */
  bytes: number;
  longest: number;
  frames: Buffer[];
}

/** Pours data from the near end to `address`, and checks what a 'split' and a 'raw' socket see of it. */
async function poured(address: string, options?: Buffer, bytes = BYTES): Promise<{ split: Seen; raw: Seen }> {
  const [split, raw] = [open('split'), open('raw')].map((socket) => {
    const frames: Buffer[] = [];
    socket.on('message', (packet) => frames.push(packet));
    return { socket, frames };
  }) as [Opened, Opened];
  const result = await pour(near, far, address, bytes, options);
  expect(result).toEqual({ sent: result.received, received: result.sent, bytes });
  // What waits in the sockets yet has its turn.
  for (let before = -1; before !== split.frames.length + raw.frames.length; await setTimeout(50)) {
    before = split.frames.length + raw.frames.length;
  }
  for (const { socket } of [split, raw]) {
    const { errors, dropped, truncated } = socket.stats().received;
    expect({ errors, dropped, truncated }).toEqual({ errors: 0, dropped: 0, truncated: 0 });
  }
  expect(split.socket.stats().offload?.received).toBeGreaterThan(0);
  return { split: seen(split.frames, true), raw: seen(raw.frames, false) };
}

interface Opened {
  socket: PacketSocket;
  frames: Buffer[];
}

function seen(frames: Buffer[], whole: boolean): Seen {
  const starts = new Set<number>();
  const result: Seen = { bytes: 0, longest: 0, frames };
  for (const bytes of frames) {
    result.longest = Math.max(result.longest, bytes.length - ETHERNET);
    if (!whole) continue;
    const segment = segmentIn(bytes);
    if (segment === undefined || segment.tcp.readUInt16BE(2) !== 7) continue;
    expect(sum(TCP, segment.source, segment.destination, segment.tcp)).toBe(0);
    const start = segment.tcp.readUInt32BE(4);
    if (starts.has(start)) continue;
    const data = segment.tcp.length - ((segment.tcp[12] as number) >> 4) * 4;
    if (data > 0) starts.add(start);
    result.bytes += data;
  }
  return result;
}

/** Programs that are missing here, or a kernel without something. */
const SEG6 = 'the kernel has no segment routing';

describe.runIf(HAS_PYTHON)('superpackets that are cut behind more than an IP header', () => {
  it('with an IPv6 routing header put in by segment routing', async (context) => {
    const route = 'route add fd70::2/128 encap seg6 mode inline segs fd73::2 dev v0';
    const reason = failure(near, 'ip', '-6', ...route.split(' '));
    context.skip(reason !== undefined, `${SEG6}: ${reason}`);
    const { split, raw } = await poured('fd70::2');
    expect(raw.longest).toBeGreaterThan(MTU);
    expect([split.bytes, split.longest]).toEqual([BYTES, MTU]);
    expect(split.frames.some((bytes) => bytes[ETHERNET + 6] === 43)).toBe(true);
  });

  it('with an IPv6 routing header that the sender asks for', async () => {
    // struct ipv6_sr_hdr: type 4, one segment left, of [final, first].
    const header = Buffer.concat([
      Buffer.from([0, 4, 4, 1, 1, 0, 0, 0]),
      addressBytes('fd70::2'),
      addressBytes('fd73::2'),
    ]);
    const { split, raw } = await poured('fd70::2', header);
    expect(raw.longest).toBeGreaterThan(MTU);
    expect([split.bytes, split.longest]).toEqual([BYTES, MTU]);
    expect(split.frames.some((bytes) => bytes[ETHERNET + 6] === 43)).toBe(true);
  });

  it('in an outer IPv6 packet of segment routing', async (context) => {
    far.run(() => Link.get('v1')).addAddress('fd72::2/128');
    const route = 'route add fd72::/64 encap seg6 mode encap segs fd70::2 dev v0';
    const reason = failure(near, 'ip', '-6', ...route.split(' '));
    context.skip(reason !== undefined, `${SEG6}: ${reason}`);
    const { split, raw } = await poured('fd72::2');
    expect(raw.longest).toBeGreaterThan(MTU);
    expect([split.bytes, split.longest]).toEqual([BYTES, MTU]);
  });

  it.for(['noudpcsum', 'udpcsum'])('in a VXLAN: %s', async (sums, context) => {
    const add = (ns: Netns, device: string, from: string, to: string) =>
      failure(
        ns,
        'ip',
        ...`link add vx type vxlan id 7 dev ${device} local ${from} remote ${to} dstport ${VXLAN_PORT} ${sums}`.split(
          ' ',
        ),
      );
    const reason = add(near, 'v0', '10.7.0.1', '10.7.0.2') ?? add(far, 'v1', '10.7.0.2', '10.7.0.1');
    context.skip(reason !== undefined, `the kernel has no VXLAN: ${reason}`);
    for (const [ns, address] of [
      [near, '10.8.0.1/24'],
      [far, '10.8.0.2/24'],
    ] as const) {
      const link = ns.run(() => Link.get('vx'));
      link.addAddress(address);
      link.up();
    }
    const { split, raw } = await poured('10.8.0.2');
    expect(raw.longest).toBeGreaterThan(MTU);
    expect([split.bytes, split.longest]).toEqual([BYTES, MTU]);
  });

  it.each([
    ['LSRR', 0x83],
    ['SSRR', 0x89],
  ])('with a source route: %s', async (_, kind) => {
    const hops = ['10.7.0.2'].flatMap((hop) => [...addressBytes(hop)]);
    const { split, raw } = await poured('10.9.0.2', Buffer.from([kind, 3 + hops.length, 4, ...hops, 0]));
    expect(raw.longest).toBeGreaterThan(MTU);
    expect([split.bytes, split.longest]).toEqual([BYTES, MTU]);
    expect(split.frames.some((bytes) => ((bytes[ETHERNET] as number) & 15) > 5)).toBe(true);
  });
});

describe.runIf(HAS_PYTHON).each([
  ['IPv4', '10.7.0.2', VIRTIO_NET_HDR_GSO_TCPV4],
  ['IPv6', 'fd70::2', VIRTIO_NET_HDR_GSO_TCPV6],
] as const)('BIG TCP over %s', (_, address, gsoType) => {
  const BIG = 180_000;

  it('is taken whole in each mode, and cut exactly', async (context) => {
    const reason = allowBigTcp(near, 'v0', BIG) ?? allowBigTcp(far, 'v1', BIG);
    context.skip(reason !== undefined, `the kernel has no BIG TCP: ${reason}`);
    const none = open('none');
    let longest = 0;
    none.on('message', (packet, { size, flags }) => {
      expect([size, flags]).toEqual([packet.length, 0]);
      longest = Math.max(longest, packet.length);
    });
    const { split, raw } = await poured(address, undefined, BIG_BYTES);
    expect(longest).toBeGreaterThan(65535 + ETHERNET);
    expect(raw.longest).toBeGreaterThan(65535);
    expect([split.bytes, split.longest]).toEqual([BIG_BYTES, MTU]);
  });

  it('is taken by recvmsg and recvmmsg too', async (context) => {
    const reason = allowBigTcp(near, 'v0', BIG) ?? allowBigTcp(far, 'v1', BIG);
    context.skip(reason !== undefined, `the kernel has no BIG TCP: ${reason}`);
    const [split, raw] = [open('split'), open('raw')];
    await pour(near, far, address, BIG_BYTES);
    const batch = new PacketBatch({ capacity: 8, packetSize: BIG + 100 });
    let longest = 0;
    for (let left = raw.recvmmsg(batch); left > 0; left = raw.recvmmsg(batch, constants.MSG_DONTWAIT)) {
      for (let index = 0; index < batch.length; index++) {
        if (batch.info(index).size < longest) continue;
        expect(batch.info(index)).toMatchObject({ flags: 0 });
        longest = batch.info(index).size;
        if (longest > 65535 + ETHERNET) expect(batch.info(index).offload).toMatchObject({ gsoType });
      }
    }
    expect(longest).toBeGreaterThan(65535 + ETHERNET);
    const frames: Buffer[] = [];
    const bytes = Buffer.alloc(2048);
    for (let size = 0, idle = false; !idle; ) {
      try {
        size = split.recvmsg(bytes, constants.MSG_DONTWAIT).bytes;
        frames.push(Buffer.from(bytes.subarray(0, size)));
      } catch (error) {
        expect(error).toMatchObject({ code: 'EAGAIN' });
        idle = true;
      }
    }
    expect(seen(frames, true)).toMatchObject({ bytes: BIG_BYTES, longest: MTU });
  });
});

describe('superpackets whose checksums are finished', () => {
  const COUNT = 6;
  const SIZE = 1000;

  it('UDP that the receiver has merged is cut again', async (context) => {
    // The sender's interface cuts a superpacket, and hands the pieces over at once.
    const reason =
      failure(near, 'ethtool', '-K', 'v0', 'tx', 'off', 'tx-udp-segmentation', 'off') ??
      failure(far, 'ethtool', '-K', 'v1', 'gro', 'on', 'rx-gro-list', 'on');
    context.skip(reason !== undefined, `no ethtool with rx-gro-list: ${reason}`);
    const [raw, split] = [open('raw', ETH_P_IP), open('split', ETH_P_IP)];
    const sender = PacketSocket.open({ interface: 'v0', netns: near, protocol: 0, offload: 'raw' });
    onTestFinished(() => sender[Symbol.dispose]());
    const text = (index: number) => String(index).repeat(SIZE);
    const datagram = (data: string, options: UdpOptions) =>
      frame(ETH_P_IP, udpPacket(['10.7.0.1', 4000], ['10.7.0.2', 9], data, options), FAR_MAC, NEAR_MAC);
    const indices = Array.from({ length: COUNT }, (_, index) => index);
    sender.sendmsg(datagram(indices.map(text).join(''), { unfinished: true }), 0, {
      offload: {
        needsChecksum: true,
        checksumStart: ETHERNET + 20,
        checksumOffset: 6,
        gsoType: VIRTIO_NET_HDR_GSO_UDP_L4,
        gsoSize: SIZE,
      },
    });
    const bytes = Buffer.alloc(65536);
    const { size, offload } = raw.recvmsg(bytes);
    expect(size).toBe(ETHERNET + 28 + COUNT * SIZE);
    expect(offload).toMatchObject({
      gsoType: VIRTIO_NET_HDR_GSO_UDP_L4,
      needsChecksum: false,
      checksumValid: true,
    });
    for (const index of indices) {
      const received = bytes.subarray(0, split.recvmsg(bytes).bytes);
      expect(received).toEqual(datagram(text(index), { id: index }));
    }
    expect(split.stats()).toMatchObject({ offload: { received: 1 }, received: { errors: 0 } });
  });
});
