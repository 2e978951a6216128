import { describe, expect, it } from 'vitest';
import { examine, type Finding } from '../../dist/cli/doctor/checks';
import { type SystemView, thisSystem } from '../../dist/cli/doctor/system-view';
import { inTerminal, plainLines, tunsock } from './helpers';

const ALL = '000001ffffffffff';
const NONE = '0000000000000000';

interface Sketch extends Partial<Omit<SystemView, 'read' | 'stat'>> {
  files?: { [path: string]: string | undefined };
  paths?: { [path: string]: { characterDevice: boolean; mode: number } | undefined };
  capabilities?: string;
}

/** A system on which all is well, but for what is told. */
function view({ files = {}, paths = {}, capabilities = ALL, ...rest }: Sketch): SystemView {
  const texts: { [path: string]: string | undefined } = {
    '/proc/self/status': `Name:\tnode\nCapEff:\t${capabilities}\n`,
    '/proc/misc': '200 tun\n',
    '/proc/sys/user/max_user_namespaces': '15000\n',
    ...files,
  };
  const present: { [path: string]: { characterDevice: boolean; mode: number } | undefined } = {
    '/dev/net/tun': { characterDevice: true, mode: 0o666 },
    '/dev/vhost-net': { characterDevice: true, mode: 0o666 },
    '/proc/self/ns/user': { characterDevice: false, mode: 0o444 },
    '/lib/modules/6.12.0': { characterDevice: false, mode: 0o755 },
    ...paths,
  };
  return {
    platform: 'linux',
    release: '6.12.0',
    execPath: '/usr/bin/node',
    uid: 0,
    addonError: () => undefined,
    read: (path) => texts[path],
    stat: (path) => present[path],
    openError: () => undefined,
    tryOpen: () => ({ offloads: ['csum', 'tso4', 'tso6', 'tso-ecn', 'uso4', 'uso6'] }),
    ...rest,
  };
}

const docker = { '/.dockerenv': { characterDevice: false, mode: 0o755 } };
const user = { uid: 1000, capabilities: NONE };
const refused = (path: string, code: string) => (asked: string) => (asked === path ? code : undefined);
const tunRefused = (code: string) => ({ openError: refused('/dev/net/tun', code) });

describe('each cause has its command', () => {
  it('none: all is well', () => {
    expect(examine(view({})).map(({ check, status }) => `${check} ${status}`)).toEqual([
      'system ok',
      'addon ok',
      'kernel ok',
      'device ok',
      'privilege ok',
      'user namespaces ok',
      'vhost ok',
      'opening ok',
    ]);
  });

  it.each<[string, Sketch, string, Finding['status'], RegExp]>([
    ['another system', { platform: 'darwin' }, 'system', 'fail', /docker run .*--device/],
    ['no addon', { addonError: () => 'it is missing' }, 'addon', 'fail', /^npm rebuild tunsock$/],
    ['an old kernel', { release: '3.10.0-1160.el7' }, 'kernel', 'fail', /linux-image/],
    [
      'no module',
      { paths: { '/dev/net/tun': undefined }, files: { '/proc/misc': '130 watchdog\n' } },
      ...(['device', 'fail', /^sudo modprobe tun$/] as const),
    ],
    ['no module behind the file', tunRefused('ENODEV'), 'device', 'fail', /^sudo modprobe tun$/],
    [
      'no module for the kernel that runs, since another was installed',
      { ...tunRefused('ENODEV'), release: '6.12.9' },
      ...(['device', 'fail', /^sudo reboot$/] as const),
    ],
    [
      'no device file',
      { paths: { '/dev/net/tun': undefined } },
      'device',
      'fail',
      /mknod .*\/dev\/net\/tun c 10 200$/,
    ],
    [
      'something else in its place',
      { paths: { '/dev/net/tun': { characterDevice: false, mode: 0o644 } } },
      ...(['device', 'fail', /^sudo rm \/dev\/net\/tun && .*mknod/] as const),
    ],
    [
      'its mode',
      { ...user, ...tunRefused('EACCES'), paths: { '/dev/net/tun': { characterDevice: true, mode: 0o600 } } },
      ...(['device', 'fail', /^sudo chmod 0666 \/dev\/net\/tun$/] as const),
    ],
    [
      'a container without the device',
      { paths: { ...docker, '/dev/net/tun': undefined } },
      ...(['device', 'fail', /^docker run --device \/dev\/net\/tun/] as const),
    ],
    [
      'a container that may not open it',
      { ...tunRefused('EPERM'), files: { '/proc/1/cgroup': '0::/kubepods/besteffort/pod1\n' } },
      ...(['device', 'fail', /^docker run --device \/dev\/net\/tun/] as const),
    ],
    ['a control group', tunRefused('EPERM'), 'device', 'fail', /systemd-run .*DeviceAllow/],
    [
      'AppArmor',
      { ...tunRefused('EACCES'), files: { '/proc/self/attr/current': 'usr.bin.node (enforce)\n' } },
      ...(['device', 'fail', /^sudo aa-complain usr.bin.node$/] as const),
    ],
    [
      'AppArmor in a container',
      {
        ...tunRefused('EACCES'),
        paths: docker,
        files: { '/proc/self/attr/current': 'docker-default (enforce)\n' },
      },
      ...(['device', 'fail', /--security-opt apparmor=unconfined/] as const),
    ],
    ['another security module', tunRefused('EACCES'), 'device', 'fail', /ausearch/],
    [
      'no capability, but namespaces',
      user,
      ...(['privilege', 'warn', /^sudo setcap cap_net_admin,cap_net_raw\+ep \/usr\/bin\/node$/] as const),
    ],
    [
      'no capability, and no namespaces',
      { ...user, files: { '/proc/sys/user/max_user_namespaces': '0\n' } },
      ...(['privilege', 'fail', /setcap/] as const),
    ],
    ['no capability in a container', { ...user, paths: docker }, 'privilege', 'warn', /--cap-add NET_ADMIN/],
    [
      'user namespaces off',
      { ...user, files: { '/proc/sys/user/max_user_namespaces': '0\n' } },
      ...(['user namespaces', 'fail', /^sudo sysctl -w user.max_user_namespaces=15000$/] as const),
    ],
    [
      'user namespaces only for root',
      { ...user, files: { '/proc/sys/kernel/unprivileged_userns_clone': '0\n' } },
      ...(['user namespaces', 'fail', /^sudo sysctl -w kernel.unprivileged_userns_clone=1$/] as const),
    ],
    [
      'user namespaces kept away by AppArmor',
      { ...user, files: { '/proc/sys/kernel/apparmor_restrict_unprivileged_userns': '1\n' } },
      ...([
        'user namespaces',
        'fail',
        /^sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0$/,
      ] as const),
    ],
    [
      'user namespaces off, for root',
      { files: { '/proc/sys/user/max_user_namespaces': '0\n' } },
      ...(['user namespaces', 'warn', /max_user_namespaces/] as const),
    ],
    [
      'a kernel without user namespaces',
      { paths: { '/proc/self/ns/user': undefined } },
      'user namespaces',
      'warn',
      /./,
    ],
    ['no vhost', { paths: { '/dev/vhost-net': undefined } }, 'vhost', 'warn', /^sudo modprobe vhost_net$/],
    [
      'vhost’s mode',
      { openError: refused('/dev/vhost-net', 'EACCES') },
      'vhost',
      'warn',
      /^sudo chmod 0666 \/dev\/vhost-net$/,
    ],
    [
      'offloads missing',
      { release: '6.1.0', tryOpen: () => ({ offloads: ['csum', 'tso4', 'tso6', 'tso-ecn'] }) },
      ...(['opening', 'warn', /upgrade/] as const),
    ],
    [
      'anything else',
      { tryOpen: () => ({ error: { code: 'ENOSPC', message: 'unshare ENOSPC: no space left on device' } }) },
      ...(['opening', 'fail', /dmesg/] as const),
    ],
  ])('%s', (_, sketch, check, status, fix) => {
    const found = examine(view(sketch)).find((finding) => finding.check === check);
    expect(found?.status).toBe(status);
    expect(found?.fix).toMatch(fix);
  });

  it('opens a device only where nothing stands against it, and rootless where it must', () => {
    const asked: boolean[] = [];
    const tryOpen = (rootless: boolean) => {
      asked.push(rootless);
      return { offloads: [] };
    };
    examine(view({ tryOpen, ...tunRefused('ENODEV') }));
    expect(asked).toEqual([]);
    examine(view({ tryOpen }));
    examine(view({ tryOpen, ...user }));
    expect(asked).toEqual([false, true]);
  });
});

describe('on this system', () => {
  it('opens a device', () => {
    const { status, stdout } = tunsock(['doctor', '--json']);
    const { ok, findings } = JSON.parse(stdout) as { ok: boolean; findings: Finding[] };
    expect([ok, status]).toEqual([true, 0]);
    expect(findings.at(-1)).toMatchObject({ check: 'opening' });
  });

  it('opens one without privilege, too', () => {
    expect(thisSystem().tryOpen(true).error).toBeUndefined();
  });

  it.each([80, 50])('fits into %i columns, but for commands', (columns) => {
    const lines = plainLines(inTerminal(columns, ['doctor']).stdout);
    expect(lines.length).toBeGreaterThan(7);
    expect(lines.filter((line) => line.length > columns && !/^ +(sudo|docker) /.test(line))).toEqual([]);
  });
});
