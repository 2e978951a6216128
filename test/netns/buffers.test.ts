import { once } from 'node:events';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { constants, PacketBatch } from '../../dist';
import { codeOf, type Stage, stage, WHOLE_PACKETS } from '../helpers/device';
import { enterQuietNamespace } from '../helpers/namespace';

const { MSG_DONTWAIT, MSG_TRUNC } = constants;
const PAYLOAD = 100;
const SIZE = 28 + PAYLOAD;

beforeAll(enterQuietNamespace);

describe.each(WHOLE_PACKETS)('offload %s', (offload) => {
  let at: Stage;
  beforeAll(async () => {
    at = await stage({ mode: 'tun', packetInfo: false, offload });
  });
  afterAll(() => at[Symbol.asyncDispose]());

  describe('memory to receive into', () => {
    it.each<[string, () => NodeJS.ArrayBufferView]>([
      ['Buffer', () => Buffer.alloc(256)],
      ['Int8Array', () => new Int8Array(256)],
      ['Uint16Array', () => new Uint16Array(128)],
      ['Float64Array', () => new Float64Array(32)],
      ['BigInt64Array', () => new BigInt64Array(32)],
      ['DataView', () => new DataView(new ArrayBuffer(300), 44)],
      ['SharedArrayBuffer', () => new Uint8Array(new SharedArrayBuffer(256))],
      ['WebAssembly memory', () => new Uint8Array(new WebAssembly.Memory({ initial: 1 }).buffer, 64, 256)],
      ['a small array on the heap', () => new Uint8Array(SIZE)],
    ])('%s', async (_, room) => {
      await at.hostSends(PAYLOAD);
      const view = room();
      expect(at.tun.recvmsg(view)).toMatchObject({ bytes: SIZE, flags: 0 });
      expect(Buffer.from(view.buffer, view.byteOffset, SIZE)[0]).toBe(0x45);
    });

    it('empty views among others take nothing', async () => {
      await at.hostSends(PAYLOAD);
      const [head, tail] = [Buffer.alloc(20), Buffer.alloc(200)];
      const views = [Buffer.alloc(0), head, new Uint8Array(0), tail];
      expect(at.tun.recvmsg(views)).toMatchObject({ bytes: SIZE });
      expect([head[0], tail[8]]).toEqual([0x45, 0x5a]);
    });

    it('one buffer given twice holds what comes last', async () => {
      await at.hostSends(PAYLOAD);
      const twice = Buffer.alloc(SIZE / 2);
      expect(at.tun.recvmsg([twice, twice])).toMatchObject({ bytes: SIZE, flags: 0 });
      expect(twice).toEqual(Buffer.alloc(SIZE / 2, 0x5a));
    });

    it('memory that was transferred away is refused, and the packet stays', async () => {
      await at.hostSends(PAYLOAD);
      for (const view of [new Uint8Array(256), new Uint32Array(64), new DataView(new ArrayBuffer(256))]) {
        structuredClone(view.buffer, { transfer: [view.buffer as ArrayBuffer] });
        expect(codeOf(() => at.tun.recvmsg(view as Uint8Array))).toBe('ERR_INVALID_ARG_TYPE');
      }
      const memory = new WebAssembly.Memory({ initial: 1 });
      const stale = new Uint8Array(memory.buffer);
      memory.grow(1);
      expect(codeOf(() => at.tun.recvmsg(stale))).toBe('ERR_INVALID_ARG_TYPE');
      expect(at.tun.recvmsg(Buffer.alloc(256)).bytes).toBe(SIZE);
    });

    it('a resizable buffer counts with the length that it has at the call', async () => {
      await at.hostSends(PAYLOAD);
      const Resizable = ArrayBuffer as unknown as new (
        length: number,
        options: object,
      ) => ArrayBuffer & { resize(length: number): void };
      const buffer = new Resizable(256, { maxByteLength: 512 });
      const view = new Uint8Array(buffer);
      buffer.resize(40);
      expect(at.tun.recvmsg(view)).toMatchObject({ bytes: 40, size: SIZE, flags: MSG_TRUNC });
      buffer.resize(0);
      expect(at.tun.recvmsg(view).bytes).toBe(0);
      // One of a fixed place is no empty view when its place is gone (ECMA-262, IsTypedArrayOutOfBounds), but none.
      buffer.resize(256);
      const fixed = new Uint8Array(buffer, 100, 28);
      buffer.resize(100);
      expect(codeOf(() => at.tun.recvmsg(fixed))).toBe('ERR_INVALID_ARG_TYPE');
      expect(codeOf(() => at.tun.sendmsg(fixed))).toBe('ERR_INVALID_ARG_TYPE');
      expect(codeOf(() => at.tun.send(fixed))).toBe('ERR_INVALID_ARG_TYPE');
      expect(codeOf(() => new PacketBatch().push(fixed))).toBe('ERR_INVALID_ARG_TYPE');
    });

    it.each([undefined, null, 'text', 7, {}, new ArrayBuffer(10), [Buffer.alloc(1), 'text']])(
      '%s is refused',
      (value) => {
        expect(codeOf(() => at.tun.recvmsg(value as never))).toBe('ERR_INVALID_ARG_TYPE');
        expect(codeOf(() => at.tun.sendmsg(value as never))).toBe('ERR_INVALID_ARG_TYPE');
        expect(codeOf(() => at.tun.send(value as never))).toBe('ERR_INVALID_ARG_TYPE');
      },
    );

    it('flags that are no number are refused, and none of their code is run', () => {
      for (const flags of ['64', Symbol.iterator, Object.create(null), { valueOf: () => MSG_DONTWAIT }]) {
        expect(codeOf(() => at.tun.recvmsg(Buffer.alloc(10), flags as never))).toBe('ERR_INVALID_ARG_TYPE');
        expect(codeOf(() => at.tun.sendmsg(Buffer.alloc(10), flags as never))).toBe('ERR_INVALID_ARG_TYPE');
      }
    });

    it.each([-1, 1.5, Number.NaN, 2 ** 31])('flags %s are refused', (flags) => {
      expect(codeOf(() => at.tun.recvmsg(Buffer.alloc(10), flags))).toBe('ERR_OUT_OF_RANGE');
    });
  });

  describe('PacketBatch', () => {
    it('has a length that anybody may set, and says when it is none', () => {
      for (const length of [Symbol.iterator, Object.create(null), '1', 1.5, 65]) {
        const batch = Object.assign(new PacketBatch(), { length });
        const code = typeof length === 'number' ? 'ERR_OUT_OF_RANGE' : 'ERR_INVALID_ARG_TYPE';
        expect(codeOf(() => batch.at(0))).toBe(code);
        expect(codeOf(() => batch.info(0))).toBe(code);
      }
    });

    it('copies the bytes that a view has, whatever its byteLength says', () => {
      const view = Object.defineProperty(Buffer.from('abc'), 'byteLength', { value: Number.NaN });
      const batch = new PacketBatch();
      batch.push([view, view]);
      expect(batch.at(0).toString()).toBe('abcabc');
    });

    it('receives into slots, with true lengths of packets that were cut', async () => {
      for (const size of [10, 50, 20]) await at.hostSends(size);
      const batch = new PacketBatch({ capacity: 8, packetSize: 60 });
      expect(at.tun.recvmmsg(batch)).toBe(3);
      expect(batch.length).toBe(3);
      expect([...batch.sizes.subarray(0, 3)]).toEqual([38, 78, 48]);
      expect([...batch.lengths.subarray(0, 3)]).toEqual([38, 60, 48]);
      expect([...batch.flags.subarray(0, 3)]).toEqual([0, MSG_TRUNC, 0]);
      expect([...batch].map((packet) => packet[0])).toEqual([0x45, 0x45, 0x45]);
      expect(at.tun.recvmmsg(batch, MSG_DONTWAIT)).toBe(0);
      expect(batch.length).toBe(0);
    });

    it('takes no more than its capacity; the rest stays queued', async () => {
      for (const size of [1, 2, 3]) await at.hostSends(size);
      const batch = new PacketBatch({ capacity: 2 });
      expect(at.tun.recvmmsg(batch)).toBe(2);
      expect(at.tun.recvmmsg(batch)).toBe(1);
      expect(batch.at(0)).toHaveLength(31);
    });

    it('says exactly how many went before the one that failed', async () => {
      const batch = new PacketBatch({ capacity: 4 });
      for (const data of ['a', 'b']) batch.push(at.fromPeer(data));
      batch.push(Buffer.alloc(20));
      batch.push([at.fromPeer('d').subarray(0, 9), at.fromPeer('d').subarray(9)]);
      expect(codeOf(() => batch.push(at.fromPeer('e')))).toBe('ERR_OUT_OF_RANGE');
      const received: string[] = [];
      at.udp.on('message', (data) => received.push(data.toString()));
      expect(at.tun.sendmmsg(batch)).toBe(2);
      expect(codeOf(() => at.tun.sendmmsg(batch, 0, 2))).toBe('EINVAL');
      expect(at.tun.sendmmsg(batch, 0, 3)).toBe(1);
      expect(at.tun.sendmmsg(batch, 0, 4)).toBe(0);
      while (received.length < 3) await once(at.udp, 'message');
      at.udp.removeAllListeners('message');
      expect(received).toEqual(['a', 'b', 'd']);
    });

    it('goes from one socket to another as it is', async () => {
      await at.hostSends(64);
      await using other = await stage({ mode: 'tun', packetInfo: false, offload }).catch(
        () => undefined as never,
      );
      const batch = new PacketBatch();
      at.tun.recvmmsg(batch);
      expect(other.tun.sendmmsg(batch)).toBe(batch.length);
    });

    it('with offsets, lengths or a length that lie is refused, never a crash', () => {
      const batch = new PacketBatch({ capacity: 2, packetSize: 100 });
      batch.push(at.fromPeer('x'));
      for (const [offset, length] of [
        [0, 2 ** 32 - 1],
        [2 ** 32 - 1, 100],
        [2 ** 31, 2 ** 31],
      ]) {
        batch.offsets[0] = offset as number;
        batch.lengths[0] = length as number;
        expect(codeOf(() => at.tun.sendmmsg(batch))).toMatch(/EINVAL|EMSGSIZE/);
      }
      batch.length = 3;
      expect(codeOf(() => at.tun.sendmmsg(batch))).toBe('ERR_OUT_OF_RANGE');
      batch.clear();
      structuredClone(batch.buffer.buffer, { transfer: [batch.buffer.buffer as ArrayBuffer] });
      expect(codeOf(() => at.tun.sendmmsg(batch))).toBe('ERR_INVALID_ARG_TYPE');
      expect(codeOf(() => at.tun.recvmmsg(batch))).toBe('ERR_INVALID_ARG_TYPE');
      expect(codeOf(() => at.tun.recvmmsg({} as PacketBatch))).toBe('ERR_INVALID_ARG_TYPE');
    });

    it.each([{ capacity: 0 }, { capacity: 1e6 }, { packetSize: 0 }, { packetSize: 1.5 }])(
      '%o is refused',
      (options) => {
        expect(codeOf(() => new PacketBatch(options))).toBe('ERR_OUT_OF_RANGE');
      },
    );
  });
});
