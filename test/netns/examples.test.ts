import { execFileSync, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { IS_REAL_ROOT } from '../helpers/kernel';
import { HAS_SETPRIV, POWERLESS } from '../helpers/powerless';

const top = join(__dirname, '../..');
const sources = join(top, 'examples');
const compiled = join(top, 'build/examples');

beforeAll(() => {
  execFileSync('npx', ['tsc', '-p', 'examples'], { cwd: top, stdio: 'inherit' });
});

/** What an example prints; fails when the example does. */
function run(name: string, ...args: string[]): string {
  return runUnder([], name, ...args);
}

function runUnder(wrapper: string[], name: string, ...args: string[]): string {
  const command = [...wrapper, process.execPath, join(compiled, `${name}.js`), ...args];
  const { status, stdout, stderr } = spawnSync(command[0] as string, command.slice(1), {
    encoding: 'utf8',
    timeout: 25_000,
  });
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return stdout;
}

/** The number in what was printed. */
function number(text: string, pattern: RegExp): number {
  expect(text).toMatch(pattern);
  return Number(pattern.exec(text)?.[1]);
}

describe('examples', () => {
  it('each is shorter than 150 lines, and on the index page', () => {
    const index = readFileSync(join(sources, 'README.md'), 'utf8');
    for (const name of readdirSync(sources).filter((file) => file.endsWith('.ts'))) {
      expect(readFileSync(join(sources, name), 'utf8').split('\n').length).toBeLessThan(150);
      expect(index).toContain(`(${name})`);
    }
  });

  it('ping-responder answers the host, over IPv4 and IPv6', () => {
    const stdout = run('ping-responder');
    expect(stdout).toMatch(/^10\.0\.0\.2 answered in \d+\.\d ms$/m);
    expect(stdout).toMatch(/^fd00::2 answered in \d+\.\d ms$/m);
  });

  it.runIf(IS_REAL_ROOT)('privilege-separation hands a device to a program that may not open one', () => {
    const stdout = run('privilege-separation');
    expect(stdout).toMatch(/^user 65534 may not open a device: E(ACCES|PERM)$/m);
    expect(stdout).toContain('user 0 has sent the device: tun0\n');
    expect(stdout).toMatch(/^it reads 10\.0\.0\.1(:\d+)? > 10\.0\.0\.2/m);
  });

  it('rootless-device has its namespace where this process may enter it', () => {
    const stdout = run('rootless-device');
    expect(stdout).toMatch(/^this process may enter it: the interface has the number \d+$/m);
    expect(stdout).toContain('inside hears: all of this without root\n');
  });

  it.runIf(HAS_SETPRIV)('rootless-device takes no privilege', () => {
    const stdout = runUnder(POWERLESS, 'rootless-device');
    expect(stdout).toContain('tun0 is in another network\n');
    expect(stdout).toContain('this process may not enter it: ERR_INVALID_STATE\n');
    expect(stdout).toContain('inside hears: all of this without root\n');
    expect(stdout).toMatch(/^outside reads 10\.0\.0\.1:\d+ > 10\.0\.0\.2:7 UDP 3, 31 bytes$/m);
    expect(stdout).toContain('5 packets came, 5 went back\n');
  });

  it('router connects two Workers, which talk by ordinary sockets', () => {
    expect(run('router')).toContain("alice hears { tcp: 'hello, bob', udp: 'hello, bob', peer: '10.0.2.2' }");
  });

  it('nat shows the server only its public address', () => {
    const stdout = run('nat');
    expect(stdout).toContain("the client hears 'from behind the NAT' and 'from behind the NAT'");
    expect(stdout).toContain('the server sees 198.51.100.77');
    expect(stdout).toMatch(/protocol 6: 192\.168\.1\.2:\d+ is 198\.51\.100\.77:20000/);
    expect(stdout).toMatch(/protocol 17: 192\.168\.1\.2:\d+ is 198\.51\.100\.77:20001/);
  });

  it('network-emulator delays, and loses what the seed says', () => {
    const stdout = run('network-emulator', '7');
    const answers = number(stdout, /^(\d+) of 200 datagrams came back/);
    const there = number(stdout, /lost: (\d+) there/);
    const back = number(stdout, /(\d+) on the way back/);
    // 20 ms each way.
    expect(number(stdout, /the quickest in (\d+) ms/)).toBeGreaterThanOrEqual(40);
    expect(stdout).toContain('overflowed: 0');
    // The kernel's few words on a new interface may get lost, too.
    expect(answers).toBeGreaterThanOrEqual(200 - there - back);
    expect(answers).toBeLessThan(200);
    expect(there).toBeGreaterThan(5);
  });

  it('tap-bridge learns where each host is', () => {
    const stdout = run('tap-bridge');
    expect(stdout).toContain('host 1 had 100000 bytes back from host 2');
    expect(stdout).toContain('02:00:00:00:00:01 is at port 0');
    expect(stdout).toContain('02:00:00:00:00:02 is at port 1');
    expect(number(stdout, /forwarded (\d+) frames/)).toBeGreaterThan(100);
    expect(number(stdout, /flooded (\d+)/)).toBeLessThan(60);
    expect(stdout).toContain('host 3 overheard only what was flooded');
  });

  it('capture sees each datagram go and come', () => {
    const stdout = run('capture');
    for (const [direction, size] of ['out', 'in '].flatMap((each) =>
      [3, 3, 5].map((payload) => [each, payload] as const),
    )) {
      expect(stdout).toMatch(
        new RegExp(
          `^[\\d:.]{18} ${direction} 127.0.0.1:\\d+ > 127.0.0.1:\\d+ UDP ${size}, ${size + 42} bytes$`,
          'm',
        ),
      );
    }
    expect(stdout).toContain('6 packets, 0 dropped');
  });

  it('inject gets the answers on a tun, a tap, and packet sockets', () => {
    const stdout = run('inject');
    expect(stdout.match(/answer 10\.0\.0\.1:7 > 10\.0\.0\.2:4000 TCP SA/g)).toHaveLength(4);
    expect(stdout.match(/answer 10\.0\.0\.1 > 10\.0\.0\.2 ARP, 42 bytes/g)).toHaveLength(2);
  });

  it('syn-scan finds the open ports of a namespace', () => {
    expect(run('syn-scan')).toContain('open: 22, 80, 443, 8080; 9996 closed, 0 silent');
  });

  it('queues keep each flow in one Worker', () => {
    const stdout = run('queues', '3');
    expect(stdout).toContain('640 of 640 datagrams came back, in order');
    expect(stdout).toContain('no flow was in two queues');
    expect(stdout.match(/worker \d: [1-9]\d* flows/g)).toHaveLength(3);
  });

  it('dns-responder answers the resolver of Node', () => {
    expect(run('dns-responder').split('\n')).toEqual([
      'A    gate.example 192.0.2.1 192.0.2.2',
      'AAAA gate.example 2001:db8::1',
      'A    nowhere.example ENOTFOUND',
      '',
    ]);
  });

  it('integration-test needs no sudo', () => {
    const main = join(top, 'dist/cli/main.js');
    const { NODE_TEST_CONTEXT: _, ...env } = process.env;
    const { status, stdout } = spawnSync(
      process.execPath,
      [main, 'run', '--', process.execPath, '--test', join(compiled, 'integration-test.js')],
      { encoding: 'utf8', env },
    );
    expect(stdout).toMatch(/pass 3\b/);
    expect(status).toBe(0);
  });

  it('forward passes on all that is sent, in every mode of offload', () => {
    expect(run('forward').match(/^(none: 50|raw: 300|split: 300) MB at/gm)).toHaveLength(3);
  });

  it('policy routing keeps the outer packets of a tunnel out of it', () => {
    const stdout = run('policy-routing');
    expect(stdout).toContain('into the tunnel: 198.51.100.7\n');
    expect(stdout).toContain('out of the host: 10.0.0.7, 203.0.113.1\n');
    expect(stdout).toContain('without the rules, out of the host: 198.51.100.8\n');
  });
});
