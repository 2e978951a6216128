/**
 * TCP through a VPN between two namespaces, both ends on this machine: the example of examples/vpn in both modes, and OpenVPN where it is
 * installed. All of them are up all the time, and measured in turns.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Link, Netns } from 'tunsock';
import { markdownTable } from './lib/markdown';
import { median } from './lib/statistics';

const ROOT = join(__dirname, '..', '..');
const SIDES = ['near', 'far'] as const;
type Side = (typeof SIDES)[number];

/** The outer leg: a cable. */
const OUTER = { near: '10.19.0.1', far: '10.19.0.2' } as const;

interface Contender {
  name: string;
  /** The third byte of its inner addresses, and what its ports end in. */
  number: number;
  start(side: Side): [command: string, args: string[]];
}

interface VpnRound {
  gigabitsPerSecond: number;
  /** Seconds of user and system time of both ends, for 10^9 bytes. */
  cpuPerGigabyte: number;
}

export interface VpnRow {
  name: string;
  gigabitsPerSecond: number;
  cpuPerGigabyte: number;
  rounds: VpnRound[];
}

const other = (side: Side): Side => (side === 'near' ? 'far' : 'near');
const inner = (side: Side, { number }: Contender) => `10.20.${number}.${side === 'near' ? 1 : 2}`;

/** The example, which is compiled as its README says. */
function tunsock(mode: 'packet' | 'superpacket', number: number, folder: string): Contender {
  const main = join(ROOT, 'build', 'examples', 'vpn', 'main.js');
  const keys = Object.fromEntries(
    SIDES.map((side) => {
      const text = execFileSync(process.execPath, [main, 'genkey'], { encoding: 'utf8' });
      const [, privateKey, publicKey] = /private (\S+)\npublic {2}(\S+)/.exec(text) as unknown as string[];
      return [side, { privateKey, publicKey }];
    }),
  ) as Record<Side, { privateKey: string; publicKey: string }>;
  const contender: Contender = {
    name: `tunsock, ${mode}`,
    number,
    start(side) {
      const port = 5200 + number;
      const file = join(folder, `${mode}-${side}.json`);
      const config = {
        name: `vpn${number}`,
        mode,
        privateKey: keys[side].privateKey,
        peerKey: keys[other(side)].publicKey,
        address: `${inner(side, contender)}/24`,
        listen: { address: OUTER[side], port },
        endpoint: { address: OUTER[other(side)], port },
      };
      writeFileSync(file, JSON.stringify(config));
      return [process.execPath, [main, 'up', file]];
    },
  };
  return contender;
}

/** TLS with certificates that each side knows by their fingerprints; what carries packets is as in the example. */
function openvpn(number: number, folder: string): Contender {
  const fingerprints = {} as Record<Side, string>;
  const file = (side: Side, end: string) => join(folder, `openvpn-${side}.${end}`);
  for (const side of SIDES) {
    const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:secp384r1', '-nodes', '-sha256'];
    const files = ['-keyout', file(side, 'key'), '-out', file(side, 'crt')];
    execFileSync('openssl', ['req', '-x509', ...curve, ...files, '-days', '30', '-subj', `/CN=${side}`], {
      stdio: 'ignore',
    });
    const printed = execFileSync('openssl', [
      'x509',
      '-fingerprint',
      '-sha256',
      '-in',
      file(side, 'crt'),
      '-noout',
    ]);
    fingerprints[side] = String(printed).trim().split('=')[1] as string;
  }
  const contender: Contender = {
    name: 'OpenVPN',
    number,
    start(side) {
      const port = String(5200 + number);
      const args = [
        ...[
          '--dev',
          `vpn${number}`,
          '--dev-type',
          'tun',
          '--proto',
          'udp',
          '--local',
          OUTER[side],
          '--port',
          port,
        ],
        ...[
          '--remote',
          OUTER[other(side)],
          port,
          '--ifconfig',
          inner(side, contender),
          inner(other(side), contender),
        ],
        ...(side === 'near' ? ['--tls-server', '--dh', 'none'] : ['--tls-client']),
        ...[
          '--cert',
          file(side, 'crt'),
          '--key',
          file(side, 'key'),
          '--peer-fingerprint',
          fingerprints[other(side)],
        ],
        ...[
          '--data-ciphers',
          'CHACHA20-POLY1305',
          '--cipher',
          'CHACHA20-POLY1305',
          '--disable-dco',
          '--verb',
          '1',
        ],
      ];
      return ['openvpn', args];
    },
  };
  return contender;
}

function hasProgram(name: string, argument: string): boolean {
  return spawnSync(name, [argument]).error === undefined;
}

/** Seconds of user and system time. */
function cpuSeconds({ pid }: ChildProcess): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') as string[];
  const TICKS_PER_SECOND = 100; // USER_HZ of every Linux that Node runs on
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

class VpnStage implements AsyncDisposable {
  readonly #netns: Record<Side, Netns>;
  readonly #ends = new Map<Contender, ChildProcess[]>();

  constructor() {
    this.#netns = { near: Netns.create(), far: Netns.create() };
    const { near, far } = this.#netns;
    for (const side of SIDES) {
      this.#netns[side].run(() => writeFileSync('/proc/sys/net/ipv6/conf/default/disable_ipv6', '1'));
    }
    near.run(() => Link.create({ type: 'veth', name: 'cable', peer: { name: 'cable', netns: far } }));
    for (const side of SIDES) {
      this.#netns[side].run(() => {
        const link = Link.get('cable');
        link.addAddress(`${OUTER[side]}/24`);
        link.up();
      });
    }
  }

  async start(contender: Contender): Promise<void> {
    const ends = SIDES.map((side) =>
      this.#netns[side].run(() => {
        const [command, args] = contender.start(side);
        return spawn(command, args, { stdio: ['ignore', 'ignore', 'inherit'] });
      }),
    );
    this.#ends.set(contender, ends);
    const deadline = performance.now() + 30_000;
    while (!this.#answers(contender)) {
      if (performance.now() > deadline) throw new Error(`${contender.name} does not come up`);
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }

  #answers(contender: Contender): boolean {
    const args = ['-c', '1', '-W', '1', inner('far', contender)];
    return this.#netns.near.run(() => spawnSync('ping', args)).status === 0;
  }

  async round(contender: Contender, seconds: number): Promise<VpnRound> {
    const address = inner('far', contender);
    const server = this.#netns.far.run(() =>
      spawn('iperf3', ['-s', '-1', '-B', address], { stdio: 'ignore' }),
    );
    await new Promise((resolve) => setTimeout(resolve, 300));
    const ends = this.#ends.get(contender) ?? [];
    const cpu = () => ends.reduce((sum, end) => sum + cpuSeconds(end), 0);
    const before = cpu();
    const client = this.#netns.near.run(() =>
      spawn('iperf3', ['-c', address, '-t', String(seconds), '-J'], { stdio: ['ignore', 'pipe', 'inherit'] }),
    );
    let text = '';
    client.stdout.on('data', (chunk) => {
      text += chunk;
    });
    await Promise.all([once(client, 'close'), once(server, 'close')]);
    const { bytes, bits_per_second } = JSON.parse(text).end.sum_received;
    return {
      gigabitsPerSecond: bits_per_second / 1e9,
      cpuPerGigabyte: (cpu() - before) / (bytes / 1e9),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const end of [...this.#ends.values()].flat()) {
      const closed = once(end, 'close');
      end.kill('SIGTERM');
      await closed;
    }
    for (const side of SIDES) this.#netns[side].close();
  }
}

export async function vpn(quick: boolean, progress: (text: string) => void): Promise<VpnRow[]> {
  for (const program of ['iperf3', 'ping']) {
    if (!hasProgram(program, '-V')) throw new Error(`this needs ${program}`);
  }
  execFileSync('npx', ['tsc', '-p', 'examples'], { cwd: ROOT, stdio: 'inherit' });
  const folder = mkdtempSync(join(tmpdir(), 'tunsock-vpn-'));
  try {
    await using stage = new VpnStage();
    const contenders = [tunsock('packet', 1, folder), tunsock('superpacket', 2, folder)];
    if (hasProgram('openvpn', '--version')) contenders.unshift(openvpn(0, folder));
    else progress('OpenVPN is not installed: measured without');
    for (const contender of contenders) await stage.start(contender);
    const rounds = new Map<Contender, VpnRound[]>(contenders.map((contender) => [contender, []]));
    for (let round = 0; round < (quick ? 3 : 10); round++) {
      for (const contender of contenders) {
        const result = await stage.round(contender, quick ? 2 : 5);
        rounds.get(contender)?.push(result);
        progress(`vpn, ${contender.name}: ${result.gigabitsPerSecond.toFixed(2)} Gb/s`);
      }
    }
    return contenders.map((contender) => {
      const all = rounds.get(contender) ?? [];
      return {
        name: contender.name,
        gigabitsPerSecond: median(all.map((round) => round.gigabitsPerSecond)),
        cpuPerGigabyte: median(all.map((round) => round.cpuPerGigabyte)),
        rounds: all,
      };
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** The target of the design: five times OpenVPN. */
export function vpnTable(rows: readonly VpnRow[]): string {
  const first = rows.find(({ name }) => name === 'OpenVPN');
  return markdownTable([
    ['TCP through', 'Gb/s', 'CPU seconds a gigabyte', 'times OpenVPN'],
    ...rows.map((row) => [
      row.name,
      row.gigabitsPerSecond.toFixed(2),
      row.cpuPerGigabyte.toFixed(2),
      first === undefined ? '-' : (row.gigabitsPerSecond / first.gigabitsPerSecond).toFixed(1),
    ]),
  ]);
}
