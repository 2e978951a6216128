import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import { constants, PacketSocket } from '../../dist';
import { empty, packetStage, room, TEST, text } from '../helpers/packet-stage';
import { FAR_MAC, frame, NEAR_MAC, untilRunning } from '../helpers/pair';

const { MSG_DONTWAIT } = constants;
const stage = packetStage();
const { near, far, kept } = stage;

describe('events', () => {
  it("'message' has owned packets, and info that lasts", async () => {
    const a = near({ timestamps: true });
    const b = far();
    const got: [Buffer, bigint, string][] = [];
    const done = new Promise<void>((resolve) =>
      a.on('message', (packet, info) => {
        got.push([packet, info.timestamp as bigint, info.packetType as string]);
        if (got.length === 150) resolve();
      }),
    );
    const before = BigInt(Date.now()) * 1_000_000n;
    for (let i = 0; i < 150; i++) b.send(text(`m${i}`));
    await done;
    const after = BigInt(Date.now() + 1) * 1_000_000n;
    got.forEach(([packet, timestamp, type], i) => {
      expect(packet).toEqual(text(`m${i}`));
      expect(timestamp >= before && timestamp <= after).toBe(true);
      expect(type).toBe('host');
    });
  });

  it("'message' does not cut a frame of 64 KiB", async () => {
    // Loopback takes the largest frames that there are.
    const open = () =>
      kept(
        PacketSocket.open({ interface: 'lo', protocol: TEST, netns: stage.pair.near, ignoreOutgoing: true }),
      );
    const [a, b] = [open(), open()];
    const large = frame(TEST, Buffer.alloc(65536, 5), '00:00:00:00:00:00', '00:00:00:00:00:00');
    const messages: Buffer[] = [];
    const done = new Promise<void>((resolve) =>
      a.on('message', (packet, { flags }) => {
        expect(flags).toBe(0);
        messages.push(packet);
        if (messages.length === 3) resolve();
      }),
    );
    for (let i = 0; i < 3; i++) b.sendmsg(large);
    await done;
    for (const message of messages) expect(message.equals(large)).toBe(true);
  });

  it('iterates, streams, and receives by promise', async () => {
    const a = near();
    const b = far();
    b.send(text('promised'));
    expect(await a.receive()).toEqual(text('promised'));
    b.send(text('iterated'));
    for await (const packet of a) {
      expect(packet).toEqual(text('iterated'));
      break;
    }
    const stream = a.stream();
    far().stream().write(text('streamed'));
    expect((await once(stream, 'data'))[0]).toEqual(text('streamed'));
    stream.destroy();
    await once(a, 'close');
  });

  it("tells as 'link' that the interface went down, and goes on when it is up again", async () => {
    const a = near();
    const b = far();
    const kinds: string[] = [];
    a.on('error', (error) => expect.unreachable(String(error)));
    a.on('link', ({ kind }) => kinds.push(kind));
    a.on('message', () => {});
    await once(a, 'listening');
    await new Promise(setImmediate);
    stage.pair.nearLink.down();
    while (!kinds.includes('down')) await new Promise(setImmediate);
    expect(() => a.sendmsg(frame(TEST, Buffer.alloc(50), FAR_MAC, NEAR_MAC))).toThrow(
      expect.objectContaining({ code: 'ENETDOWN', syscall: 'sendmsg', interface: 'v0' }),
    );
    stage.pair.nearLink.up();
    for (const link of [stage.pair.nearLink, stage.pair.farLink]) untilRunning(link);
    const message = once(a, 'message');
    b.sendmsg(text('back'));
    expect((await message)[0]).toEqual(text('back'));
    expect(kinds).toContain('up');
    expect(a.closed).toBe(false);
  });

  it('recvmsg says once that the interface went down', () => {
    const a = near();
    stage.pair.nearLink.down();
    expect(() => a.recvmsg(room())).toThrow(expect.objectContaining({ code: 'ENETDOWN' }));
    expect(() => a.recvmsg(room(), MSG_DONTWAIT)).toThrow(empty);
    stage.pair.nearLink.up();
    for (const link of [stage.pair.nearLink, stage.pair.farLink]) untilRunning(link);
    far().sendmsg(text('back'));
    expect(a.recvmsg(room()).bytes).toBe(64);
  });

  it('opens on an interface that is down', () => {
    stage.pair.nearLink.down();
    const a = near();
    expect(() => a.recvmsg(room(), MSG_DONTWAIT)).toThrow(empty);
    stage.pair.nearLink.up();
    for (const link of [stage.pair.nearLink, stage.pair.farLink]) untilRunning(link);
    far().sendmsg(text('up'));
    expect(a.recvmsg(room()).bytes).toBe(64);
  });

  it.each(['up', 'down'] as const)('ends when the interface, being %s, is deleted', async (state) => {
    const a = near();
    const blocked = near();
    a.on('message', () => {});
    if (state === 'down') {
      await once(a, 'listening');
      await new Promise(setImmediate);
      const down = once(a, 'link');
      stage.pair.nearLink.down();
      expect((await down)[0].kind).toBe('down');
    }
    const error = new Promise((resolve) => a.once('error', resolve));
    const close = new Promise<void>((resolve) => a.once('close', resolve));
    stage.pair.nearLink.delete();
    expect(await error).toEqual(expect.objectContaining({ code: 'EBADFD', interface: 'v0' }));
    await close;
    expect(a.closed).toBe(true);
    expect(() => a.recvmsg(room())).toThrow(expect.objectContaining({ code: 'ERR_SOCKET_CLOSED' }));
    const gone = expect.objectContaining({ code: 'EBADFD' });
    for (let i = 0; i < 2; i++) expect(() => blocked.recvmsg(room())).toThrow(gone);
    expect(() => blocked.sendmsg(text(''))).toThrow(gone);
  });
});
