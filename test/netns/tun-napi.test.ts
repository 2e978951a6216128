import { spawnSync } from 'node:child_process';
import { beforeAll, describe, expect, it } from 'vitest';
import { PacketSocket, TunSocket } from '../../dist';
import { codeOf, ETH_P_IP } from '../helpers/device';
import { IS_REAL_ROOT } from '../helpers/kernel';
import { enterQuietNamespace } from '../helpers/namespace';
import { program } from '../helpers/optional';
import { ethernetFrame, tcpPacket } from '../helpers/packets';

/** IFF_NAPI and IFF_NAPI_FRAGS: what is sent on the device reaches the host through NAPI, whose GRO merges the segments of a flow. */

beforeAll(enterQuietNamespace);
if (!IS_REAL_ROOT)
  console.log('skipped: NAPI, whose settings in sysfs need root outside of a user namespace');

const SEGMENTS = 40;
const SIZE = 1000;
const [HOST, PEER] = ['10.0.0.1', '10.0.0.2'];
const PEER_MAC = Buffer.from([2, 0, 0, 0, 0, 9]);

/** Lets GRO wait for more of a flow when a packet has been taken in: without it each write ends with a flush. */
function letGroWait(name: string): void {
  // sysfs shows the interfaces of the namespace in which it was mounted.
  const script = 'mount -t sysfs sysfs /sys && echo 20000000 > /sys/class/net/$0/gro_flush_timeout';
  const { status, stderr } = spawnSync(program('unshare'), ['-m', 'sh', '-c', script, name], {
    encoding: 'utf8',
  });
  expect([status, stderr]).toEqual([0, '']);
}

/** Sends consecutive segments of one flow; returns the payload bytes of each packet that the host has then. */
function merged(device: TunSocket): number[] {
  const ethernet = device.link.mac !== '';
  const mac = Buffer.from(device.link.mac.replaceAll(':', ''), 'hex');
  using host = PacketSocket.open({
    interface: device.name,
    offload: 'none',
    ignoreOutgoing: true,
    receiveTimeout: 5000,
    receiveBuffer: 1 << 20,
  });
  for (let index = 0; index < SEGMENTS; index++) {
    const sequence = 1 + index * SIZE;
    const packet = tcpPacket([PEER, 1000], [HOST, 9], Buffer.alloc(SIZE, index), { sequence });
    device.sendmsg(ethernet ? ethernetFrame(mac, PEER_MAC, ETH_P_IP, packet) : packet);
  }
  const headers = 20 + 20 + (ethernet ? 14 : 0);
  const payloads: number[] = [];
  let sum = 0;
  while (sum < SEGMENTS * SIZE) {
    const { size } = host.recvmsg(Buffer.alloc(70_000));
    payloads.push(size - headers);
    sum += size - headers;
  }
  expect(sum).toBe(SEGMENTS * SIZE);
  return payloads;
}

describe.runIf(IS_REAL_ROOT)('napi', () => {
  it.each(['tun', 'tap'] as const)("of a %s has GRO merge what is sent, else it isn't", (mode) => {
    using plain = TunSocket.open({ mode, name: 'plain', address: `${HOST}/24` });
    letGroWait(plain.name);
    expect(merged(plain)).toEqual(new Array(SEGMENTS).fill(SIZE));
    plain.link.flushAddresses();
    using napi = TunSocket.open({ mode, name: 'napi', napi: true, address: `${HOST}/24` });
    letGroWait(napi.name);
    // How many wait for each other depends on time; some do.
    expect(merged(napi).length).toBeLessThan(SEGMENTS);
    expect(napi.info().flags & 0x0010).not.toBe(0);
  });

  it("'frags': the kernel takes pieces as they are, 18 at most (MAX_SKB_FRAGS + 1)", () => {
    using tap = TunSocket.open({ mode: 'tap', napi: 'frags', address: `${HOST}/24` });
    expect(tap.info().flags & 0x0030).toBe(0x0030);
    expect(merged(tap).length).toBeLessThanOrEqual(SEGMENTS);
    const frame = Buffer.alloc(100);
    const pieces = (count: number) => Array.from({ length: count }, () => frame);
    expect(tap.sendmsg(pieces(18))).toBe(1800);
    expect(codeOf(() => tap.sendmsg(pieces(19)))).toBe('EMSGSIZE');
    using napi = TunSocket.open({ mode: 'tap', napi: true });
    expect(napi.sendmsg(pieces(19))).toBe(1900);
  });
});
