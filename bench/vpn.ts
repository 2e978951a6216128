/**
 * TCP through a VPN between two namespaces, both ends on this machine: the example of examples/vpn in both modes, and OpenVPN and wireguard-go
 * where they are installed. All of them are up all the time, and measured in turns.
 */
import { type ChildProcessByStdio, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { Link, Netns } from 'tunsock';
import { cutBeforeCable, loseIncoming } from './lib/loss';
import { markdownTable } from './lib/markdown';
import { median } from './lib/statistics';
import {
  inner,
  OUTER,
  openvpn,
  ROOT,
  SIDES,
  type Side,
  tunsock,
  type VpnContender,
  wireguardGo,
} from './lib/vpn-contenders';

type End = ChildProcessByStdio<null, Readable, null>;

interface VpnRound {
  gigabitsPerSecond: number;
  /** Seconds of user and system time of both ends, for 10^9 bytes. */
  cpuPerGigabyte: number;
}

export interface VpnRow {
  name: string;
  /** Where the sender has changed it: the mode that it ended in. */
  mode: string | undefined;
  gigabitsPerSecond: number;
  cpuPerGigabyte: number;
  rounds: VpnRound[];
}

function hasProgram(name: string, argument: string): boolean {
  return spawnSync(name, [argument]).error === undefined;
}

/** Seconds of user and system time. */
function cpuSeconds({ pid }: End): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') as string[];
  const TICKS_PER_SECOND = 100; // USER_HZ of every Linux that Node runs on
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

class VpnStage implements AsyncDisposable {
  readonly #netns: Record<Side, Netns>;
  readonly #ends = new Map<VpnContender, End[]>();
  readonly #modes = new Map<VpnContender, string>();

  /** A cable that loses so many percent of what goes over it, either way. */
  constructor(loss: number) {
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
        if (loss === 0) return;
        cutBeforeCable(link.name);
        loseIncoming(link.name, loss);
      });
    }
  }

  async start(contender: VpnContender): Promise<void> {
    const ends = SIDES.map((side) => this.#spawn(contender, side));
    this.#ends.set(contender, ends);
    for (const side of SIDES) await contender.configure?.(side, this.#netns[side]);
    const deadline = performance.now() + 30_000;
    while (!this.#answers(contender)) {
      if (performance.now() > deadline) throw new Error(`${contender.name} does not come up`);
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }

  #spawn(contender: VpnContender, side: Side): End {
    const [command, args] = contender.start(side);
    const end = this.#netns[side].run(() => spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] }));
    end.stdout.setEncoding('utf8').on('data', (text: string) => {
      const mode = / in mode (\w+)\n$/.exec(text)?.[1];
      if (side === 'near' && mode !== undefined) this.#modes.set(contender, mode);
    });
    return end;
  }

  #answers(contender: VpnContender): boolean {
    const args = ['-c', '1', '-W', '1', inner('far', contender.number)];
    return this.#netns.near.run(() => spawnSync('ping', args)).status === 0;
  }

  async round(contender: VpnContender, seconds: number): Promise<VpnRound> {
    const address = inner('far', contender.number);
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

  /** The mode that the sender has changed to. */
  mode(contender: VpnContender): string | undefined {
    return this.#modes.get(contender);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const end of [...this.#ends.values()].flat()) {
      if (end.exitCode !== null || end.signalCode !== null) continue;
      const closed = once(end, 'close');
      end.kill('SIGTERM');
      await closed;
    }
    for (const side of SIDES) this.#netns[side].close();
  }
}

/** `loss`: percent of the datagrams that are lost on the way. */
export async function vpn(quick: boolean, loss: number, progress: (text: string) => void): Promise<VpnRow[]> {
  for (const program of ['iperf3', 'ping', ...(loss > 0 ? ['tc', 'ethtool'] : [])]) {
    if (!hasProgram(program, program === 'ethtool' ? '--version' : '-V'))
      throw new Error(`this needs ${program}`);
  }
  execFileSync('npx', ['tsc', '-p', 'examples'], { cwd: ROOT, stdio: 'inherit' });
  const folder = mkdtempSync(join(tmpdir(), 'tunsock-vpn-'));
  try {
    await using stage = new VpnStage(loss);
    const contenders = [tunsock('packet', 1, folder), tunsock('superpacket', 2, folder)];
    // Which of them it is, where nothing is lost, is known.
    if (loss > 0) contenders.push(tunsock('auto', 3, folder));
    if (hasProgram('openvpn', '--version')) contenders.unshift(openvpn(0, folder));
    else progress('OpenVPN is not installed: measured without');
    if (hasProgram('wireguard-go', '--version')) contenders.push(wireguardGo(4));
    else progress('wireguard-go is not installed: measured without');
    for (const contender of contenders) await stage.start(contender);
    const rounds = new Map<VpnContender, VpnRound[]>(contenders.map((contender) => [contender, []]));
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
        mode: stage.mode(contender),
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
export function vpnTable(rows: readonly VpnRow[], loss: number): string {
  const first = rows.find(({ name }) => name === 'OpenVPN');
  return markdownTable([
    [
      loss > 0 ? `TCP through, ${loss} % lost` : 'TCP through',
      'Gb/s',
      'CPU seconds a gigabyte',
      'times OpenVPN',
    ],
    ...rows.map((row) => [
      row.mode === undefined ? row.name : `${row.name}, which went to ${row.mode}`,
      row.gigabitsPerSecond.toFixed(2),
      row.cpuPerGigabyte.toFixed(2),
      first === undefined ? '-' : (row.gigabitsPerSecond / first.gigabitsPerSecond).toFixed(1),
    ]),
  ]);
}
