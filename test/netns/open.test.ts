import { spawnSync } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { constants, Link, Netns, type TunOptions, TunSocket } from '../../dist';
import { codeOf } from '../helpers/device';
import { belongings, enterQuietNamespace } from '../helpers/namespace';

beforeAll(enterQuietNamespace);

describe('options', () => {
  it('name, mode, mtu, mac, txQueueLength and addresses are those of the interface', () => {
    using tap = TunSocket.open({
      name: 'mine%d',
      mode: 'tap',
      mtu: 1300,
      mac: '02:00:00:00:00:07',
      txQueueLength: 2000,
      address: ['10.1.0.1/24', 'fd01::1/64'],
      routes: ['10.2.0.0/16', { destination: '10.3.0.0/16', gateway: '10.1.0.9', metric: 7 }],
    });
    expect(tap.name).toBe('mine0');
    expect(tap.index).toBe(Link.get('mine0').index);
    expect(tap.link).toMatchObject({ mtu: 1300, mac: '02:00:00:00:00:07', txQueueLength: 2000, isUp: true });
    expect(tap.link.addresses()).toEqual(expect.arrayContaining(['10.1.0.1/24', 'fd01::1/64']));
    expect(tap.link.routes()).toEqual(
      expect.arrayContaining([
        { destination: '10.2.0.0/16' },
        { destination: '10.3.0.0/16', gateway: '10.1.0.9', metric: 7 },
      ]),
    );
  });

  it('up: false leaves the interface down', () => {
    using tun = TunSocket.open({ up: false });
    expect(tun.link.isUp).toBe(false);
  });

  it.each([
    ['a Netns', (ns: Netns) => ns],
    ['a path', (ns: Netns) => `/proc/${process.pid}/fd/${ns.fd}`],
  ])('netns: %s puts the device there, while this thread stays', (_, target) => {
    using netns = Netns.create();
    using tun = TunSocket.open({ name: 'there', netns: target(netns), address: '10.4.0.1/24' });
    expect(Link.list().map((link) => link.name)).not.toContain('there');
    expect(netns.run(() => Link.get('there').addresses())).toContain('10.4.0.1/24');
    expect(tun.link.isUp).toBe(true);
  });

  it('IPv6 addresses are usable at once', () => {
    using tun = TunSocket.open({ address: 'fd05::1/64' });
    const send = `require('dgram').createSocket({ type: 'udp6' }).bind(0, 'fd05::1', function () { this.close(); })`;
    expect(spawnSync(process.execPath, ['-e', send], { encoding: 'utf8' })).toMatchObject({
      status: 0,
      stderr: '',
    });
    expect(tun.closed).toBe(false);
  });

  it('multiQueue opens several sockets on one device', () => {
    using first = TunSocket.open({ name: 'many', multiQueue: true });
    using second = TunSocket.open({ name: 'many', multiQueue: true });
    expect(second.index).toBe(first.index);
    second.detachQueue();
    second.attachQueue();
    expect(codeOf(() => TunSocket.open({ name: 'many', multiQueue: true, packetInfo: true }))).toBe(
      'ERR_INVALID_ARG_VALUE',
    );
  });

  it('persist keeps the device, owner lets it be attached; without persist it goes', () => {
    TunSocket.open({
      name: 'stays',
      persist: true,
      owner: userInfo().uid,
      group: userInfo().gid,
      address: '10.6.0.1/24',
    }).close();
    expect(Link.get('stays').isUp).toBe(true);
    const again = TunSocket.open({ name: 'stays', address: '10.6.0.1/24', persist: false });
    again.close();
    expect(Link.list().map((link) => link.name)).not.toContain('stays');
  });

  it('napi works on both kinds', () => {
    for (const mode of ['tun', 'tap'] as const) {
      using tun = TunSocket.open({ mode, napi: true });
      expect(tun.fd).toBeGreaterThan(0);
    }
  });

  it("napi: 'frags' on tap is for CAP_NET_ADMIN of the initial user namespace only", () => {
    const open = () => TunSocket.open({ mode: 'tap', napi: 'frags' }).close();
    if (readFileSync('/proc/self/uid_map', 'utf8').includes('4294967295')) open();
    else expect(codeOf(open)).toBe('EPERM');
  });
});

describe('a failed open leaves nothing behind', () => {
  let before = belongings();
  afterEach(() => {
    expect(belongings()).toEqual(before);
  });

  const NOWHERE = '192.0.2.1';
  it.each<[string, TunOptions, string, RegExp]>([
    ['a name that is too long', { name: 'x'.repeat(16) }, 'ERR_OUT_OF_RANGE', /1 to 15 bytes/],
    ['a name with a slash', { name: 'a/b' }, 'ERR_INVALID_ARG_VALUE', /'\/'/],
    ['an address that is none', { address: '10.0.0.300/24' }, 'ERR_INVALID_ARG_VALUE', /10\.0\.0\.1\/24/],
    ['an address without a prefix', { address: '10.0.0.1' }, 'ERR_INVALID_ARG_VALUE', /10\.0\.0\.1\/24/],
    ['a prefix that is too long', { address: '10.0.0.1/33' }, 'ERR_OUT_OF_RANGE', /0 to 32/],
    [
      'an option that does not exist',
      { adress: '10.0.0.1/24' } as TunOptions,
      'ERR_INVALID_ARG_VALUE',
      /address/,
    ],
    ['a mac for a tun device', { mac: '02:00:00:00:00:01' } as object, 'ERR_INVALID_ARG_VALUE', /tap/],
    ['a filter for a tun device', { filter: '1\n6 0 0 1' } as object, 'ERR_INVALID_ARG_VALUE', /tap/],
    ["napi: 'frags' for a tun device", { napi: 'frags' } as object, 'ERR_INVALID_ARG_VALUE', /tap/],
    [
      'packet info before virtio headers',
      { packetInfo: true, offload: 'raw' },
      'ERR_INVALID_ARG_VALUE',
      /'none'/,
    ],
    ['a virtio header without offload', { virtioHeaderSize: 12 }, 'ERR_INVALID_ARG_VALUE', /offload/],
    [
      "a byte order with 'split'",
      { offload: 'split', byteOrder: 'little' },
      'ERR_INVALID_ARG_VALUE',
      /'raw'/,
    ],
    ['an mtu that is no number', { mtu: '1500' as never }, 'ERR_INVALID_ARG_TYPE', /number/],
    ['an mtu that the kernel refuses', { mode: 'tap', mtu: 65535 }, 'EINVAL', /mtu/],
    [
      'IPv6 over an mtu that is too small',
      { mtu: 1000, address: ['10.0.0.1/24', 'fd00::1/64'] },
      'EINVAL',
      /./,
    ],
    [
      'a gateway out of reach',
      { address: '10.0.0.1/24', routes: { destination: 'default', gateway: NOWHERE } },
      'ENETUNREACH',
      /./,
    ],
    [
      'a device file that is not there',
      { device: '/dev/net/none' },
      'ENOENT',
      /modprobe tun.*--device \/dev\/net\/tun/,
    ],
    ['a file that is no tun device', { device: '/dev/null' }, 'ENOTTY', /TUNSETIFF/],
    ['an interface that is no tun device', { name: 'lo' }, 'EINVAL', /another kind/],
    ['a namespace that is not there', { netns: '/proc/self/ns/none' }, 'ENOENT', /ns\/none/],
  ])('%s', (_, options, code, message) => {
    before = belongings();
    expect(() => TunSocket.open(options)).toThrow(message);
    expect(codeOf(() => TunSocket.open(options))).toBe(code);
  });

  it('a name that is in use, by errors that name multiQueue', () => {
    using tun = TunSocket.open({ name: 'busy' });
    before = belongings();
    expect(() => TunSocket.open({ name: 'busy' })).toThrow(/^TUNSETIFF EBUSY: .*, busy \(.*multiQueue/);
    expect(codeOf(() => TunSocket.open({ name: 'busy', exclusive: true }))).toBe('EBUSY');
    expect(codeOf(() => TunSocket.open({ name: 'busy', multiQueue: true }))).toBe('EINVAL');
    expect(codeOf(() => TunSocket.open({ name: 'busy', mode: 'tap' }))).toBe('EINVAL');
    expect(belongings()).toEqual(before);
    tun.close();
    before = belongings();
  });

  it('an aborted signal', () => {
    before = belongings();
    expect(() => TunSocket.open({ signal: AbortSignal.abort() })).toThrow(
      expect.objectContaining({ name: 'AbortError' }),
    );
  });

  it('a persistent device that was there before is as it was', () => {
    TunSocket.open({ name: 'old', persist: true, mtu: 1400, address: '10.7.0.1/24', up: false }).close();
    before = belongings();
    const bad: TunOptions = {
      name: 'old',
      mtu: 1300,
      txQueueLength: 9,
      address: ['10.7.0.1/24', '10.8.0.1/24'],
      routes: { destination: 'default', gateway: NOWHERE },
    };
    expect(codeOf(() => TunSocket.open(bad))).toBe('ENETUNREACH');
    const link = Link.get('old');
    expect(link).toMatchObject({ mtu: 1400, txQueueLength: 500, isUp: false });
    expect(link.addresses()).toEqual(['10.7.0.1/24']);
    link.delete();
    before = belongings();
  });

  it('missing privilege, by an error that names CAP_NET_ADMIN', () => {
    before = belongings();
    const program = `const { TunSocket } = require(process.argv[1]);
      const count = () => require('fs').readdirSync('/proc/self/fd').length;
      try { TunSocket.open({ device: '/dev/null' }); } catch {}
      const before = count();
      try { TunSocket.open(); } catch (error) { console.log(JSON.stringify({ message: error.message, code: error.code, errno: error.errno, syscall: error.syscall, leaked: count() - before })); }`;
    // A user namespace without a network namespace of its own has no power over this one.
    const { stdout } = spawnSync('unshare', ['-Ur', process.execPath, '-e', program, process.cwd()], {
      encoding: 'utf8',
    });
    expect(JSON.parse(stdout)).toEqual({
      message: expect.stringMatching(
        /^TUNSETIFF EPERM: operation not permitted, tun%d \(this needs CAP_NET_ADMIN/,
      ),
      code: 'EPERM',
      errno: -1,
      syscall: 'TUNSETIFF',
      leaked: 0,
    });
  });
});

describe('fromFd and socketFromFd', () => {
  const inherited = (program: string, tun: TunSocket) =>
    spawnSync(process.execPath, ['-e', program, process.cwd()], {
      stdio: ['ignore', 'pipe', 'inherit', tun.fd],
      encoding: 'utf8',
    }).stdout.trim();

  it.each([false, true])(
    'take over a descriptor that another process opened, packetInfo %s',
    (packetInfo) => {
      using tun = TunSocket.open({ name: 'given', packetInfo, mode: 'tap' });
      const program = `const { TunSocket } = require(process.argv[1]);
      const tun = TunSocket.fromFd(3);
      const frame = Buffer.concat([Buffer.from(${packetInfo ? '[0, 0, 8, 0]' : '[]'}), Buffer.alloc(60)]);
      console.log(tun instanceof TunSocket, tun.name, tun.index, tun.sendmsg(frame));
      tun.close();`;
      expect(inherited(program, tun)).toBe(`true given ${tun.index} ${packetInfo ? 64 : 60}`);
    },
  );

  it('refuse what is no socket of ours with ENOTSOCK, and leave it open', () => {
    const fd = openSync('/dev/null', 'r');
    expect(codeOf(() => TunSocket.fromFd(fd))).toBe('ENOTSOCK');
    closeSync(fd);
  });
});

it("constants are the kernel's", () => {
  expect(constants).toMatchObject({ MSG_TRUNC: 0x20, MSG_DONTWAIT: 0x40, ETH_P_IPV6: 0x86dd });
});
