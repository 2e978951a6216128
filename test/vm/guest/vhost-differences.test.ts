/** What docs/vhost.md says is otherwise with vhost, each row by what is seen without it and with it. */
import { createSocket } from 'node:dgram';
import { setTimeout } from 'node:timers/promises';
import { beforeEach, describe, expect, it } from 'vitest';
import { constants, PacketSocket, TunSocket } from '../../../dist';
import { codeOf, HOST, PEER } from '../../helpers/device';
import { enterQuietNamespace } from '../../helpers/namespace';
import { udpPacket } from '../../helpers/packets';
import { FAR_MAC, frame, NEAR_MAC, vethPair } from '../../helpers/pair';

const { MSG_DONTWAIT } = constants;
const ECHO = 7;

beforeEach(() => {
  enterQuietNamespace();
});

const open = (vhost: boolean) =>
  TunSocket.open({ address: `${HOST}/24`, addressGeneration: 'none', vhost, vhostRing: 64 });

async function hostSends(count: number): Promise<void> {
  const udp = createSocket('udp4');
  for (let number = 0; number < count; number++) {
    await new Promise((resolve) => udp.send(`${number}`, ECHO, PEER, resolve));
  }
  udp.close();
}

describe.each([false, true])('vhost: %s', (vhost) => {
  it(`a packet that the device refuses is ${vhost ? 'counted' : "an error of its call's"}`, async () => {
    using tun = open(vhost);
    // Neither of IPv4 nor of IPv6 (tun_get_user()).
    const code = vhost ? tun.sendmsg(Buffer.alloc(40)) : codeOf(() => tun.sendmsg(Buffer.alloc(40)));
    expect(code).toBe(vhost ? 40 : 'EINVAL');
    const refused = () => tun.link.counters().rxDropped + tun.link.counters().rxErrors;
    await expect.poll(refused, { timeout: 10_000 }).toBe(1);
    expect(tun.stats().sent.errors).toBe(vhost ? 0 : 1);
  });

  it(`a packet for a device that is down is ${vhost ? 'dropped' : 'an error'}`, () => {
    using tun = open(vhost);
    tun.link.down();
    const packet = udpPacket([PEER, 1], [HOST, 9], 'x');
    if (vhost) expect(tun.sendmsg(packet)).toBe(packet.length);
    else expect(codeOf(() => tun.sendmsg(packet))).toBe('EIO');
  });

  it(`what nobody has received waits ${vhost ? 'in the process, and is lost with its socket' : "in the device's queue"}`, async () => {
    const tun = open(vhost);
    await hostSends(3);
    // The kernel's thread has them by then.
    await expect.poll(() => tun.link.counters().txPackets, { timeout: 10_000 }).toBe(vhost ? 3 : 0);
    using again = TunSocket.fromFd(tun.detach());
    const receive = () => again.recvmsg(Buffer.alloc(100), MSG_DONTWAIT).size;
    if (vhost) expect(codeOf(receive)).toBe('EAGAIN');
    else expect([receive(), receive(), receive()]).toEqual([29, 29, 29]);
  });

  it(`a send to a device that is gone is ${vhost ? 'dropped' : 'EBADFD'}`, () => {
    using tun = open(vhost);
    tun.link.delete();
    const packet = udpPacket([PEER, 1], [HOST, 9], 'x');
    if (vhost) expect(tun.sendmsg(packet)).toBe(packet.length);
    else expect(codeOf(() => tun.sendmsg(packet))).toBe('EBADFD');
    expect(codeOf(() => tun.recvmsg(Buffer.alloc(100), MSG_DONTWAIT))).toBe('EBADFD');
  });

  it('the send buffer of a device starts at its most', () => {
    using tun = open(vhost);
    expect(tun.getSendBufferSize()).toBe(vhost ? 2 ** 31 - 2 : 2 ** 31 - 1);
  });

  it(`a frame of a packet socket has ${vhost ? 'nothing but its bytes' : 'its sender and kind beside'}`, () => {
    const pair = vethPair();
    const ours = { ignoreOutgoing: true, receiveTimeout: 20_000, type: 'raw' } as const;
    using near = PacketSocket.open({ interface: 'v0', netns: pair.near, vhost, ...ours });
    using far = PacketSocket.open({ interface: 'v1', netns: pair.far, ...ours });
    far.sendmsg(frame(0x0800, udpPacket([PEER, 1], [HOST, 9], 'x')));
    const info = near.recvmsg(Buffer.alloc(200));
    expect(info.address).toBe(vhost ? undefined : FAR_MAC);
    expect(info.packetType).toBe(vhost ? undefined : 'host');
    pair.close();
  });

  it(`a frame whose VLAN tag the kernel keeps apart is ${vhost ? 'dropped' : 'given with it'}`, async () => {
    const pair = vethPair();
    const ours = { ignoreOutgoing: true, offload: 'none', receiveTimeout: 20_000 } as const;
    using near = PacketSocket.open({ interface: 'v0', netns: pair.near, vhost, ...ours });
    using far = PacketSocket.open({ interface: 'v1', netns: pair.far, ...ours });
    const inner = udpPacket([PEER, 1], [HOST, 9], 'tagged');
    const tag = Buffer.from([0, 42, 0x08, 0]);
    far.sendmsg(frame(0x8100, Buffer.concat([tag, inner]), NEAR_MAC, FAR_MAC));
    far.sendmsg(frame(0x0800, inner, NEAR_MAC, FAR_MAC));
    const room = Buffer.alloc(200);
    const first = near.recvmsg(room);
    if (!vhost) {
      expect(first.vlan?.id).toBe(42);
      near.recvmsg(room);
    }
    expect(room.readUInt16BE(12)).toBe(0x0800);
    await setTimeout(50);
    expect(codeOf(() => near.recvmsg(room, MSG_DONTWAIT))).toBe('EAGAIN');
    pair.close();
  });
});
