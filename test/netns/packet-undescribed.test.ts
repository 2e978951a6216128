import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import { constants, PacketBatch, PacketSocket, TunSocket } from '../../dist';
import { empty, packetStage, room, TEST } from '../helpers/packet-stage';
import { udpPacket } from '../helpers/packets';
import { frame } from '../helpers/pair';

const { MSG_DONTWAIT } = constants;
/** VIRTIO_NET_HDR_GSO_UDP of linux/virtio_net.h: fragments of one datagram, which no header describes on the way out of the kernel. */
const GSO_UDP = 3;
const COUNT = 200;
const stage = packetStage();
const { kept } = stage;

const ordinary = frame(TEST, Buffer.from('ordinary'.padEnd(50, '.')));

/** A tap, and a socket on it that no header describes a packet to. */
function open(offload: 'split' | 'raw'): { tap: TunSocket; socket: PacketSocket } {
  const netns = stage.pair.near;
  const tap = kept(TunSocket.open({ mode: 'tap', name: 'odd', netns, offload: 'raw' }));
  const socket = kept(
    PacketSocket.open({
      interface: 'odd',
      netns,
      offload,
      ignoreOutgoing: true,
      receiveTimeout: 5000,
      receiveBuffer: 8 << 20,
    }),
  );
  return { tap, socket };
}

/** So many of them in a row, and one packet behind them. */
function flood(tap: TunSocket): void {
  const datagram = udpPacket(['10.9.0.2', 4000], ['10.9.0.1', 9], Buffer.alloc(2800), { unfinished: true });
  const offload = {
    needsChecksum: true,
    checksumStart: 14 + 20,
    checksumOffset: 6,
    gsoType: GSO_UDP,
    gsoSize: 1400,
  };
  for (let i = 0; i < COUNT; i++) tap.sendmsg(frame(0x0800, datagram), 0, { offload });
  tap.sendmsg(ordinary);
}

describe.each(['split', 'raw'] as const)(
  `${COUNT} superpackets in a row that no header describes, with offload '%s'`,
  (offload) => {
    it('are left out by recvmsg', () => {
      const { tap, socket } = open(offload);
      flood(tap);
      const data = room();
      expect(data.subarray(0, socket.recvmsg(data).bytes)).toEqual(ordinary);
      expect(() => socket.recvmsg(data, MSG_DONTWAIT)).toThrow(empty);
      expect(socket.stats().received).toMatchObject({
        packets: 1,
        errors: 0,
        dropped: COUNT,
        arrived: COUNT + 1,
      });
    });

    it('are left out by recvmmsg, before and behind others', () => {
      const { tap, socket } = open(offload);
      tap.sendmsg(ordinary);
      flood(tap);
      tap.sendmsg(ordinary);
      const received: Buffer[] = [];
      const batch = new PacketBatch();
      while (received.length < 3) {
        socket.recvmmsg(batch);
        for (const packet of batch) received.push(Buffer.from(packet));
      }
      expect(received).toEqual([ordinary, ordinary, ordinary]);
      expect(socket.stats().received).toMatchObject({ packets: 3, errors: 0, dropped: COUNT });
    });

    it.each(['message', 'batch'] as const)("are left out by '%s', and the socket lives on", async (event) => {
      const { tap, socket } = open(offload);
      const errors: unknown[] = [];
      socket.on('error', (error) => errors.push(error));
      let count = 0;
      const all = new Promise<void>((resolve) => {
        const seen = (packets: number) => {
          count += packets;
          if (count === 2) resolve();
        };
        if (event === 'message') socket.on('message', () => seen(1));
        else socket.on('batch', (batch) => seen(batch.length));
      });
      await once(socket, 'listening');
      flood(tap);
      flood(tap);
      await all;
      expect([errors, socket.closed]).toEqual([[], false]);
      expect(socket.stats().received).toMatchObject({ packets: 2, dropped: 2 * COUNT });
    });
  },
);
