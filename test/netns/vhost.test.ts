import { existsSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { Link, PacketSocket, type PacketSocketOptions, type TunOptions, TunSocket } from '../../dist';
import { HOST } from '../helpers/device';
import { enterQuietNamespace } from '../helpers/namespace';

beforeAll(() => {
  enterQuietNamespace();
});

const tun = (options: TunOptions) => TunSocket.open({ name: 'v0', address: `${HOST}/24`, ...options });
const descriptors = () => readdirSync('/proc/self/fd').length;
const links = () =>
  Link.list()
    .map(({ name }) => name)
    .sort();

/** What opening throws. */
function refusal(open: () => unknown): Record<string, unknown> {
  try {
    open();
  } catch (error) {
    return { ...(error as object), message: (error as Error).message, kind: (error as Error).name };
  }
  throw new Error('nothing was thrown');
}

const NOT_THERE = join(tmpdir(), 'there-is-no-vhost-net');

describe.each(['tun', 'tap', 'packet'] as const)('a vhost device that can not be had, for %s', (kind) => {
  const open = (options: Pick<TunOptions & PacketSocketOptions, 'vhost' | 'vhostDevice' | 'offload'>) =>
    kind === 'packet' ? PacketSocket.open({ interface: 'lo', ...options }) : tun({ mode: kind, ...options });

  it.each([
    ['that is not there is ENOENT, and names the module', NOT_THERE, 'open', 'ENOENT', /modprobe vhost_net/],
    ['that is another one is ENOTTY', '/dev/null', 'VHOST_SET_OWNER', 'ENOTTY', /not that of vhost-net/],
  ])('%s', (_, vhostDevice, syscall, code, hint) => {
    const before = { descriptors: descriptors(), links: links() };
    expect(refusal(() => open({ vhost: true, vhostDevice }))).toMatchObject({
      code,
      syscall,
      path: vhostDevice,
      message: expect.stringMatching(hint),
    });
    expect({ descriptors: descriptors(), links: links() }).toEqual(before);
  });

  it.each(['none', 'split', 'raw'] as const)(
    "is done without by 'prefer', with offload %s as without vhost",
    (offload) => {
      using plain = open({ offload });
      const expected = { offload: plain.offload, features: plain.offloadFeatures };
      const size = plain.getSendBufferSize();
      plain.close();
      using socket = open({ vhost: 'prefer', vhostDevice: NOT_THERE, offload });
      expect(socket.vhost).toBe(false);
      expect({ offload: socket.offload, features: socket.offloadFeatures }).toEqual(expected);
      expect(socket.getSendBufferSize()).toBe(size);
    },
  );
});

it('a vhost device that may not be opened is EACCES, and names the group', () => {
  // Of a file without a store function even root is refused (kernfs_fop_open()).
  const file = '/sys/kernel/uevent_seqnum';
  expect(refusal(() => tun({ vhost: true, vhostDevice: file }))).toMatchObject({
    code: 'EACCES',
    syscall: 'open',
    path: file,
    message: expect.stringContaining('kvm'),
  });
});

it('is off by default', () => {
  using socket = tun({});
  expect(socket.vhost).toBe(false);
  socket.close();
  expect(socket.vhost).toBe(false);
});

it("'prefer' takes what there is at /dev/vhost-net", () => {
  using socket = tun({ vhost: 'prefer' });
  expect(socket.vhost).toBe(existsSync('/dev/vhost-net'));
});

describe('options that make no sense', () => {
  it.each([
    ['vhost', 'yes', 'ERR_INVALID_ARG_TYPE'],
    ['vhostRing', 100, 'ERR_INVALID_ARG_VALUE'],
    ['vhostRing', 32, 'ERR_OUT_OF_RANGE'],
    ['vhostRing', 65536, 'ERR_OUT_OF_RANGE'],
    ['vhostRing', 64.5, 'ERR_OUT_OF_RANGE'],
    ['vhostRing', '256', 'ERR_INVALID_ARG_TYPE'],
    ['vhostDevice', 1, 'ERR_INVALID_ARG_TYPE'],
  ])('%s: %o is %s', (key, value, code) => {
    const options = { vhost: true, vhostDevice: NOT_THERE, [key]: value } as object;
    expect(refusal(() => tun(options))).toMatchObject({ code });
    expect(refusal(() => PacketSocket.open({ interface: 'lo', ...options }))).toMatchObject({ code });
  });

  it.each([
    ['packetInfo', () => tun({ vhost: true, packetInfo: true })],
    ["type 'dgram'", () => PacketSocket.open({ interface: 'lo', vhost: true, type: 'dgram' } as never)],
  ])('are vhost: true with %s', (_, open) => {
    expect(refusal(open)).toMatchObject({
      code: 'ERR_INVALID_ARG_VALUE',
      message: expect.stringContaining('options.vhost'),
    });
  });

  it("are done without by 'prefer'", () => {
    using info = tun({ vhost: 'prefer', packetInfo: true });
    using datagrams = PacketSocket.open({ interface: 'lo', vhost: 'prefer', type: 'dgram' });
    expect([info.vhost, datagrams.vhost]).toEqual([false, false]);
  });
});
