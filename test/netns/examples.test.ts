import { execFileSync, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';

const top = join(__dirname, '../..');
const compiled = join(top, 'build/examples');

beforeAll(() => {
  execFileSync('npx', ['tsc', '-p', 'examples'], { cwd: top, stdio: 'inherit' });
});

describe('examples', () => {
  it('inject gets the answers on a tun, a tap, and packet sockets', () => {
    const { status, stdout } = spawnSync(process.execPath, [join(compiled, 'inject.js')], {
      encoding: 'utf8',
    });
    expect(stdout.match(/the port is open/g)).toHaveLength(4);
    expect(stdout.match(/ARP: sent 42 bytes; answer 42 bytes/g)).toHaveLength(2);
    expect(status).toBe(0);
  });

  it('two Workers talk by ordinary sockets through a router of tunsock', () => {
    const { status, stdout } = spawnSync(process.execPath, [join(compiled, 'lab.js')], { encoding: 'utf8' });
    expect(stdout).toContain("alice hears { tcp: 'hello, bob', udp: 'hello, bob', peer: '10.0.2.2' }");
    expect(status).toBe(0);
  });

  it('forward passes on all that is sent, in every mode of offload', () => {
    const { status, stdout } = spawnSync(process.execPath, [join(compiled, 'forward.js')], {
      encoding: 'utf8',
    });
    expect(stdout.match(/^(none: 50|raw: 300|split: 300) MB at/gm)).toHaveLength(3);
    expect(status).toBe(0);
  });

  it('policy routing keeps the outer packets of a tunnel out of it', () => {
    const { status, stdout } = spawnSync(process.execPath, [join(compiled, 'policy-routing.js')], {
      encoding: 'utf8',
    });
    expect(stdout).toContain('into the tunnel: 198.51.100.7\n');
    expect(stdout).toContain('out of the host: 10.0.0.7, 203.0.113.1\n');
    expect(stdout).toContain('without the rules, out of the host: 198.51.100.8\n');
    expect(status).toBe(0);
  });

  it('the demo passes all that it shows', () => {
    const { status, stdout } = spawnSync(process.execPath, [join(compiled, 'demo.js')], { encoding: 'utf8' });
    expect(stdout).toContain('4 of 4 worked');
    expect(status).toBe(0);
  });
});
