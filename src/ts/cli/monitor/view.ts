import { cut, quantity } from '../terminal';
import type { Direction, Traffic } from './traffic';

/** One interval, as --json prints it. */
export interface Interval extends Traffic {
  interface: string;
  seconds: number;
  drops: {
    /** By the kernel, of what came in. */
    received: number;
    /** By the kernel, of what was to go out: the queue was full. */
    sent: number;
    errors: number;
    /** Not counted here, since this program was too slow: what is shown is less than what there was. */
    missed: number;
  };
}

const MAX_PROTOCOLS = 4;

function rates({ packets, bytes }: Direction, seconds: number): [packets: string, bits: string] {
  return [quantity(packets / seconds, 'pkt/s'), quantity((bytes * 8) / seconds, 'bit/s')];
}

function dropsText({ received, sent, errors, missed }: Interval['drops']): string {
  const all = `in ${received}, out ${sent}, errors ${errors}`;
  return missed === 0 ? all : `${all}, not seen ${missed}`;
}

/** The view for a terminal with lines of `columns` characters. */
export function viewOf(interval: Interval, columns: number): string[] {
  const { seconds, sizes, protocols, flows, drops } = interval;
  const rate = (name: string, direction: Direction) => {
    const [packets, bits] = rates(direction, seconds);
    return `${name.padEnd(4)} ${packets.padStart(12)} ${bits.padStart(12)}`;
  };
  const total = interval.in.packets + interval.out.packets;
  const totalBytes = interval.in.bytes + interval.out.bytes;
  const bar = Math.max(4, Math.min(40, columns - 22));
  const lines = [interval.interface, rate('in', interval.in), rate('out', interval.out), ''];
  let from = 0;
  for (const { upTo, packets } of sizes) {
    const label = upTo === undefined ? `over ${from - 1}` : `${from} to ${upTo}`;
    const share = total === 0 ? 0 : packets / total;
    lines.push(`${label.padStart(12)} ${percent(share)} ${'█'.repeat(Math.round(share * bar))}`);
    from = (upTo ?? 0) + 1;
  }
  lines.push('');
  for (const { name, bytes } of protocols.slice(0, MAX_PROTOCOLS)) {
    lines.push(`${cut(name, 12).padStart(12)} ${percent(bytes / totalBytes)}`);
  }
  if (flows.length > 0) lines.push('');
  for (const { name, bytes } of flows) {
    const amount = quantity((bytes * 8) / seconds, 'bit/s').padStart(12);
    lines.push(`${amount} ${cut(name, columns - 13)}`);
  }
  lines.push('', `drops: ${dropsText(drops)}`);
  return lines.map((line) => cut(line, columns));
}

/** One line for what is no terminal. */
export function lineOf(interval: Interval): string {
  const [inPackets, inBits] = rates(interval.in, interval.seconds);
  const [outPackets, outBits] = rates(interval.out, interval.seconds);
  return `${interval.interface}: in ${inPackets} ${inBits}, out ${outPackets} ${outBits}; drops: ${dropsText(interval.drops)}`;
}

function percent(share: number): string {
  return `${Math.round(share * 100)} %`.padStart(5);
}
