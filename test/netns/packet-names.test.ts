import { describe, expect, it } from 'vitest';
import { Link, type LinkOptions, PacketSocket } from '../../dist';
import { packetStage, room, TEST, text } from '../helpers/packet-stage';
import { FAR_MAC, frame, NEAR_MAC, untilRunning } from '../helpers/pair';

/** Which interface a packet socket is on, by what name, and which one a packet came in on. */

const stage = packetStage();
const { near, far, kept } = stage;

describe('an alternative name', () => {
  it.each(['short', 'one of forty bytes, longer than IFNAMSIZ'.replaceAll(' ', '-')])(
    '%s opens the interface, which keeps its own',
    (alternative) => {
      stage.pair.near.run(() => stage.pair.nearLink.addAlternativeName(alternative));
      const socket = near({ interface: alternative });
      expect([socket.name, socket.index]).toEqual(['v0', stage.pair.nearLink.index]);
      far().sendmsg(text('arrives'));
      expect(socket.recvmsg(room()).interface).toBe(stage.pair.nearLink.index);
      expect(() => near({ interface: `${alternative}-not` })).toThrow(
        expect.objectContaining({ code: 'ENODEV', interface: `${alternative}-not` }),
      );
    },
  );
});

describe('originalDevice (PACKET_ORIGDEV)', () => {
  const UPPER = '02:00:00:00:00:11';
  /** Links on v0 that are handed its frames, and the frame that is for each. */
  const uppers: [LinkOptions, Buffer][] = [
    [
      { type: 'macvlan', name: 'upper', link: 'v0', mode: 'bridge', mac: UPPER },
      frame(TEST, Buffer.alloc(50), UPPER, FAR_MAC),
    ],
    [
      { type: 'vlan', name: 'upper', link: 'v0', id: 5 },
      frame(
        0x8100,
        Buffer.concat([Buffer.from([0, 5, TEST >> 8, TEST & 255]), Buffer.alloc(46)]),
        NEAR_MAC,
        FAR_MAC,
      ),
    ],
  ];

  it.for(uppers)('%j: a frame came in on the link below', ([options, bytes], { skip }) => {
    const upper = stage.pair.near.run(() => {
      try {
        return Link.create({ ...options, up: true });
      } catch (error) {
        if ((error as { code: string }).code !== 'EOPNOTSUPP') throw error;
        return skip(`no ${options.type} links in this kernel`);
      }
    });
    untilRunning(upper);
    const open = (originalDevice: boolean) =>
      kept(
        PacketSocket.open({
          interface: 'upper',
          netns: stage.pair.near,
          protocol: TEST,
          receiveTimeout: 5000,
          originalDevice,
        }),
      );
    const [original, handed] = [open(true), open(false)];
    far({ protocol: 0 }).sendmsg(bytes);
    expect([original, handed].map((socket) => socket.recvmsg(room()).interface)).toEqual([
      stage.pair.nearLink.index,
      upper.index,
    ]);
  });
});
