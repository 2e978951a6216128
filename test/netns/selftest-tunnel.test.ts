import { spawnSync } from 'node:child_process';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { constants, Netns, type PacketOffload, TunSocket, UdpSocket } from '../../dist';
import { codeOf } from '../helpers/device';
import { kernelHas } from '../helpers/kernel';
import { ethernetFrame, ipPacket, UDP, udpPacket } from '../helpers/packets';

/**
 * What the kernel's own selftests check of superpackets in UDP tunnels through a tap (tools/testing/selftests/net/tun.c, fixture
 * tun_vnet_udptnl), written anew against this package; each test has the name of its variant and case there. There the tunnel is GENEVE,
 * here VXLAN, which has a header of 8 bytes too, because more kernels have it. 'basic' is that the tunnel can be made: all here need it.
 *
 * Not expressed: virtio headers with gso_size 0 and a GSO type ('nogsosz'): PacketOffload has no such thing, and these cases send whole packets.
 */

const { VIRTIO_NET_HDR_GSO_UDP_L4, VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV4, VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV6 } =
  constants;
const { ETH_P_IP, ETH_P_IPV6, MSG_DONTWAIT } = constants;

const ETHERNET = 14;
const UDP_HEADER = 8;
const VXLAN_HEADER = 8;
const VXLAN_ID = 7;
const VXLAN_PORT = 4789;
const [SOURCE_PORT, DESTINATION_PORT] = [22, 48878];
/** This end's hardware address and the peer's, outside and inside of the tunnel. */
const OUTER = { own: '00:fe:98:94:d2:43', peer: '00:fe:98:14:22:42' };
const INNER = { own: '00:fe:98:94:d2:dd', peer: '00:fe:98:94:22:cc' };
const mac = (text: string) => Buffer.from(text.replaceAll(':', ''), 'hex');

/** What one IP version is called by inside or outside of the tunnel. */
interface Side {
  own: string;
  peer: string;
  prefix: number;
  header: number;
  type: number;
}
const v4 = (net: number): Side => ({
  own: `172.16.${net}.2`,
  peer: `172.16.${net}.1`,
  prefix: 24,
  header: 20,
  type: ETH_P_IP,
});
const v6 = (net: number): Side => ({
  own: `2002:db8:${net}::2`,
  peer: `2002:db8:${net}::1`,
  prefix: 64,
  header: 40,
  type: ETH_P_IPV6,
});
const VARIANTS = [
  { name: '4in4', inner: v4(1), outer: v4(0) },
  { name: '6in4', inner: v6(2), outer: v4(0) },
  { name: '4in6', inner: v4(1), outer: v6(1) },
  { name: '6in6', inner: v6(2), outer: v6(1) },
];

function ip(netns: Netns, command: string): string | undefined {
  const { error, status, stderr } = netns.run(() =>
    spawnSync('ip', command.split(' '), { encoding: 'utf8' }),
  );
  return error?.message ?? (status === 0 ? undefined : stderr.trim());
}

/** What keeps these tests from being run, if anything. */
function missing(): string | undefined {
  using netns = Netns.create();
  const failure = ip(netns, `link add vx type vxlan id 7 remote 10.0.0.1 dstport ${VXLAN_PORT}`);
  return failure === undefined ? undefined : `what needs a VXLAN: ${failure}`;
}
const unavailable = missing();
if (unavailable !== undefined) console.log(`skipped: ${unavailable}`);

/** Linux 6.17: TUN_F_UDP_TUNNEL_GSO and TUN_F_UDP_TUNNEL_GSO_CSUM. */
const HAS_TUNNELS = kernelHas(6, 17);
if (!HAS_TUNNELS) console.log('skipped: superpackets in UDP tunnels, which a tap has since Linux 6.17');

describe.runIf(unavailable === undefined).each(VARIANTS)('tun_vnet_udptnl $name', ({ inner, outer }) => {
  const headers = ETHERNET + outer.header + UDP_HEADER + VXLAN_HEADER;
  /** What of 1500 bytes is left to a datagram in the tunnel: all headers but the outer Ethernet header are within. */
  const mss = 1500 - (headers + inner.header + UDP_HEADER);
  const most = 65535 - (headers + inner.header + UDP_HEADER) - ETHERNET;

  let netns: Netns;
  let tap: TunSocket;
  let udp: UdpSocket;
  beforeEach(() => {
    netns = Netns.create();
    tap = TunSocket.open({
      mode: 'tap',
      multiQueue: true,
      offload: { mode: 'raw', features: ['csum', 'udp-tunnel', 'udp-tunnel-csum', 'uso4', 'uso6'] },
      mac: OUTER.own,
      address: { address: `${outer.own}/${outer.prefix}` },
      addressGeneration: 'none',
      netns,
      receiveTimeout: 5000,
    });
    netns.run(() => tap.link.addNeighbour(outer.peer, OUTER.peer));
    for (const command of [
      `link add vx address ${INNER.own} mtu 1500 type vxlan id ${VXLAN_ID} local ${outer.own} remote ${outer.peer} dstport ${VXLAN_PORT} udpcsum`,
      'link set vx addrgenmode none up',
      `address add ${inner.own}/${inner.prefix} dev vx${inner.type === ETH_P_IPV6 ? ' nodad' : ''}`,
      `link set vx mtu ${mss + inner.header + UDP_HEADER}`,
      `neighbour add ${inner.peer} lladdr ${INNER.peer} dev vx`,
    ]) {
      expect(ip(netns, command), command).toBeUndefined();
    }
    udp = UdpSocket.open({
      address: inner.own,
      port: SOURCE_PORT,
      netns,
      offload: 'raw',
      receiveBuffer: 1 << 20,
      receiveTimeout: 5000,
    });
  });
  afterEach(() => {
    udp.close();
    tap.close();
    netns.close();
  });

  it('the device has the features, or the kernel lacks them', () => {
    expect(tap.offloadFeatures?.filter((feature) => feature.startsWith('udp-tunnel'))).toEqual(
      HAS_TUNNELS ? ['udp-tunnel', 'udp-tunnel-csum'] : [],
    );
    if (!HAS_TUNNELS) expect(codeOf(() => tap.sendmsg(...tunnelled(2 * mss, mss)))).toBe('EINVAL');
  });

  const tunnelType =
    outer.type === ETH_P_IP ? VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV4 : VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV6;
  const gsoType = VIRTIO_NET_HDR_GSO_UDP_L4 | tunnelType;

  /** What the peer sends: `size` bytes in the tunnel, to be cut where there is a `gsoSize`. */
  function tunnelled(size: number, gsoSize: number): [Buffer, number, { offload?: Partial<PacketOffload> }] {
    const superpacket = gsoSize !== 0;
    const data = Buffer.alloc(size, 0xcb);
    const datagram = udpPacket([inner.peer, DESTINATION_PORT], [inner.own, SOURCE_PORT], data, {
      unfinished: superpacket,
    });
    const frame = ethernetFrame(mac(INNER.own), mac(INNER.peer), inner.type, datagram);
    const header = Buffer.from([0x08, 0, 0, 0, 0, 0, VXLAN_ID, 0]);
    const addresses = [
      [outer.peer, SOURCE_PORT],
      [outer.own, VXLAN_PORT],
    ] as const;
    const around = udpPacket([...addresses[0]], [...addresses[1]], Buffer.concat([header, frame]), {
      unfinished: superpacket,
    });
    const bytes = ethernetFrame(mac(OUTER.own), mac(OUTER.peer), outer.type, around);
    if (!superpacket) return [bytes, 0, {}];
    const innerNetworkOffset = headers + ETHERNET;
    const offload = {
      needsChecksum: true,
      checksumStart: innerNetworkOffset + inner.header,
      checksumOffset: 6,
      headerLength: innerNetworkOffset + inner.header + UDP_HEADER,
      gsoType,
      gsoSize,
      outerNeedsChecksum: true,
      outerTransportOffset: ETHERNET + outer.header,
      innerNetworkOffset,
    };
    return [bytes, 0, { offload }];
  }

  /** Payloads of the datagrams in `frame`, or undefined for what is no packet of the tunnel. */
  function payloadOf(frame: Buffer): number | undefined {
    if (frame.readUInt16BE(12) !== outer.type) return undefined;
    const around = frame.subarray(ETHERNET);
    if (around[outer.header === 20 ? 9 : 6] !== UDP) return undefined;
    if (around.readUInt16BE(outer.header + 2) !== VXLAN_PORT) return undefined;
    const within = around.subarray(outer.header + UDP_HEADER + VXLAN_HEADER + ETHERNET);
    if (within[inner.header === 20 ? 9 : 6] !== UDP) return undefined;
    if (within.readUInt16BE(inner.header + 2) !== DESTINATION_PORT) return undefined;
    return within.length - inner.header - UDP_HEADER;
  }

  /** Sizes of what is to be sent, of the segments (0: none), and how many datagrams arrive. `whole`: it is one packet. */
  const CASES: [string, { size: number; gso: number; count: number; whole?: boolean }][] = [
    ['nogsosz_1byte', { size: 1, gso: 0, count: 1, whole: true }],
    ['nogsosz_1mss', { size: mss, gso: 0, count: 1, whole: true }],
    ['1byte', { size: 1, gso: 1, count: 1, whole: true }],
    ['1mss', { size: mss, gso: mss, count: 1, whole: true }],
    ['ltgso', { size: mss, gso: mss + 1, count: 1, whole: true }],
    ['gtgso', { size: mss + 1, gso: mss, count: 2 }],
    ['2mss', { size: 2 * mss, gso: mss, count: 2 }],
    ['maxbytes', { size: most, gso: mss, count: Math.floor(most / mss) + 1 }],
    ['maxsegs', { size: 128, gso: 1, count: 128 }],
    ['5byte', { size: 5, gso: 2, count: 3 }],
  ];

  it.runIf(HAS_TUNNELS).each(CASES)('send_gso_packet %s', (_, { size, gso, count }) => {
    const message = tunnelled(size, gso);
    expect(tap.sendmsg(...message)).toBe(message[0].length);
    const data = Buffer.alloc(65535);
    let [sum, datagrams] = [0, 0];
    while (sum < size) {
      // What UDP_GRO has put together counts as what it was.
      const { bytes, segmentSize } = udp.recvmsg(data);
      expect(data.subarray(0, bytes)).toEqual(Buffer.alloc(bytes, 0xcb));
      sum += bytes;
      datagrams += segmentSize === undefined || segmentSize === 0 ? 1 : Math.ceil(bytes / segmentSize);
    }
    expect([sum, datagrams]).toEqual([size, count]);
    expect(() => udp.recvmsg(data, MSG_DONTWAIT)).toThrow(expect.objectContaining({ code: 'EAGAIN' }));
  });

  it.runIf(HAS_TUNNELS)('send_gso_packet nogsosz_gtmss: nobody asks for the mtu of what is received', () => {
    tap.sendmsg(...tunnelled(mss + 1, 0));
    expect(udp.recvmsg(Buffer.alloc(2048)).bytes).toBe(mss + 1);
  });

  it('send_gso_packet over_maxbytes (expected to fail)', () => {
    const bytes = Buffer.alloc(headers + ETHERNET + inner.header + UDP_HEADER + 65535);
    ipPacket(UDP, outer.peer, outer.own, Buffer.alloc(100)).copy(bytes, ETHERNET);
    expect(codeOf(() => tap.sendmsg(bytes))).toBe('EMSGSIZE');
  });

  it.runIf(HAS_TUNNELS).each(CASES)('recv_gso_packet %s', (_, { size, gso, whole = false }) => {
    const to = { address: inner.peer, port: DESTINATION_PORT };
    expect(udp.sendmsg(Buffer.alloc(size), 0, gso === 0 ? { to } : { to, segmentSize: gso })).toBe(size);
    const data = Buffer.alloc(65535 + ETHERNET);
    let sum = 0;
    while (sum < size) {
      const { bytes, offload } = tap.recvmsg(data);
      const payload = payloadOf(data.subarray(0, bytes));
      if (payload === undefined) continue;
      sum += payload;
      if (!whole) expect([offload?.gsoType, offload?.gsoSize]).toEqual([gsoType, gso]);
    }
    expect(sum).toBe(size);
  });

  it('recv_gso_packet nogsosz_gtmss and over_maxbytes (expected to fail)', () => {
    using strict = UdpSocket.open({
      address: inner.own,
      port: SOURCE_PORT + 1,
      netns,
      offload: 'raw',
      pathMtuDiscovery: 'do',
    });
    const to = { address: inner.peer, port: DESTINATION_PORT };
    expect(codeOf(() => strict.sendmsg(Buffer.alloc(mss + 1), 0, { to }))).toBe('EMSGSIZE');
    const over = () => strict.sendmsg(Buffer.alloc(65535), 0, { to, segmentSize: mss });
    expect(codeOf(over)).toBe('EMSGSIZE');
  });
});
