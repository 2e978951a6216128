import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import { constants } from '../../dist';
import { codeOf } from '../helpers/device';
import { batchOf, queued, udpStage } from '../helpers/udp-stage';

const { MSG_DONTWAIT, MSG_ERRQUEUE } = constants;
const { open } = udpStage();
const data = Buffer.from('to nobody');

/** A port at which nobody receives. */
function freePort(): number {
  const socket = open();
  const { port } = socket.address();
  socket.close();
  return port;
}

const refused = (port: number) =>
  expect.objectContaining({
    code: 'ECONNREFUSED',
    errno: -111,
    address: '127.0.0.1',
    port,
    offender: '127.0.0.1',
  });

describe.each(['none', 'split'] as const)('a peer that refuses, offload %s', (offload) => {
  it('is an error event with who said so, and not the end', async () => {
    const udp = open({ offload });
    const port = freePort();
    udp.connect('127.0.0.1', port);
    const errors: Error[] = [];
    udp.on('error', (error) => errors.push(error));
    const heard = new Promise<Buffer>((resolve) => udp.on('message', resolve));
    for (let sent = 0; sent < 3; sent++) expect(udp.sendmsg(data)).toBe(data.length);
    while (errors.length < 3) await once(udp, 'error');
    expect(errors).toEqual([refused(port), refused(port), refused(port)]);
    expect(udp.stats()).toMatchObject({ received: { errors: 3 }, sent: { packets: 3, errors: 0 } });
    const peer = open({ port });
    udp.send(Buffer.from('now'));
    expect(String(await peer.receive())).toBe('now');
    peer.sendmsg(Buffer.from('then'), 0, { to: udp.address() });
    expect(String(await heard)).toBe('then');
    expect(errors.length).toBe(3);
  });

  it('fails no datagram of a batch, nor of send()', async () => {
    const udp = open({ offload });
    const port = freePort();
    udp.connect('127.0.0.1', port);
    const batch = batchOf(new Array<Buffer>(100).fill(data));
    expect(udp.sendmmsg(batch)).toBe(100);
    expect(udp.sendmmsg(batch)).toBe(100);
    await Promise.all(
      Array.from(
        { length: 10 },
        () =>
          new Promise<void>((resolve, reject) =>
            udp.send(data, (error) => (error === null ? resolve() : reject(error))),
          ),
      ),
    );
    expect(udp.stats().sent).toMatchObject({ packets: 210, errors: 0 });
  });

  it('is counted where nobody listens, throws nothing, and costs no time', async () => {
    const udp = open({ offload });
    udp.connect('127.0.0.1', freePort());
    udp.on('message', () => {});
    for (let sent = 0; sent < 50; sent++) udp.sendmsg(data);
    await new Promise((resolve) => setTimeout(resolve, 50));
    const before = process.cpuUsage();
    await new Promise((resolve) => setTimeout(resolve, 500));
    const { user, system } = process.cpuUsage(before);
    expect(user + system).toBeLessThan(250_000);
    expect(udp.closed).toBe(false);
    expect(udp.stats().received.errors).toBeGreaterThanOrEqual(50);
  });

  it('is thrown once by a blocking receive, and then in the error queue', () => {
    const udp = open({ offload, receiveTimeout: 300 });
    const port = freePort();
    udp.connect('127.0.0.1', port);
    udp.sendmsg(data);
    const room = Buffer.alloc(100);
    expect(codeOf(() => udp.recvmsg(room))).toBe('ECONNREFUSED');
    const before = process.cpuUsage();
    expect(codeOf(() => udp.recvmsg(room))).toBe('EAGAIN');
    const { user, system } = process.cpuUsage(before);
    expect(user + system).toBeLessThan(150_000);
    expect(udp.recvmsg(room, MSG_ERRQUEUE)).toMatchObject({
      error: 'ECONNREFUSED',
      from: { address: '127.0.0.1', port },
      to: '127.0.0.1',
    });
    expect(codeOf(() => udp.recvmsg(room, MSG_ERRQUEUE))).toBe('EAGAIN');
  });

  it('the error queue can be read before, with what was sent', () => {
    const udp = open({ offload });
    const port = freePort();
    udp.connect('127.0.0.1', port);
    udp.sendmsg(data);
    const room = Buffer.alloc(100);
    const { bytes, error } = udp.recvmsg(room, MSG_ERRQUEUE | MSG_DONTWAIT);
    expect(error).toBe('ECONNREFUSED');
    expect(room.subarray(0, bytes)).toEqual(data);
  });

  it('is no error of a socket without a peer, nor after disconnect()', () => {
    const udp = open({ offload });
    const port = freePort();
    const to = { address: '127.0.0.1', port };
    udp.sendmsg(data, 0, { to });
    expect(codeOf(() => udp.recvmsg(Buffer.alloc(9), MSG_DONTWAIT))).toBe('EAGAIN');
    udp.connect('127.0.0.1', port);
    udp.disconnect();
    udp.sendmsg(data, 0, { to });
    expect(queued(udp)).toEqual([]);
    expect(udp.stats().received.errors).toBe(0);
  });
});

it('IPv6 and IPv4 over it alike', async () => {
  for (const address of ['::1', '127.0.0.1']) {
    const udp = open({ address: '::' });
    udp.connect(address, 9);
    const error = once(udp, 'error') as Promise<[Error]>;
    udp.on('message', () => {});
    udp.sendmsg(data);
    expect((await error)[0]).toMatchObject({ code: 'ECONNREFUSED', address, port: 9, offender: address });
  }
});
