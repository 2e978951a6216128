import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { Link, Netns } from '../../dist';
import { enterQuietNamespace } from '../helpers/namespace';
import { readableBuild } from '../helpers/readable-build';
import { start, tunsock } from './helpers';

const isRoot = spawnSync('setpriv', ['--reuid', '65534', '--clear-groups', 'true']).status === 0;

beforeAll(enterQuietNamespace);

/** What a command finds of the protocol of sd_listen_fds(3), and of the device behind the descriptors. */
const REPORT = `
  const fs = require('node:fs');
  const { LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES } = process.env;
  const info = (fd) => /iff:\\s*(\\S+)/.exec(fs.readFileSync('/proc/self/fdinfo/' + fd, 'utf8'))?.[1];
  const status = fs.readFileSync('/proc/self/status', 'utf8');
  console.log(JSON.stringify({
    fds: LISTEN_FDS, names: LISTEN_FDNAMES, mine: Number(LISTEN_PID) === process.pid,
    devices: Array.from({ length: Number(LISTEN_FDS) }, (_, index) => info(3 + index)),
    uid: process.getuid(), gid: process.getgid(), groups: process.getgroups(),
    capabilities: /CapEff:\\s*(\\S+)/.exec(status)[1],
  }));`;

function report(...options: string[]) {
  const { status, stdout, stderr } = tunsock(['open', ...options, '--', process.execPath, '-e', REPORT]);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return JSON.parse(stdout);
}

describe('open', () => {
  it('hands over a device as sd_listen_fds(3) has it', () => {
    expect(report('--name', 'vpn0', '-a', '10.0.0.1/24')).toMatchObject({
      ...{ fds: '1', names: 'vpn0', mine: true, devices: ['vpn0'] },
    });
    expect(Link.list().map(({ name }) => name)).toEqual(['lo']);
  });

  it('hands over several queues', () => {
    expect(report('--queues', '3', '--name', 'multi%d', '--mode', 'tap')).toMatchObject({
      ...{ fds: '3', names: 'multi0:multi0:multi0', mine: true, devices: ['multi0', 'multi0', 'multi0'] },
    });
  });

  it.runIf(isRoot)('drops all privileges with --user', () => {
    expect(report('--user', '65534')).toMatchObject({
      uid: 65534,
      groups: [65534],
      capabilities: '0000000000000000',
    });
    expect(report('--user', 'nobody', '--group', '12345')).toMatchObject({ uid: 65534, gid: 12345 });
  });

  it('configures the device, which is the command’s alone', async () => {
    const args = [
      '-n',
      'cfg0',
      '-a',
      '10.3.0.1/24',
      '-a',
      'fd03::1/64',
      '-r',
      '10.4.0.0/16',
      '--mtu',
      '1300',
    ];
    const running = start(['open', ...args, '--', process.execPath, '-e', 'setTimeout(() => {}, 20000)']);
    while (!Link.list().some(({ name }) => name === 'cfg0')) await setTimeout(20);
    const link = Link.get('cfg0');
    while (link.routes().every(({ destination }) => destination !== '10.4.0.0/16')) await setTimeout(20);
    expect(link.mtu).toBe(1300);
    expect(link.addresses()).toEqual(expect.arrayContaining(['10.3.0.1/24', 'fd03::1/64']));
    // The signal goes on to the command; 128 and its number is what a shell makes of that.
    await setTimeout(300);
    running.kill('SIGTERM');
    expect((await running.ended).status).toBe(128 + 15);
    expect(Link.list().map(({ name }) => name)).toEqual(['lo']);
  });

  it('makes the device in another namespace, for a command in this one', () => {
    using netns = Netns.create();
    expect(report('--netns', `/proc/${process.pid}/fd/${netns.fd}`, '--name', 'far0')).toMatchObject({
      devices: ['far0'],
    });
  });

  it("ends with the command's status", () => {
    expect(tunsock(['open', '--', 'sh', '-c', 'exit 7']).status).toBe(7);
    const missing = tunsock(['open', '--', 'no-such-program']);
    expect(missing.status).toBe(127);
    expect(missing.stderr).toContain('no-such-program');
  });

  it('leaves nothing behind where it fails', () => {
    const { status, stderr } = tunsock(['open', '--name', 'lo', '--', 'true']);
    expect(status).toBe(1);
    expect(stderr).toMatch(/^tunsock: TUNSETIFF E(INVAL|BUSY): .*lo/);
    expect(Link.list().map(({ name }) => name)).toEqual(['lo']);
  });
});

describe('run', () => {
  const program =
    "const os = require('os'); console.log(process.getuid(), Object.keys(os.networkInterfaces()).join())";

  it('gives a command namespaces of its own, in which it may open a device', () => {
    const { status, stdout } = tunsock(['run', '--', process.execPath, '-e', program]);
    expect({ status, stdout }).toEqual({ status: 0, stdout: '0 lo\n' });
    const main = require.resolve('../../dist/cli/main.js');
    const nested = tunsock([
      'run',
      '--',
      process.execPath,
      main,
      'open',
      '-n',
      'in0',
      '--',
      'sh',
      '-c',
      'echo $LISTEN_FDNAMES',
    ]);
    expect({ status: nested.status, stdout: nested.stdout }).toEqual({ status: 0, stdout: 'in0\n' });
    expect(Link.list().map(({ name }) => name)).toEqual(['lo']);
  });

  it.runIf(isRoot)('needs no privilege', () => {
    using build = readableBuild();
    const main = join(build.dist, 'cli/main.js');
    const { status, stdout, stderr } = spawnSync(
      'setpriv',
      [
        '--reuid',
        '65534',
        '--regid',
        '65534',
        '--clear-groups',
        process.execPath,
        main,
        'run',
        '--',
        process.execPath,
        '-e',
        program,
      ],
      { encoding: 'utf8' },
    );
    expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: '0 lo\n', stderr: '' });
  });

  it("ends with the command's status", () => {
    expect(tunsock(['run', '--', 'sh', '-c', 'exit 7']).status).toBe(7);
    expect(tunsock(['run', '--', 'no-such-program']).status).toBe(127);
  });
});
