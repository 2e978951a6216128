import type { PacketOffload } from '../../dist';
import { constants } from '../../dist';
import { addressBytes, checksum, ipPacket, TCP, tcpPacket, UDP, udpPacket } from './packets';

/** A corpus of malformed and unusual packets, each with what its sender says is to be done to it. */

export const ETHERNET = 14;
const IPIP = 4;
const IPV6 = 41;
const GRE = 47;
const SCTP = 132;
const HOP_BY_HOP = 0;
const ROUTING = 43;
const FRAGMENT = 44;
const AUTHENTICATION = 51;
const DESTINATION = 60;
const { VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_TCPV6, VIRTIO_NET_HDR_GSO_UDP_L4 } = constants;
const GSO_ECN = 0x80;
const GSO_UFO = 3;

/**
 * What 'split' makes of a packet. 'as the kernel': the same bytes. 'dropped': the superpacket is not what it says (its lengths are others, or
 * it is a fragment); the kernel's segmentation looks at none of that and writes over it. 'unfinished': the end is missing, so that the
 * checksum is left to be made, where it is no superpacket. 'fragmented': by the kernel, with an identification that it draws.
 */
export type Verdict = 'as the kernel' | 'dropped' | 'unfinished' | 'fragmented';

export interface Hostile {
  name: string;
  /** An IP packet, or what claims to be one. */
  packet: Buffer;
  offload: Partial<PacketOffload>;
  verdict: Verdict;
}

const ADDRESSES = {
  4: ['10.0.0.1', '10.0.0.2'],
  6: ['fd00::1', 'fd00::2'],
} as const;

/** A packet of `version` for an interface of that `mtu`: five and a bit segments, which fit it. */
class Maker {
  readonly #out: Hostile[] = [];
  readonly #ip: number;
  readonly size: number;

  constructor(
    readonly version: 4 | 6,
    mtu: number,
  ) {
    this.#ip = version === 4 ? 20 : 40;
    this.size = Math.max(8, Math.min(mtu - this.#ip - 60, 8000));
  }

  get all(): Hostile[] {
    return this.#out;
  }

  add(
    name: string,
    packet: Buffer,
    offload: Partial<PacketOffload> = {},
    verdict: Verdict = 'as the kernel',
  ): void {
    this.#out.push({ name: `IPv${this.version}: ${name}`, packet, offload, verdict });
  }

  payload(segments = 5.3): Buffer {
    return Buffer.from(
      Array.from({ length: Math.floor(this.size * segments) }, (_, index) => (index * 7) ^ (index >> 8)),
    );
  }

  tcp(flags = 0x10, payload = this.payload(), unfinished = true): Buffer {
    const [from, to] = ADDRESSES[this.version];
    return tcpPacket([from, 4000], [to, 5000], payload, {
      sequence: 0xffffff00,
      id: 0xfffe,
      flags,
      unfinished,
    });
  }

  udp(payload = this.payload(), unfinished = true): Buffer {
    const [from, to] = ADDRESSES[this.version];
    return udpPacket([from, 4000], [to, 5000], payload, { id: 0xfffe, unfinished });
  }

  gso(protocol: number, ip = this.#ip, change: Partial<PacketOffload> = {}): Partial<PacketOffload> {
    const tcpType = this.version === 4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6;
    return {
      needsChecksum: true,
      checksumStart: ETHERNET + ip,
      checksumOffset: protocol === TCP ? 16 : 6,
      gsoType: protocol === TCP ? tcpType : VIRTIO_NET_HDR_GSO_UDP_L4,
      gsoSize: this.size,
      headerLength: ETHERNET + ip + (protocol === TCP ? 20 : 8),
      ...change,
    };
  }

  /** The packet with bytes put between its IP header and its transport, whose lengths and sums are mended. */
  with(packet: Buffer, extra: Buffer, protocol?: number): Buffer {
    const head = Buffer.from(packet.subarray(0, this.#ip));
    if (this.version === 4) {
      head.writeUInt8(0x45 + extra.length / 4, 0);
      head.writeUInt16BE(packet.length + extra.length, 2);
      head.writeUInt16BE(0, 10);
      head.writeUInt16BE(checksum(Buffer.concat([head, extra])), 10);
    } else {
      head.writeUInt16BE(packet.length + extra.length - 40, 4);
      head.writeUInt8(protocol as number, 6);
    }
    return Buffer.concat([head, extra, packet.subarray(this.#ip)]);
  }

  /** The packet with some bytes written over others; IPv4's checksum is mended. */
  changed(packet: Buffer, at: number, ...bytes: number[]): Buffer {
    const copy = Buffer.from(packet);
    bytes.forEach((byte, index) => {
      copy[at + index] = byte;
    });
    if (this.version === 6) return copy;
    copy.writeUInt16BE(0, 10);
    copy.writeUInt16BE(checksum(copy.subarray(0, 20)), 10);
    return copy;
  }
}

function options(maker: Maker): void {
  const { version } = maker;
  if (version === 4) {
    for (const [name, extra] of [
      ['no-operation options', [1, 1, 1, 0]],
      ['LSRR with hops to go', [0x83, 7, 4, 10, 9, 9, 9, 0]],
      ['SSRR that is exhausted', [0x89, 7, 8, 10, 9, 9, 9, 0]],
      ['an option of no length', [0x83, 0, 0, 0]],
      ['an option that is longer than all', [7, 255, 4, 0]],
      ['40 bytes of options', Array(40).fill(1)],
    ] as const) {
      const bytes = Buffer.from(extra);
      maker.add(`TCP, ${name}`, maker.with(maker.tcp(), bytes), maker.gso(TCP, 20 + bytes.length));
      maker.add(`UDP, ${name}`, maker.with(maker.udp(), bytes), maker.gso(UDP, 20 + bytes.length));
    }
    return;
  }
  const address = addressBytes('fd00::99');
  const chain = (next: number, ...headers: number[][]) =>
    Buffer.concat(
      headers.map((header, index) => {
        const follows = headers[index + 1];
        return Buffer.from([follows?.[0] ?? next, ...header.slice(1)]);
      }),
    );
  const hop = [HOP_BY_HOP, 0, 1, 4, 0, 0, 0, 0];
  const destination = [DESTINATION, 0, 1, 4, 0, 0, 0, 0];
  const routing = (type: number, left: number) => [ROUTING, 2, type, left, 0, 0, 0, 0, ...address];
  const jumbo = [HOP_BY_HOP, 0, 0xc2, 4, 0, 1, 0, 0];
  for (const [name, ...headers] of [
    ['hop-by-hop options', hop],
    ['destination options', destination],
    ['a routing header of type 0', routing(0, 1)],
    ['a routing header of type 2', routing(2, 1)],
    ['a segment routing header', routing(4, 1)],
    ['a segment routing header at its end', routing(4, 0)],
    ['a routing header of no known type', routing(99, 7)],
    ['all of them', hop, destination, routing(4, 1), destination],
    ['hop-by-hop options in the middle', destination, hop],
    ['a fragment header of a whole packet', [FRAGMENT, 0, 0, 0, 0, 0, 0, 1]],
    ['a fragment header behind a routing header', routing(4, 1), [FRAGMENT, 0, 0, 1, 0, 0, 0, 1]],
    ['an authentication header', [AUTHENTICATION, 4, 0, 0, ...Array(20).fill(1)]],
    ['a jumbo payload length that lies', jumbo],
  ] as [string, ...number[][]][]) {
    for (const protocol of [TCP, UDP]) {
      const bytes = chain(protocol, ...headers);
      const packet = maker.with(
        protocol === TCP ? maker.tcp() : maker.udp(),
        bytes,
        headers[0]?.[0] as number,
      );
      maker.add(
        `${protocol === TCP ? 'TCP' : 'UDP'}, ${name}`,
        packet,
        maker.gso(protocol, 40 + bytes.length),
      );
    }
  }
}

/** Lengths, offsets and types that lie. */
function lies(maker: Maker): void {
  const { version } = maker;
  const ip = version === 4 ? 20 : 40;
  const length = version === 4 ? 2 : 4;
  const [tcp, udp] = [maker.tcp(), maker.udp()];
  for (const [name, protocol, packet] of [
    ['TCP', TCP, tcp],
    ['UDP', UDP, udp],
  ] as const) {
    const gso = (change: Partial<PacketOffload> = {}) => maker.gso(protocol, ip, change);
    const ufo = protocol === UDP && version === 6 ? 'fragmented' : 'as the kernel';
    // In TCP it means all that there is (BIG TCP).
    const zero = protocol === TCP ? 'as the kernel' : 'dropped';
    maker.add(name, packet, gso());
    maker.add(`${name}, no superpacket`, packet, gso({ gsoType: 0, gsoSize: 0 }));
    maker.add(`${name}, ECN`, packet, gso({ gsoType: (gso().gsoType as number) | GSO_ECN }));
    maker.add(`${name}, UFO`, packet, gso({ gsoType: GSO_UFO }), ufo);
    maker.add(`${name}, segments of no size`, packet, gso({ gsoSize: 0 }));
    maker.add(`${name}, segments of one byte`, short(maker, protocol), gso({ gsoSize: 1 }));
    maker.add(`${name}, larger than the packet`, packet, gso({ gsoSize: 65535 }));
    maker.add(`${name}, a hint that lies`, packet, gso({ headerLength: 3 }));
    maker.add(`${name}, its length is too long`, maker.changed(packet, length, 0xff, 0xff), gso(), 'dropped');
    maker.add(`${name}, its length is too short`, maker.changed(packet, length, 0, 60), gso(), 'dropped');
    maker.add(`${name}, its length is 0`, maker.changed(packet, length, 0, 0), gso(), zero);
    maker.add(`${name}, its checksum starts elsewhere`, packet, gso({ checksumStart: ETHERNET + 4 }));
    maker.add(`${name}, its checksum is elsewhere`, packet, gso({ checksumOffset: 2 }));
    maker.add(`${name}, its checksum is behind its end`, packet, gso({ checksumStart: 65000 }));
    maker.add(`${name}, its other type`, packet, maker.gso(protocol === TCP ? UDP : TCP));
    maker.add(`${name}, another protocol`, maker.changed(packet, version === 4 ? 9 : 6, 1), gso());
    maker.add(`${name}, cut`, packet.subarray(0, ip + 30), gso(), 'unfinished');
    maker.add(`${name}, cut in its header`, packet.subarray(0, ip + 6), gso());
    maker.add(`${name}, padded`, Buffer.concat([packet, Buffer.alloc(7)]), gso(), 'dropped');
    maker.add(`${name}, of version 5`, maker.changed(packet, 0, 0x55), gso(), 'dropped');
  }
  for (const flags of [0x01, 0x02, 0x04, 0x08, 0x18, 0x19, 0x20, 0x40, 0x80, 0xc0, 0xd9, 0xff, 0x00]) {
    maker.add(`TCP, flags ${flags.toString(16)}`, maker.tcp(flags), maker.gso(TCP));
  }
  maker.add('TCP, a header of 16 bytes', maker.changed(tcp, ip + 12, 0x40), maker.gso(TCP));
  maker.add('TCP, a header of 60 bytes', maker.changed(tcp, ip + 12, 0xf0), maker.gso(TCP));
  maker.add('UDP, a length that lies', maker.changed(udp, ip + 4, 0, 9), maker.gso(UDP), 'dropped');
  maker.add('UDP, a length of 0', maker.changed(udp, ip + 4, 0, 0), maker.gso(UDP), 'dropped');
  maker.add('UDP, no payload', maker.udp(Buffer.alloc(0)), maker.gso(UDP));
  maker.add('TCP, no payload', maker.tcp(0x10, Buffer.alloc(0)), maker.gso(TCP));
  maker.add('TCP, a seed that is wrong', maker.changed(tcp, ip + 16, 0xab, 0xcd), maker.gso(TCP));
  maker.add('UDP, a seed that is wrong', maker.changed(udp, ip + 6, 0xab, 0xcd), maker.gso(UDP));
  if (version === 4) {
    maker.add('an IPv4 header of 16 bytes', maker.changed(tcp, 0, 0x44), maker.gso(TCP));
    maker.add('an IPv4 header of 60 bytes', maker.changed(tcp, 0, 0x4f), maker.gso(TCP));
    maker.add('the first fragment', maker.changed(tcp, 6, 0x20, 0), maker.gso(TCP), 'dropped');
    maker.add('a later fragment', maker.changed(udp, 6, 0, 5), maker.gso(UDP), 'dropped');
    maker.add('the reserved bit', maker.changed(tcp, 6, 0xc0, 0), maker.gso(TCP));
    maker.add('a wrong IPv4 checksum', Buffer.from(tcp).fill(0x99, 10, 12), maker.gso(TCP));
  }
}

function short(maker: Maker, protocol: number): Buffer {
  const payload = Buffer.from('hostile!');
  return protocol === TCP ? maker.tcp(0x10, payload) : maker.udp(payload);
}

/** What the kernel takes only as single packets: nobody says how to cut it. */
function singles(maker: Maker): void {
  const [from, to] = ADDRESSES[maker.version];
  const ip = maker.version === 4 ? 20 : 40;
  const small = Buffer.from('hostile!');
  maker.add('TCP, finished', maker.tcp(0x18, small, false));
  maker.add('UDP, finished', maker.udp(small, false));
  maker.add('UDP without a checksum', maker.changed(maker.udp(small, false), ip + 6, 0, 0));
  const inner = ipPacket(maker.version === 4 ? IPIP : IPV6, from, to, maker.tcp(0x18, small, false));
  maker.add('a tunnel', inner);
  maker.add(
    'tunnels in tunnels in tunnels',
    [1, 2, 3, 4].reduce((packet) => ipPacket(maker.version === 4 ? IPIP : IPV6, from, to, packet), inner),
  );
  maker.add(
    'GRE',
    ipPacket(GRE, from, to, Buffer.concat([Buffer.from([0, 0, 8, 0]), maker.tcp(0x18, small, false)])),
  );
  maker.add(
    'SCTP',
    ipPacket(SCTP, from, to, Buffer.concat([Buffer.from('0b590b5900000e5000000000', 'hex'), small])),
  );
  maker.add('nothing but a header', ipPacket(59, from, to, Buffer.alloc(0)));
  maker.add('rubbish', Buffer.from('hostile packets say what they like'));
}

/** The whole corpus for an interface of that mtu. */
export function corpus(version: 4 | 6, mtu: number): Hostile[] {
  const maker = new Maker(version, mtu);
  options(maker);
  lies(maker);
  singles(maker);
  return maker.all;
}
