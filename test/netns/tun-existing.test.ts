import { execFileSync } from 'node:child_process';
import { endianness } from 'node:os';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Link, type TunOptions, TunSocket } from '../../dist';
import { codeOf } from '../helpers/device';
import { enterQuietNamespace } from '../helpers/namespace';
import { program } from '../helpers/optional';
import { udpPacket } from '../helpers/packets';

/** Opening a device that is there already, and may be somebody else's: a failure leaves it as it was. */

beforeAll(enterQuietNamespace);
afterEach(() => {
  for (const link of Link.list()) if (link.name !== 'lo') link.delete();
});

/** A step after the one that changed the device: a gateway that nobody reaches. */
const NO_ROUTE = { destination: '10.9.9.0/24', gateway: '10.77.0.1' };
/** One after all that concerns packets. */
const NO_VHOST = { vhost: true, vhostDevice: '/nowhere' } as const;
const FAILURES: [string, TunOptions, string][] = [
  ['a route', { routes: NO_ROUTE }, 'ENETUNREACH'],
  ['vhost-net', NO_VHOST, 'ENOENT'],
];

interface Headers {
  size: number;
  little: boolean;
}

/** What another program finds that attaches with virtio headers, having set `little` where that is given. */
function found(name: string, little?: boolean): Headers {
  const script = `
import fcntl, struct, sys
tun = open('/dev/net/tun', 'r+b', buffering=0)
fcntl.ioctl(tun, 0x400454ca, struct.pack('16sH22x', sys.argv[1].encode(), 0x5001)) # TUNSETIFF: IFF_TUN, IFF_NO_PI, IFF_VNET_HDR
if len(sys.argv) > 2: fcntl.ioctl(tun, 0x400454dc, struct.pack('i', int(sys.argv[2]))) # TUNSETVNETLE
ask = lambda number: struct.unpack('i', fcntl.ioctl(tun, number, bytes(4)))[0]
print(ask(0x800454d7), ask(0x800454dd)) # TUNGETVNETHDRSZ, TUNGETVNETLE`;
  const set = little === undefined ? [] : [String(Number(little))];
  const [size, order] = execFileSync(program('python3'), ['-c', script, name, ...set], { encoding: 'utf8' })
    .split(' ')
    .map(Number);
  return { size: size as number, little: order === 1 };
}

const hasCarrier = (name: string) => {
  const shown = execFileSync(program('ip'), ['link', 'show', name], { encoding: 'utf8' });
  expect(shown).toMatch(/NO-CARRIER|LOWER_UP/);
  return shown.includes('LOWER_UP');
};
const messageLevel = (name: string) => execFileSync(program('ethtool'), [name], { encoding: 'utf8' });

describe('virtio headers of a persistent device', () => {
  it.each(FAILURES)('are as before when open() fails at %s', (_, failure, code) => {
    TunSocket.open({ name: 'kept', persist: true }).close();
    const before = found('kept');
    expect(before).toEqual({ size: 10, little: false });
    const open = (options: TunOptions) => () =>
      TunSocket.open({ name: 'kept', offload: 'raw', ...options, ...failure } as TunOptions);
    expect(codeOf(open({ virtioHeaderSize: 12, byteOrder: 'little' }))).toBe(code);
    expect(found('kept')).toEqual(before);
    // Without virtioHeaderSize it is tunsock that chooses one, for tunnels.
    expect(codeOf(open({}))).toBe(code);
    expect(found('kept')).toEqual(before);
    found('kept', true);
    expect(codeOf(open({}))).toBe(code);
    expect(found('kept')).toEqual({ size: 10, little: true });
  });

  it('stay as open() has set them, and a byte order that a former user left does not', () => {
    TunSocket.open({ name: 'kept', persist: true }).close();
    TunSocket.open({ name: 'kept', offload: 'raw', virtioHeaderSize: 12, byteOrder: 'little' }).close();
    expect(found('kept')).toEqual({ size: 12, little: true });
    TunSocket.open({ name: 'kept', offload: 'raw' }).close();
    expect(found('kept').little).toBe(false);
  });
});

describe('headers that other queues have', () => {
  it('of another size are refused, and the queues go on', () => {
    using first = TunSocket.open({ multiQueue: true, offload: 'raw', address: '10.0.0.1/24' });
    const { name } = first;
    const size = first.info().virtioHeaderSize;
    const second = (options: TunOptions) => TunSocket.open({ name, multiQueue: true, ...options });
    const other = size === 12 ? 14 : 12;
    expect(() => second({ offload: 'raw', virtioHeaderSize: other })).toThrow(
      expect.objectContaining({
        code: 'ERR_INVALID_ARG_VALUE',
        message: expect.stringMatching(
          new RegExp(`options.virtioHeaderSize.*${size}, as it is for the other`),
        ),
      }),
    );
    expect(first.info()).toMatchObject({ queues: 1, virtioHeaderSize: size });
    // The host takes what it sends, whose header is as long as before.
    const before = first.link.counters();
    first.sendmsg(udpPacket(['10.0.0.2', 4000], ['10.0.0.1', 9], 'x'));
    const after = first.link.counters();
    expect([after.rxPackets - before.rxPackets, after.rxErrors]).toEqual([1, 0]);
  });

  it('of the same size are not', () => {
    using first = TunSocket.open({ multiQueue: true, offload: 'raw', virtioHeaderSize: 12 });
    const same = { name: first.name, multiQueue: true, offload: 'raw', virtioHeaderSize: 12 } as const;
    using second = TunSocket.open(same);
    expect(second.info()).toMatchObject({ queues: 2, virtioHeaderSize: 12 });
  });

  it('in another order are refused', () => {
    using first = TunSocket.open({ multiQueue: true, offload: 'raw' });
    const [own, other] = endianness() === 'LE' ? (['little', 'big'] as const) : (['big', 'little'] as const);
    const same = { name: first.name, multiQueue: true, offload: 'raw' } as const;
    TunSocket.open({ ...same, byteOrder: own }).close();
    expect(() => TunSocket.open({ ...same, byteOrder: other })).toThrow(
      expect.objectContaining({
        code: 'ERR_INVALID_ARG_VALUE',
        message: expect.stringMatching(/options.byteOrder.*'?native'?, as it is for the other/),
      }),
    );
    expect(first.info().queues).toBe(1);
  });
});

describe('the carrier', () => {
  it('of a persistent device is as before when open() fails', () => {
    // The kernel takes it away with the last queue, and gives it with the first.
    TunSocket.open({ name: 'kept', persist: true }).close();
    expect(hasCarrier('kept')).toBe(false);
    expect(codeOf(() => TunSocket.open({ name: 'kept', routes: NO_ROUTE }))).toBe('ENETUNREACH');
    expect(hasCarrier('kept')).toBe(false);
  });

  it('goes with noCarrier of a further queue too, and is back when its open() fails', () => {
    using first = TunSocket.open({ multiQueue: true });
    const { name } = first;
    const queue = { name, multiQueue: true, noCarrier: true } as const;
    expect(codeOf(() => TunSocket.open({ ...queue, ...NO_VHOST }))).toBe('ENOENT');
    expect(hasCarrier(name)).toBe(true);
    using second = TunSocket.open(queue);
    expect(hasCarrier(name)).toBe(false);
    expect(codeOf(() => TunSocket.open({ ...queue, ...NO_VHOST }))).toBe('ENOENT');
    expect(hasCarrier(name)).toBe(false);
    // One that says nothing leaves it.
    first.openQueue().close();
    expect(hasCarrier(name)).toBe(false);
    second.setCarrier(true);
    expect(hasCarrier(name)).toBe(true);
  });
});

it.each(FAILURES)('the message level is as before when open() fails at %s', (_, failure, code) => {
  TunSocket.open({ name: 'kept', persist: true, debug: 3 }).close();
  const before = messageLevel('kept');
  expect(before).toMatch(/0x0*3\b/);
  expect(codeOf(() => TunSocket.open({ name: 'kept', debug: 7, ...failure } as TunOptions))).toBe(code);
  expect(messageLevel('kept')).toBe(before);
});
