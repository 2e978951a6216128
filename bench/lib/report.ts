import { execFileSync } from 'node:child_process';
import { cpus, release } from 'node:os';
import type { FloodRow } from '../flood';
import type { ForwardRow } from '../forward';
import type { MemoryResult } from '../memory';
import type { OffloadCosts } from '../offload-costs';
import type { QueuesRow } from '../queues';
import type { SmallPackets } from '../small-packets';
import type { SoakResult } from '../soak';
import type { UdpRow } from '../udp';
import type { VpnRow } from '../vpn';
import { costsLine, forwardTable, smallPacketsLine } from './forward-report';
import { markdownTable } from './markdown';
import type { Row, Side } from './measure';
import type { VmReport } from './vm-report';

/** A whole run. */
export interface Report {
  date: string;
  commit: string;
  machine: string;
  quick: boolean;
  /** Percent of the datagrams that a VPN's cable loses. */
  loss: number;
  rows: Row[];
  memory: MemoryResult | undefined;
  forward: ForwardRow[] | undefined;
  smallPackets: SmallPackets[] | undefined;
  offloadCosts: OffloadCosts | undefined;
  queues: QueuesRow[] | undefined;
  udp: UdpRow[] | undefined;
  vpn: VpnRow[] | undefined;
  /** Or why there is no guest. */
  vm: VmReport | string | undefined;
  flood: FloodRow[] | undefined;
  soak: SoakResult | undefined;
}

/** Starts a report of this machine and this commit. */
export function newReport(quick: boolean, loss: number): Report {
  const processors = cpus();
  return {
    date: new Date().toISOString().slice(0, 10),
    commit: commit(),
    machine: `${processors.length} × ${processors[0]?.model ?? 'unknown'}, Linux ${release()}, Node ${process.version}`,
    quick,
    loss,
    rows: [],
    memory: undefined,
    forward: undefined,
    smallPackets: undefined,
    offloadCosts: undefined,
    queues: undefined,
    udp: undefined,
    vpn: undefined,
    vm: undefined,
    flood: undefined,
    soak: undefined,
  };
}

/** 'recvmmsg 64 B' */
export function title({ operation, size, traffic }: Pick<Row, 'operation' | 'size' | 'traffic'>): string {
  const name = size === 0 ? operation : `${operation} ${size} B`;
  return traffic === 'flood' ? `${name}, flood` : name;
}

/** '0.93', or for what is told as time '1.24 × time'. */
export function ratio(row: Row): string {
  return isTime(row) ? `${(1 / row.speed.median).toFixed(2)} × time` : fixed(row.speed.median);
}

/** The report as text: Markdown tables, which a terminal shows as well, and a line each for what is no table. */
export function table(report: Report): string {
  const lines = [
    [
      'row',
      'C',
      'tunsock',
      'ratio',
      'quartiles',
      'C, threaded',
      'target',
      '',
      'cores: C',
      'cores: tunsock',
      'calls/packet',
      'bytes/packet',
    ],
    ...report.rows.map((row) => [
      title(row),
      `${row.baselineName} ${figure(row.baseline)}`,
      figure(row.tunsock),
      ratio(row),
      spread(row),
      ceiling(row),
      target(row),
      row.met === undefined ? '' : row.met ? 'met' : 'MISSED',
      cores(row.baseline),
      cores(row.tunsock),
      calls(row),
      row.counts?.allocatedBytes?.toFixed(1) ?? '-',
    ]),
  ];
  return [
    report.rows.length === 0 ? '' : markdownTable(lines),
    report.forward === undefined ? '' : forwardTable(report.forward),
    report.smallPackets === undefined ? '' : smallPacketsLine(report.smallPackets),
    report.offloadCosts === undefined ? '' : costsLine(report.offloadCosts),
    memoryLine(report.memory),
  ]
    .filter((part) => part !== '')
    .join('\n\n');
}

function isTime({ target }: Row): boolean {
  return target !== undefined && 'timeAtMost' in target;
}

function target({ target }: Row): string {
  if (target === undefined) return '-';
  return 'timeAtMost' in target ? `≤ ${target.timeAtMost} × time` : `≥ ${target.speedAtLeast}`;
}

function figure(side: Side): string {
  return time(side.nanosecondsPerPacket);
}

/** '980 ns', '39.5 µs' */
export function time(ns: number): string {
  return ns < 10_000
    ? `${ns.toFixed(0)} ns`
    : ns < 1e6
      ? `${(ns / 1000).toFixed(1)} µs`
      : `${(ns / 1e6).toFixed(2)} ms`;
}

function spread(row: Row): string {
  const { low, high } = row.speed;
  return isTime(row) ? `${fixed(1 / high)}–${fixed(1 / low)}` : `${fixed(low)}–${fixed(high)}`;
}

function ceiling(row: Row): string {
  if (row.ceiling === undefined) return '-';
  return fixed(isTime(row) ? 1 / row.ceiling : row.ceiling);
}

/** The reader's core, and the sender's. */
function cores(side: Side): string {
  const percent = (share: number) => `${(share * 100).toFixed(0)} %`;
  return side.trafficCoreShare === undefined
    ? percent(side.coreShare)
    : `${percent(side.coreShare)} + ${percent(side.trafficCoreShare)}`;
}

function calls({ counts }: Row): string {
  if (counts?.systemCalls === undefined || counts.baselineSystemCalls === undefined) return 'not counted';
  return `${counts.systemCalls.toFixed(3)} (C ${counts.baselineSystemCalls.toFixed(3)})`;
}

function memoryLine(memory: MemoryResult | undefined): string {
  if (memory === undefined) return '';
  const mib = (bytes: number) => `${(bytes / 1024 / 1024).toFixed(1)} MiB`;
  return (
    `memory: ${memory.packets} packets through the batch path at ${memory.nanosecondsPerPacket.toFixed(0)} ns each; ` +
    `resident ${mib(Math.min(...memory.samples))} to ${mib(Math.max(...memory.samples))}, ` +
    `growth after the second tenth ${mib(memory.growth)}: ${memory.flat ? 'flat' : 'NOT FLAT'}`
  );
}

function fixed(value: number): string {
  return value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

function commit(): string {
  try {
    return execFileSync('git', ['rev-parse', '--short', 'HEAD'], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim();
  } catch {
    return 'unknown';
  }
}
