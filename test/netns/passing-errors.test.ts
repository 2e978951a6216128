import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { Link } from '../../dist';
import { enterQuietNamespace } from '../helpers/namespace';
import { HAS_STRACE } from '../helpers/strace';

const dist = join(__dirname, '../../dist');

beforeAll(enterQuietNamespace);

/** Runs a program with faults in the calls that it makes on the tun descriptor; what it prints, as JSON. */
function run(program: string, ...faults: string[]): Record<string, unknown> {
  const { stdout, stderr } = spawnSync(
    'strace',
    [
      ...['-f', '-o', '/dev/null', '-P', '/dev/net/tun'],
      ...faults.flatMap((fault) => ['-e', `inject=${fault}`]),
      ...[
        process.execPath,
        '-e',
        `const { TunSocket, Link } = require(${JSON.stringify(dist)});\n${program}`,
      ],
    ],
    { encoding: 'utf8', timeout: 20_000 },
  );
  expect(stderr).toBe('');
  return JSON.parse(stdout);
}

describe.runIf(HAS_STRACE)('a receive that fails while the socket is listened to', () => {
  const LISTENS = `
    const tun = TunSocket.open({ name: 'p', address: '10.0.0.1/24' });
    const codes = [];
    tun.on('error', (error) => codes.push(error.code));
    const done = (closed) => { console.log(JSON.stringify({ codes, closed, there: Link.list().some(({ name }) => name === 'p') })); process.exit(); };
    tun.on('close', () => done(true));
    tun.on('message', () => done(false));
    require('node:dgram').createSocket('udp4').send('x', 9, '10.0.0.2');`;

  it.each(['ENOMEM', 'ENOBUFS', 'EIO'])('with %s: it is told, and the socket lives on', (code) => {
    expect(run(LISTENS, `read,readv:error=${code}:when=1..3`)).toEqual({
      codes: [code, code, code],
      closed: false,
      there: true,
    });
  });

  it('with an error that stays: told a bounded number of times, and then it is the end', () => {
    const { codes, closed } = run(LISTENS, 'read,readv:error=ENOMEM:when=1+');
    expect(closed).toBe(true);
    expect(codes).toEqual(Array(16).fill('ENOMEM'));
  });
});

describe.runIf(HAS_STRACE)('an open() of which a step fails leaves nothing behind', () => {
  const program = (options: string) => `
    let code;
    try { TunSocket.open({ name: 'left', ${options} }); } catch (error) { code = error.syscall + ' ' + error.code; }
    console.log(JSON.stringify({ code, left: Link.list().some(({ name }) => name === 'left') }));`;
  const OPTIONS =
    "persist: true, offload: 'split', owner: 0, group: 0, address: '10.0.0.1/24', routes: '10.9.0.0/16', mtu: 1400";

  it('whichever ioctl it is', () => {
    const steps = new Set<string>();
    for (let step = 1; step < 40; step++) {
      const { code, left } = run(program(OPTIONS), `ioctl:error=EPERM:when=${step}`) as {
        code?: string;
        left: boolean;
      };
      if (code === undefined) {
        // What is only asked of the device may fail. Past the last step it was opened, and stays since it is to.
        expect(left).toBe(true);
        Link.get('left').delete();
        if (!steps.has('TUNSETPERSIST EPERM')) continue;
        expect(steps).toContain('TUNSETOFFLOAD EPERM');
        expect(steps).toContain('TUNSETOWNER EPERM');
        return;
      }
      steps.add(code);
      expect({ code, left }).toEqual({ code, left: false });
    }
    expect.unreachable('open() makes a bounded number of calls');
  });
});
