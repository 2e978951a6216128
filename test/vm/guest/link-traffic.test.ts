import { execFileSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { constants, Link, type LinkOptions, Netns, PacketSocket, TunSocket, UdpSocket } from '../../../dist';
import { ip } from '../../helpers/namespaces';
import { program } from '../../helpers/optional';
import { addressBytes, ethernetFrame, udpPacket } from '../../helpers/packets';
import { FAR_MAC, frame, NEAR_MAC, untilRunning } from '../../helpers/pair';

const { ETH_P_ALL, MSG_DONTWAIT } = constants;
const TEST = 0x88b5;
const GRE = 47;
const SIT = 41;
const UDP = 17;
const PORT = 9999;
const OTHER_MAC = '02:00:00:00:00:03';

/** Two hosts with a cable between, v0 and v1; and sockets on them. */
let near: Netns;
let far: Netns;
let opened: Disposable[];

function kept<S extends Disposable>(one: S): S {
  opened.push(one);
  return one;
}

/** A namespace in which new interfaces say nothing by themselves. */
function host(): Netns {
  const ns = kept(Netns.create());
  ns.run(() => writeFileSync('/proc/sys/net/ipv6/conf/default/addr_gen_mode', '1'));
  return ns;
}

beforeEach(() => {
  opened = [];
  near = host();
  far = host();
  const link = near.run(() =>
    Link.create({ type: 'veth', name: 'v0', mac: NEAR_MAC, peer: { name: 'v1', netns: far } }),
  );
  const other = far.run(() => Link.get('v1'));
  other.mac = FAR_MAC;
  for (const end of [link, other]) end.up();
  for (const end of [link, other]) untilRunning(end);
  link.addAddress('10.1.0.1/24');
  other.addAddress('10.1.0.2/24');
});
afterEach(() => {
  for (const one of opened.reverse()) one[Symbol.dispose]();
});

const udp = (ns: Netns, options: Parameters<typeof UdpSocket.open>[0]) =>
  kept(ns.run(() => UdpSocket.open({ receiveTimeout: 10_000, ...options })));

/** A datagram there and its answer back; who the far end saw. */
function roundTrip(from: Netns, to: string, at = far, options: Parameters<typeof UdpSocket.open>[0] = {}) {
  const family = to.includes(':') ? 6 : 4;
  const a = udp(from, { family, ...options });
  const b = udp(at, { family, address: to, port: PORT });
  a.sendmsg(Buffer.from('there'), 0, { to: { address: to, port: PORT } });
  const buffer = Buffer.alloc(100);
  const { size, from: seen } = b.recvmsg(buffer);
  expect(buffer.toString('latin1', 0, size)).toBe('there');
  b.sendmsg(Buffer.from('and back'), 0, { to: seen });
  const answer = a.recvmsg(buffer);
  expect(buffer.toString('latin1', 0, answer.size)).toBe('and back');
  expect(answer.from).toMatchObject({ address: to, port: PORT });
  a.close();
  b.close();
  return seen.address;
}

/** All that has come to v1 until now. */
function cable() {
  const tap = kept(
    PacketSocket.open({ interface: 'v1', netns: far, protocol: ETH_P_ALL, receiveBuffer: 1 << 20 }),
  );
  return () => {
    const frames: { bytes: Buffer; vlan: number | undefined; source: string }[] = [];
    for (;;) {
      const buffer = Buffer.alloc(2048);
      try {
        const { size, vlan } = tap.recvmsg(buffer, MSG_DONTWAIT);
        const bytes = buffer.subarray(0, size);
        frames.push({ bytes, vlan: vlan?.id, source: bytes.toString('hex', 6, 12) });
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
        return frames;
      }
    }
  };
}

/** IPv4 packets of a protocol among frames, each from its header's end on. */
const inside = (frames: { bytes: Buffer }[], protocol: number) =>
  frames
    .map(({ bytes }) => bytes)
    .filter((bytes) => bytes.readUInt16BE(12) === 0x0800 && bytes[14 + 9] === protocol)
    .map((bytes) => bytes.subarray(34));

describe('traffic goes through', () => {
  /** The same kind of link at both ends, with these addresses. */
  function both(
    options: (link: string, local: string, remote: string) => LinkOptions,
    addresses: [string, string],
    length: number,
  ) {
    near.run(() =>
      Link.create({
        ...options('v0', '10.1.0.1', '10.1.0.2'),
        address: `${addresses[0]}/${length}`,
        up: true,
      }),
    );
    far.run(() =>
      Link.create({
        ...options('v1', '10.1.0.2', '10.1.0.1'),
        address: `${addresses[1]}/${length}`,
        up: true,
      }),
    );
  }

  it('a vlan, with its tag on the cable', () => {
    both((link) => ({ type: 'vlan', name: 'made', link, id: 42 }), ['10.2.0.1', '10.2.0.2'], 24);
    const frames = cable();
    expect(roundTrip(near, '10.2.0.2')).toBe('10.2.0.1');
    const seen = frames();
    expect(seen.length).toBeGreaterThan(0);
    expect(new Set(seen.map(({ vlan }) => vlan))).toEqual(new Set([42]));
  });

  it('a vxlan, in UDP with its number', () => {
    both(
      (_, local, remote) => ({ type: 'vxlan', name: 'made', id: 70_000, local, remote, port: 4790 }),
      ['10.3.0.1', '10.3.0.2'],
      24,
    );
    const frames = cable();
    expect(roundTrip(near, '10.3.0.2')).toBe('10.3.0.1');
    const outer = inside(frames(), UDP);
    expect(outer.length).toBeGreaterThan(0);
    for (const packet of outer) {
      expect(packet.readUInt16BE(2)).toBe(4790);
      // RFC 7348: flags, 24 bits nobody uses, the VNI, 8 more.
      expect(packet.readUInt32BE(8 + 4) >>> 8).toBe(70_000);
    }
  });

  it('a gre tunnel, with its key', () => {
    both(
      (_, local, remote) => ({ type: 'gre', name: 'made', local, remote, id: 0xabcd }),
      ['10.4.0.1', '10.4.0.2'],
      24,
    );
    const frames = cable();
    expect(roundTrip(near, '10.4.0.2')).toBe('10.4.0.1');
    const [packet] = inside(frames(), GRE) as [Buffer];
    // RFC 2890: the key bit, IPv4 inside, the key.
    expect(packet.readUInt16BE(0)).toBe(0x2000);
    expect(packet.readUInt16BE(2)).toBe(0x0800);
    expect(packet.readUInt32BE(4)).toBe(0xabcd);
  });

  it('a sit tunnel: IPv6 in IPv4', () => {
    both((_, local, remote) => ({ type: 'sit', name: 'made', local, remote }), ['fd05::1', 'fd05::2'], 64);
    const frames = cable();
    expect(roundTrip(near, 'fd05::2')).toBe('fd05::1');
    const [packet] = inside(frames(), SIT) as [Buffer];
    expect(packet.readUInt8(0) >> 4).toBe(6);
    expect(packet.subarray(8, 24)).toEqual(addressBytes('fd05::1'));
  });

  it.each([
    ['macvlan', OTHER_MAC, 'bridge'],
    ['ipvlan', NEAR_MAC, 'l2'],
  ] as const)('a %s of another namespace, with the hardware address %s', (type, mac, mode) => {
    const inner = host();
    const link = near.run(() => {
      const options = { name: 'made', link: 'v0', ...(type === 'macvlan' ? { mac } : {}) };
      return Link.create({ type, mode, ...options } as LinkOptions);
    });
    link.moveTo(inner);
    link.addAddress('10.1.0.3/24');
    link.up();
    const frames = cable();
    expect(roundTrip(inner, '10.1.0.2')).toBe('10.1.0.3');
    const sources = new Set(frames().map(({ source }) => source));
    expect(sources).toEqual(new Set([mac, FAR_MAC].map((text) => text.replaceAll(':', ''))));
  });

  it('an ipvlan of mode l3: only what is for its address comes in', () => {
    const inner = host();
    const link = near.run(() => Link.create({ type: 'ipvlan', name: 'made', link: 'v0' }));
    expect(near.run(() => ip('-d', 'link', 'show', 'made'))).toContain('mode l3');
    link.moveTo(inner);
    link.addAddress('10.6.0.1/24');
    link.up();
    link.addRoute('0.0.0.0/0');
    // Nobody answers ARP for it: RFC 826 is what l3 leaves to the host that carries it.
    const other = far.run(() => Link.get('v1'));
    other.addRoute({ destination: '10.6.0.0/24' });
    other.addNeighbour('10.6.0.1', NEAR_MAC);
    expect(roundTrip(inner, '10.1.0.2')).toBe('10.6.0.1');
  });

  it.each(['macvtap', 'ipvtap'] as const)('a %s, which TunSocket opens by its character device', (type) => {
    const mac = type === 'macvtap' ? OTHER_MAC : NEAR_MAC;
    const link = near.run(() => {
      // Character devices are the whole host's, by the index alone: one that no other namespace has.
      for (let index = 0; index < 60; index++) Link.create({ type: 'bridge', name: `other${index}` });
      const options = { name: 'made', link: 'v0', address: '10.1.0.3/24', up: true };
      return type === 'macvtap'
        ? Link.create({ type, mac, ...options })
        : Link.create({ type, mode: 'l2', ...options });
    });
    const tap = kept(
      TunSocket.open({
        mode: 'tap',
        name: 'made',
        netns: near,
        device: link.device as string,
        receiveTimeout: 10_000,
      }),
    );
    const peer = kept(
      PacketSocket.open({ interface: 'v1', netns: far, protocol: TEST, receiveTimeout: 10_000 }),
    );
    const out = frame(TEST, Buffer.alloc(50, 7), FAR_MAC, mac);
    expect(tap.sendmsg(out)).toBe(out.length);
    const buffer = Buffer.alloc(2048);
    expect(buffer.subarray(0, peer.recvmsg(buffer).size)).toEqual(out);
    // An ipvtap takes what is for its IP address, whatever the port of the hardware address.
    const [destination, source] = [mac, FAR_MAC].map((text) =>
      Buffer.from(text.replaceAll(':', ''), 'hex'),
    ) as [Buffer, Buffer];
    const packet = udpPacket(['10.1.0.2', 5], ['10.1.0.3', 6], 'to the tap');
    const into = ethernetFrame(destination, source, 0x0800, packet);
    peer.sendmsg(into);
    let size: number;
    do ({ size } = tap.recvmsg(buffer));
    while (!buffer.subarray(0, size).includes('to the tap'));
    expect(buffer.subarray(0, size)).toEqual(into);
  });

  it('a wireguard link that has been given keys and peers, and no other', () => {
    const KEY = '/tmp/wg-key';
    const wg = (ns: Netns, words: string[], input = '') =>
      ns.run(() => execFileSync(program('wg'), words, { input, encoding: 'utf8' }));
    const ends = [
      { ns: near, link: '10.1.0.1', inner: '10.8.0.1' },
      { ns: far, link: '10.1.0.2', inner: '10.8.0.2' },
    ].map((end) => {
      const link = end.ns.run(() =>
        Link.create({ type: 'wireguard', name: 'wg0', address: `${end.inner}/24`, up: true }),
      );
      expect(link.type).toBe('wireguard');
      expect(wg(end.ns, ['show', 'interfaces'])).toBe('wg0\n');
      // Raw keys are the end of their DER (RFC 8410).
      const { privateKey, publicKey } = generateKeyPairSync('x25519');
      return {
        ...end,
        secret: privateKey.export({ format: 'der', type: 'pkcs8' }).subarray(-32).toString('base64'),
        key: publicKey.export({ format: 'der', type: 'spki' }).subarray(-32).toString('base64'),
      };
    });
    // ENOKEY (drivers/net/wireguard/device.c): no peer for that address.
    const alone = udp(near, {});
    expect(() => alone.sendmsg(Buffer.from('x'), 0, { to: { address: '10.8.0.2', port: PORT } })).toThrow(
      expect.objectContaining({ errno: -126 }),
    );
    const [a, b] = ends as [(typeof ends)[0], (typeof ends)[0]];
    for (const [own, other] of [
      [a, b],
      [b, a],
    ] as const) {
      const peer = ['peer', other.key, 'endpoint', `${other.link}:51820`, 'allowed-ips', `${other.inner}/32`];
      const words = ['set', 'wg0', 'listen-port', '51820', 'private-key', KEY, ...peer];
      // A file, since standard input is a socket, which fopen(3) does not take.
      writeFileSync(KEY, `${own.secret}\n`, { mode: 0o600 });
      wg(own.ns, words);
    }
    const frames = cable();
    expect(roundTrip(near, '10.8.0.2')).toBe('10.8.0.1');
    const outer = inside(frames(), UDP);
    expect(outer.length).toBeGreaterThan(0);
    for (const packet of outer) {
      expect(packet.readUInt16BE(2)).toBe(51820);
      expect(packet.includes('there')).toBe(false);
    }
  });
});

it('a vrf: its ports have a table of routes of their own', () => {
  const { vrf, link } = near.run(() => ({
    vrf: Link.create({ type: 'vrf', name: 'made', table: 51820, up: true }),
    link: Link.get('v0'),
  }));
  link.setMaster(vrf);
  expect(link.master?.index).toBe(vrf.index);
  expect(link.routes({ table: 51820 })).toContainEqual(
    expect.objectContaining({ destination: '10.1.0.0/24', table: 51820 }),
  );
  expect(link.routes({ table: 254 })).toEqual([]);
  const outside = udp(near, {});
  expect(() => outside.sendmsg(Buffer.from('x'), 0, { to: { address: '10.1.0.2', port: PORT } })).toThrow(
    expect.objectContaining({ code: 'ENETUNREACH' }),
  );
  expect(roundTrip(near, '10.1.0.2', far, { interface: 'made' })).toBe('10.1.0.1');
  link.setMaster(null);
  expect(roundTrip(near, '10.1.0.2')).toBe('10.1.0.1');
});

it('an ifb gets what is redirected to it, and impairs what comes in', () => {
  const ifb = near.run(() => {
    const made = Link.create({ type: 'ifb', name: 'made', up: true });
    const tc = (...words: string[]) => execFileSync(program('tc'), words);
    tc('qdisc', 'add', 'dev', 'v0', 'ingress');
    const redirect = ['action', 'mirred', 'egress', 'redirect', 'dev', 'made'];
    tc('filter', 'add', 'dev', 'v0', 'parent', 'ffff:', 'protocol', 'ip', 'matchall', ...redirect);
    return made;
  });
  const a = udp(near, { port: PORT, receiveTimeout: 300 });
  const b = udp(far, {});
  const arrives = () => {
    b.sendmsg(Buffer.from('in'), 0, { to: { address: '10.1.0.1', port: PORT } });
    return a.recvmsg(Buffer.alloc(100)).size;
  };
  expect(arrives()).toBe(2);
  expect(ifb.counters().rxPackets).toBe(1);
  ifb.setImpairment({ lossPercent: 100 });
  expect(arrives).toThrow(expect.objectContaining({ code: 'EAGAIN' }));
  ifb.setImpairment(null);
  expect(arrives()).toBe(2);
});

it('a dummy takes packets and gives them to nobody', () => {
  const dummy = near.run(() =>
    Link.create({ type: 'dummy', name: 'made', address: '10.9.0.1/24', up: true }),
  );
  const a = udp(near, { receiveTimeout: 100 });
  for (let sent = 0; sent < 10; sent++)
    a.sendmsg(Buffer.alloc(72), 0, { to: { address: '10.9.0.2', port: PORT } });
  expect(dummy.counters()).toMatchObject({ txPackets: 10, txBytes: 10 * (72 + 28 + 14), rxPackets: 0 });
  expect(() => a.recvmsg(Buffer.alloc(100))).toThrow(expect.objectContaining({ code: 'EAGAIN' }));
});

it('kinds that tunsock does not make are listed by their name', () => {
  near.run(() => {
    ip('link', 'add', 'made0', 'type', 'geneve', 'id', '5', 'remote', '10.1.0.2');
    ip('link', 'add', 'made1', 'type', 'ip6gre', 'local', 'fd00::1', 'remote', 'fd00::2');
    expect(
      Link.list()
        .filter(({ name }) => name.startsWith('made'))
        .map(({ type }) => type),
    ).toEqual(['geneve', 'ip6gre']);
  });
});
