import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { release } from 'node:os';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { constants, Link, TunSocket } from '../../dist';
import { codeOf, ETH_P_IP, FORMS, type Stage, stage } from '../helpers/device';
import { enterQuietNamespace } from '../helpers/namespace';

const { MSG_TRUNC, MSG_DONTWAIT, MSG_ERRQUEUE, MSG_PEEK, MSG_NOSIGNAL, TUN_PKT_STRIP } = constants;
const PAYLOAD = 200;
/** IPv4 and UDP headers. */
const HEADERS = 28;

beforeAll(() => {
  enterQuietNamespace();
  console.log(`kernel ${release()}`);
});

/** Nobody can tell where a packet comes from: the kernel, a superpacket, or what nobody took. */
const forms = FORMS.flatMap((form) => [
  { ...form, held: false },
  { ...form, held: true },
]);

describe.each(forms)('$mode, packetInfo $packetInfo, offload $offload, held $held', ({ held, ...form }) => {
  let at: Stage;
  beforeEach(async () => {
    at = await stage({ ...form, held });
  });
  afterEach(() => at[Symbol.asyncDispose]());
  const whole = () => at.header + HEADERS + PAYLOAD;
  const drained = () => codeOf(() => at.tun.recvmsg(Buffer.alloc(2048), MSG_DONTWAIT));

  describe('recvmsg', () => {
    it('gives a packet that fits, without flags', async () => {
      await at.hostSends(PAYLOAD);
      const room = Buffer.alloc(2048);
      expect(at.tun.recvmsg(room)).toEqual({ size: whole(), bytes: whole(), flags: 0, protocol: ETH_P_IP });
      expect(room[at.header]).toBe(0x45);
      expect(room.subarray(whole() - PAYLOAD, whole())).toEqual(Buffer.alloc(PAYLOAD, 0x5a));
      if (form.packetInfo) expect(room.readUInt16BE(2)).toBe(ETH_P_IP);
    });

    it('fits to the byte', async () => {
      await at.hostSends(PAYLOAD);
      expect(at.tun.recvmsg(Buffer.alloc(whole()))).toMatchObject({ bytes: whole(), flags: 0 });
    });

    it.each([
      ['without MSG_TRUNC asked for', 0],
      ['with MSG_TRUNC asked for', MSG_TRUNC],
    ])('cuts a longer packet, %s, and the rest is gone', async (_, flags) => {
      await at.hostSends(PAYLOAD);
      const result = at.tun.recvmsg(Buffer.alloc(60), flags);
      expect(result).toMatchObject({ size: whole(), bytes: flags === 0 ? 60 : whole(), flags: MSG_TRUNC });
      expect(drained()).toBe('EAGAIN');
    });

    it('throws EAGAIN with MSG_DONTWAIT and an empty queue', () => {
      expect(drained()).toBe('EAGAIN');
    });

    it('blocks until receiveTimeout, then throws EAGAIN', () => {
      using tun = TunSocket.open({ ...form, receiveTimeout: 30 });
      expect(codeOf(() => tun.recvmsg(Buffer.alloc(100)))).toBe('EAGAIN');
    });

    it.each([MSG_PEEK, 0x1, 0x100, MSG_PEEK | MSG_DONTWAIT])(
      'refuses flag %i with EINVAL, and loses nothing',
      async (flag) => {
        await at.hostSends(PAYLOAD);
        expect(codeOf(() => at.tun.recvmsg(Buffer.alloc(2048), flag))).toBe('EINVAL');
        expect(at.tun.recvmsg(Buffer.alloc(2048)).bytes).toBe(whole());
      },
    );

    it('throws EAGAIN for the error queue, even without MSG_DONTWAIT', async () => {
      await at.hostSends(PAYLOAD);
      expect(codeOf(() => at.tun.recvmsg(Buffer.alloc(2048), MSG_ERRQUEUE))).toBe('EAGAIN');
      expect(at.tun.recvmsg(Buffer.alloc(2048)).bytes).toBe(whole());
    });

    it('gives 0 into 0 bytes, and leaves the packet queued', async () => {
      await at.hostSends(PAYLOAD);
      expect(at.tun.recvmsg(Buffer.alloc(0)).bytes).toBe(0);
      expect(at.tun.recvmsg([]).bytes).toBe(0);
      expect(at.tun.recvmsg([Buffer.alloc(0), Buffer.alloc(0)]).bytes).toBe(0);
      expect(at.tun.recvmsg(Buffer.alloc(2048)).bytes).toBe(whole());
    });

    if (form.packetInfo)
      it('refuses room for less than the packet info with EINVAL, and loses nothing', async () => {
        await at.hostSends(PAYLOAD);
        expect(codeOf(() => at.tun.recvmsg(Buffer.alloc(3)))).toBe('EINVAL');
        expect(at.tun.recvmsg(Buffer.alloc(2048)).bytes).toBe(whole());
      });

    if (!form.packetInfo)
      it('cuts to a single byte', async () => {
        await at.hostSends(PAYLOAD);
        expect(at.tun.recvmsg(Buffer.alloc(1))).toMatchObject({ bytes: 1, size: whole(), flags: MSG_TRUNC });
      });

    if (form.packetInfo)
      it('sets TUN_PKT_STRIP in the packet info of a cut packet, wherever its bytes are', async () => {
        await at.hostSends(PAYLOAD);
        const info = Array.from({ length: 4 }, () => Buffer.alloc(1));
        at.tun.recvmsg([...info, Buffer.alloc(20)]);
        const flags = new Uint16Array(new Uint8Array(Buffer.concat(info)).buffer)[0] as number;
        expect(flags & TUN_PKT_STRIP).toBe(TUN_PKT_STRIP);
        await at.hostSends(PAYLOAD);
        const room = Buffer.alloc(2048);
        at.tun.recvmsg(room);
        expect(room.readUInt16LE(0)).toBe(0);
      });

    it('scatters over 1023 buffers, and refuses 1024 before the system call', async () => {
      await at.hostSends(PAYLOAD);
      const buffers = Array.from({ length: 1024 }, () => Buffer.alloc(1));
      expect(codeOf(() => at.tun.recvmsg(buffers))).toBe('ERR_OUT_OF_RANGE');
      expect(at.tun.recvmsg(buffers.slice(1))).toMatchObject({ bytes: whole(), flags: 0 });
      expect(Buffer.concat(buffers.slice(1))[at.header]).toBe(0x45);
    });
  });

  describe('sendmsg', () => {
    it('sends what an ordinary socket receives, whole or gathered', async () => {
      const packet = at.fromPeer('first');
      expect(at.tun.sendmsg(packet)).toBe(packet.length);
      expect((await once(at.udp, 'message'))[0].toString()).toBe('first');
      const pieces = [...at.fromPeer('second')].map((byte) => Uint8Array.of(byte));
      expect(at.tun.sendmsg(pieces, MSG_DONTWAIT | MSG_NOSIGNAL)).toBe(pieces.length);
      expect((await once(at.udp, 'message'))[0].toString()).toBe('second');
    });

    it('refuses 0 bytes with EINVAL', () => {
      expect(codeOf(() => at.tun.sendmsg(Buffer.alloc(0)))).toBe('EINVAL');
      expect(codeOf(() => at.tun.sendmsg([]))).toBe('EINVAL');
    });

    if (form.mode === 'tun' && !form.packetInfo)
      it('refuses a first nibble other than 4 and 6 with EINVAL', () => {
        const packet = at.fromPeer('data');
        packet.writeUInt8(0x55, 0);
        expect(codeOf(() => at.tun.sendmsg(packet))).toBe('EINVAL');
      });

    it('refuses unknown flags with EINVAL', () => {
      expect(codeOf(() => at.tun.sendmsg(at.fromPeer('data'), 0x1))).toBe('EINVAL');
    });

    it('refuses more than 65535 bytes and headers with EMSGSIZE', () => {
      const most = 65535 + (form.packetInfo ? 4 : 0) + (form.mode === 'tap' ? 18 : 0);
      const packet = Buffer.alloc(most + 1);
      at.fromPeer('data').copy(packet);
      expect(codeOf(() => at.tun.sendmsg(packet))).toBe('EMSGSIZE');
      expect(at.tun.sendmsg(packet.subarray(0, most))).toBe(most);
    });

    it('refuses more than 1023 buffers', () => {
      const buffers = Array.from({ length: 1024 }, () => Buffer.alloc(1));
      expect(codeOf(() => at.tun.sendmsg(buffers))).toBe('ERR_OUT_OF_RANGE');
    });

    it('throws EIO when the interface is down', () => {
      at.tun.link.down();
      expect(codeOf(() => at.tun.sendmsg(at.fromPeer('data')))).toBe('EIO');
    });
  });

  it('throws EBADFD for all once the device is deleted', () => {
    at.tun.link.delete();
    expect(codeOf(() => at.tun.recvmsg(Buffer.alloc(100)))).toBe('EBADFD');
    expect(codeOf(() => at.tun.recvmsg(Buffer.alloc(100), MSG_DONTWAIT))).toBe('EBADFD');
    expect(codeOf(() => at.tun.sendmsg(at.fromPeer('data')))).toBe('EBADFD');
  });
});

describe('a descriptor that is attached to no device', () => {
  it("is refused with EBADFD, and stays the caller's", () => {
    const fd = openSync('/dev/net/tun', 'r+');
    expect(codeOf(() => TunSocket.fromFd(fd))).toBe('EBADFD');
    closeSync(fd);
  });
});

describe('a reader that is blocked while its device is deleted', () => {
  it('gets EBADFD', async () => {
    const worker = new Worker(
      `const { TunSocket } = require(process.cwd());
       const { parentPort } = require('node:worker_threads');
       const tun = TunSocket.open({ name: 'blocked' });
       parentPort.postMessage('blocking');
       try { tun.recvmsg(Buffer.alloc(100)); } catch (error) { parentPort.postMessage(error.code); }`,
      { eval: true },
    );
    await once(worker, 'message');
    Link.get('blocked').delete();
    expect(await once(worker, 'message')).toEqual(['EBADFD']);
    await worker.terminate();
  });
});
