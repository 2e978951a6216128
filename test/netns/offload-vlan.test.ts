import { describe, expect, it } from 'vitest';
import { type MessageSocket, PacketBatch, PacketSocket, TunSocket } from '../../dist';
import { ETH_P_IP } from '../helpers/device';
import { packetStage, room } from '../helpers/packet-stage';
import { checksumsRight, tcpPacket, udpPacket } from '../helpers/packets';
import { frame } from '../helpers/pair';

const ETH_P_8021Q = 0x8100;
const VLAN = 5;
const COUNT = 20;

const stage = packetStage();
const { near, far, kept } = stage;

const tagged = (packet: Buffer) =>
  frame(ETH_P_8021Q, Buffer.concat([Buffer.from([0, VLAN, ETH_P_IP >> 8, ETH_P_IP & 0xff]), packet]));
const text = (index: number) => `tagged ${index}`.padEnd(100);
const packets = {
  UDP: (id: number) => udpPacket(['10.9.0.1', 4000], ['10.9.0.2', 5000], text(id), { id }),
  TCP: (id: number) =>
    tcpPacket(['10.9.0.1', 4000], ['10.9.0.2', 5000], text(id), { id, sequence: 7 + 100 * id }),
};

/**
 * A batch of frames of one flow, with a tag each, goes out on `from`, and comes in on `to` as it was. `to` has
 * all protocols: who asks for one of them gets the frame when its tag is gone.
 */
function expectThrough(make: (id: number) => Buffer, from: MessageSocket, to: PacketSocket): void {
  const batch = new PacketBatch({ capacity: COUNT });
  for (let index = 0; index < COUNT; index++) batch.push(tagged(make(index)));
  expect(from.sendmmsg(batch)).toBe(COUNT);
  expect(from.stats().offload?.sent).toBe(1);
  for (let index = 0; index < COUNT; index++) {
    const bytes = room();
    const info = to.recvmsg(bytes);
    expect(info.vlan).toMatchObject({ id: VLAN, protocol: ETH_P_8021Q });
    expect(bytes.subarray(0, info.bytes)).toEqual(tagged(make(index)));
    expect(checksumsRight(bytes.subarray(18, info.bytes))).toBe(true);
  }
  expect(to.stats().offload?.received).toBe(1);
}

describe.each(Object.entries(packets))("%s frames with a VLAN tag, merged and cut by 'split'", (_, make) => {
  it('from one end of a cable to the other', () => {
    expectThrough(
      make,
      far({ offload: 'split' }),
      near({ offload: 'split', protocol: 'all', auxdata: true, ignoreOutgoing: true }),
    );
  });

  it('from a tap to a packet socket on it', () => {
    const netns = stage.pair.near;
    const tap = kept(TunSocket.open({ mode: 'tap', name: 'trunk', netns, offload: 'split' }));
    const seen = kept(
      PacketSocket.open({
        interface: 'trunk',
        netns,
        offload: 'split',
        protocol: 'all',
        auxdata: true,
        receiveTimeout: 5000,
      }),
    );
    expectThrough(make, tap, seen);
  });

  it('from a packet socket to the tap below it, where the tag is in the frame', () => {
    const netns = stage.pair.near;
    const tap = kept(
      TunSocket.open({ mode: 'tap', name: 'trunk', netns, offload: 'split', receiveTimeout: 5000 }),
    );
    const sender = kept(PacketSocket.open({ interface: 'trunk', netns, offload: 'split', protocol: 0 }));
    const frames = Array.from({ length: COUNT }, (_, index) => tagged(make(index)));
    const batch = new PacketBatch({ capacity: COUNT });
    for (const bytes of frames) batch.push(bytes);
    expect(sender.sendmmsg(batch)).toBe(COUNT);
    const received: Buffer[] = [];
    while (received.length < COUNT) {
      const bytes = room();
      const packet = bytes.subarray(0, tap.recvmsg(bytes).bytes);
      // The interface itself has multicast to tell.
      if (packet.readUInt16BE(12) === ETH_P_8021Q) received.push(packet);
    }
    expect(received).toEqual(frames);
    expect(sender.stats().offload?.sent).toBe(1);
    expect(tap.stats().offload?.received).toBe(1);
  });
});

it('two tags are merged up to what is sent at most', () => {
  using tap = TunSocket.open({ mode: 'tap', offload: 'split', netns: stage.pair.near });
  const tags = Buffer.from('02000000000102000000000288a80001810000020800', 'hex');
  const batch = new PacketBatch({ packetSize: 4096 });
  // Of an IP packet of 65535 bytes, if all were merged.
  for (let index = 0; index < 45; index++) {
    const data = Buffer.alloc(index < 44 ? 1460 : 1255, index);
    const packet = tcpPacket(['10.0.0.2', 4000], ['10.0.0.1', 4001], data, {
      sequence: 1000 + 1460 * index,
      id: index,
    });
    batch.push(Buffer.concat([tags, packet]));
  }
  expect(tap.sendmmsg(batch)).toBe(45);
  expect(tap.stats().offload).toEqual({ received: 0, sent: 1, refused: [] });
});
