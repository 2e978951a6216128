import { beforeAll, describe, expect, it } from 'vitest';
import { enterQuietNamespace } from '../helpers/namespace';
import { HAS_PYTHON } from '../helpers/peers';
import { inTerminal, plainLines, tunsock } from './helpers';

const SUBCOMMANDS = ['doctor', 'open', 'run', 'monitor', 'capture', 'replay', 'bench', 'demo'];

beforeAll(enterQuietNamespace);

describe('exit statuses', () => {
  it.each([
    [['--help'], 0],
    [['--version'], 0],
    [[], 2],
    [['fly'], 2],
    [['constructor'], 2],
    [['doctor', '--colour'], 2],
    [['doctor', 'me'], 2],
    [['open'], 2],
    [['open', '--mtu', 'big', '--', 'true'], 2],
    [['open', '--mtu', '12', '--', 'true'], 2],
    [['open', '--address', '10.0.0.1', '--', 'true'], 2],
    [['open', '--group', 'nogroup', '--', 'true'], 2],
    [['open', '--user', 'nobody-of-that-name', '--', 'true'], 1],
    [['capture', 'none0', '/dev/null'], 1],
    [['capture', 'lo'], 2],
    [['monitor', 'none0'], 1],
    [['replay', '/nonexistent', 'lo'], 1],
    [['replay', '--fast', '--speed', '2', '/dev/null', 'lo'], 2],
    [['bench', '--size', '9000'], 2],
  ])('tunsock %j: %i', (args, status) => {
    const ended = tunsock(args);
    expect(ended.status).toBe(status);
    if (status === 0) return;
    expect(ended.stderr.split('\n').length).toBeGreaterThan(1);
    if (args.length > 0) expect(ended.stderr).toMatch(/^tunsock: [^\n]+\n$/);
  });

  it.each(SUBCOMMANDS)('%s --help', (name) => {
    const { status, stdout } = tunsock([name, '--help']);
    expect(status).toBe(0);
    expect(stdout).toMatch(new RegExp(`^Usage: tunsock ${name} `));
    expect(tunsock(['--help']).stdout).toContain(name);
  });
});

describe.runIf(HAS_PYTHON)('in a terminal', () => {
  it.each([80, 50])('of %i columns, no line of a help text is longer', (columns) => {
    for (const args of [['--help'], ...SUBCOMMANDS.map((name) => [name, '--help'])]) {
      const { status, stdout } = inTerminal(columns, args);
      expect(status).toBe(0);
      const long = plainLines(stdout).filter((line) => line.length > columns && !line.startsWith('Usage:'));
      expect(long).toEqual([]);
    }
  });

  it('there are colours, unless NO_COLOR is set or it is piped', () => {
    const { stdout } = inTerminal(80, ['doctor']);
    expect(stdout).toContain('\x1b[');
    expect(inTerminal(80, ['doctor'], { NO_COLOR: '1' }).stdout).not.toContain('\x1b[');
    expect(inTerminal(80, ['doctor'], { NO_COLOR: '' }).stdout).toContain('\x1b[');
    expect(tunsock(['doctor']).stdout).not.toContain('\x1b[');
  });
});

it('bench measures each operation', () => {
  const { status, stdout } = tunsock(['bench', '--json', '--seconds', '0.05', '--size', '100']);
  expect(status).toBe(0);
  const results = JSON.parse(stdout) as { operation: string; packetSize: number; packetsPerSecond: number }[];
  expect(results.map(({ operation }) => operation)).toEqual(['sendmsg', 'sendmmsg', 'recvmsg', 'recvmmsg']);
  for (const { packetSize, packetsPerSecond } of results) {
    expect(packetSize).toBe(100);
    expect(packetsPerSecond).toBeGreaterThan(1000);
  }
});

it('demo shows that it works', () => {
  const { status, stdout } = tunsock(['demo']);
  expect(stdout).toContain('4 of 4 worked');
  expect(status).toBe(0);
  const results = JSON.parse(tunsock(['demo', '--json']).stdout) as { passed: boolean }[];
  expect(results.map(({ passed }) => passed)).toEqual([true, true, true, true]);
});
