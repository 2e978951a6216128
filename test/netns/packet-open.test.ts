import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, fstatSync, openSync, readdirSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { PacketSocket, socketFromFd, TunSocket } from '../../dist';
import { inheriting } from '../helpers/inheriting';
import { packetStage, text } from '../helpers/packet-stage';
import { FAR_MAC, NEAR_MAC } from '../helpers/pair';

const dist = join(__dirname, '../../dist');
const stage = packetStage();
const { near, far, kept } = stage;
const descriptors = () => readdirSync('/proc/self/fd').length;

describe('bad input', () => {
  it('no such interface', () => {
    const before = descriptors();
    expect(() => near({ interface: 'nope' })).toThrow(
      expect.objectContaining({ code: 'ENODEV', interface: 'nope' }),
    );
    expect(descriptors()).toBe(before);
  });

  it.each([
    [{ interface: 'a/b' }, 'ERR_INVALID_ARG_VALUE'],
    [{ interface: undefined }, 'ERR_INVALID_ARG_TYPE'],
    [{ interface: 1 }, 'ERR_INVALID_ARG_TYPE'],
    [{ type: 'stream' }, 'ERR_INVALID_ARG_VALUE'],
    [{ protocol: 'tcp' }, 'ERR_INVALID_ARG_VALUE'],
    [{ protocol: 65536 }, 'ERR_OUT_OF_RANGE'],
    [{ protocol: true }, 'ERR_INVALID_ARG_TYPE'],
    [{ promiscuous: 1 }, 'ERR_INVALID_ARG_TYPE'],
    [{ fanout: { group: 65536, mode: 'hash' } }, 'ERR_OUT_OF_RANGE'],
    [{ fanout: { group: 1 } }, 'ERR_INVALID_ARG_TYPE'],
    [{ fanout: { group: 1, mode: 'ebpf' } }, 'ERR_INVALID_ARG_VALUE'],
    [{ offload: 'some' }, 'ERR_INVALID_ARG_VALUE'],
    [{ type: 'dgram', offload: 'split' }, 'ERR_INVALID_ARG_VALUE'],
    [{ destination: { address: NEAR_MAC } }, 'ERR_INVALID_ARG_VALUE'],
    [{ type: 'dgram', destination: { address: 'x' } }, 'ERR_INVALID_ARG_VALUE'],
    [{ receiveBuffer: 0 }, 'ERR_OUT_OF_RANGE'],
    [{ sendBuffer: 2 ** 31 }, 'ERR_OUT_OF_RANGE'],
    [{ timeout: 1 }, 'ERR_INVALID_ARG_VALUE'],
  ])('%j: %s', (options, code) => {
    expect(() => near(options as never)).toThrow(expect.objectContaining({ code }));
  });

  it('without CAP_NET_RAW', () => {
    const script = `
      const { PacketSocket } = require(${JSON.stringify(dist)});
      try { PacketSocket.open({ interface: 'lo' }); } catch (error) { console.log(error.message); }`;
    const { stdout } = spawnSync(
      'setpriv',
      ['--bounding-set=-all', '--inh-caps=-all', process.execPath, '-e', script],
      {
        encoding: 'utf8',
      },
    );
    expect(stdout).toMatch(/^socket EPERM.*CAP_NET_RAW/);
  });
});

describe('fromFd', () => {
  const describeSocket = `
    const { constructor, name, index, type } = socket;
    console.log(JSON.stringify([constructor.name, name, index, type, socket.fd]));`;

  it('gives a PacketSocket for a packet socket, whatever namespace it is of', () => {
    const socket = near({ type: 'dgram' });
    const seen = inheriting(socket, `const socket = socketFromFd(3); ${describeSocket} socket.close();`);
    expect(seen).toEqual(['PacketSocket', 'v0', socket.index, 'dgram', 3]);
  });

  it('gives a TunSocket for a tun descriptor', () => {
    const socket = kept(TunSocket.open({ name: 't7', netns: stage.pair.near }));
    const seen = inheriting(socket, `const socket = socketFromFd(3); ${describeSocket} socket.close();`);
    expect(seen).toEqual(['TunSocket', 't7', socket.index, null, 3]);
  });

  it('takes options of the socket over: what it was asked to tell, it tells', () => {
    const socket = near({ timestamps: true });
    far().sendmsg(text('queued'));
    const code = `
      const { bytes, timestamp, address } = socketFromFd(3).recvmsg(Buffer.alloc(100), constants.MSG_DONTWAIT);
      console.log(JSON.stringify([bytes, typeof timestamp, address]));`;
    expect(inheriting(socket, code)).toEqual([64, 'bigint', FAR_MAC]);
  });

  it('ENOTSOCK, EBADF and EBADFD leave the descriptor with the caller', async () => {
    const server = createServer().listen(0);
    await once(server, 'listening');
    const socketFd = (server as unknown as { _handle: { fd: number } })._handle.fd;
    const file = openSync('/dev/null', 'r');
    for (const fd of [file, socketFd]) {
      for (const adopt of [socketFromFd, PacketSocket.fromFd, TunSocket.fromFd]) {
        expect(() => adopt(fd)).toThrow(expect.objectContaining({ code: 'ENOTSOCK' }));
      }
      fstatSync(fd);
    }
    closeSync(file);
    server.close();
    expect(() => socketFromFd(file)).toThrow(expect.objectContaining({ code: 'EBADF' }));
    expect(() => socketFromFd(-1)).toThrow(RangeError);
    const a = near();
    stage.pair.nearLink.delete();
    const code = `
      let code;
      try { socketFromFd(3); } catch (error) { code = error.code; }
      fstatSync(3);
      console.log(JSON.stringify(code));`;
    expect(inheriting(a, code)).toBe('EBADFD');
  });
});
