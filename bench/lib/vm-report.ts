import { markdownTable } from './markdown';

/** Who moves packets in a guest: C with read and write, tunsock by the same calls, tunsock by vhost. */
export type VmSide = 'C' | 'tunsock' | 'vhost';

/** One work at one size of packets; medians over the rounds. */
export interface VmRow {
  work: string;
  size: number;
  results: {
    side: VmSide;
    packetsPerSecond: number;
    /** Processor time of the calling thread for each packet. */
    threadNanoseconds: number;
    /** That by C's in the neighbouring round: the median, and the quartiles. */
    ratio: { median: number; low: number; high: number };
    /** Of the calling thread for each packet; undefined where strace is missing. */
    systemCalls: number | undefined;
  }[];
}

/** TCP through a forwarder. */
export interface VmForwardRow {
  name: string;
  megabitsPerSecond: number;
  /** Processor time of the forwarder's calling thread for 10^6 bytes. */
  threadMillisecondsPerMegabyte: number;
}

/** What a guest says. */
export interface VmRows {
  rows: VmRow[];
  forward: VmForwardRow[];
}

/** The same with the kernel that it ran. */
export interface VmReport extends VmRows {
  release: string;
}

/** Of vhost, for sendmmsg and recvmmsg (design, section 4). */
const MOST_TIME = 0.35;
const MOST_CALLS = 0.05;
const WITH_TARGET = ['sendmmsg', 'recvmmsg'];

const NAMES: Record<VmSide, string> = { C: 'C, read and write', tunsock: 'tunsock', vhost: 'tunsock, vhost' };

export function vmTable({ release, rows, forward }: VmReport): string {
  const packets = [
    ['work', 'by', 'packets/s', "thread's time/packet", "of C's", 'quartiles', 'calls/packet', 'target'],
    ...rows.flatMap(({ work, size, results }) =>
      results.map(({ side, packetsPerSecond, threadNanoseconds, ratio, systemCalls }) => [
        `${work} ${size} B`,
        NAMES[side],
        `${(packetsPerSecond / 1000).toFixed(1)} k`,
        `${threadNanoseconds.toFixed(0)} ns`,
        ratio.median.toFixed(2),
        `${ratio.low.toFixed(2)}–${ratio.high.toFixed(2)}`,
        systemCalls?.toFixed(3) ?? 'not counted',
        side === 'vhost' && WITH_TARGET.includes(work) ? target(ratio.median, systemCalls) : '-',
      ]),
    ),
  ];
  const streams = [
    ['TCP through a forwarder', 'Mb/s', "thread's time for a megabyte"],
    ...forward.map(({ name, megabitsPerSecond, threadMillisecondsPerMegabyte }) => [
      name,
      megabitsPerSecond.toFixed(0),
      `${threadMillisecondsPerMegabyte.toFixed(2)} ms`,
    ]),
  ];
  return [
    `In a guest with Linux ${release}, two emulated processors. Emulation distorts: it makes some instructions ten times slower and others a hundred ` +
      'times, so that only ratios within this table say something.',
    markdownTable(packets),
    markdownTable(streams),
  ].join('\n\n');
}

function target(ratio: number, calls: number | undefined): string {
  const time = `≤ ${MOST_TIME}: ${ratio <= MOST_TIME ? 'met' : 'MISSED'}`;
  if (calls === undefined) return time;
  return `${time}; < ${MOST_CALLS} calls: ${calls < MOST_CALLS ? 'met' : 'MISSED'}`;
}
