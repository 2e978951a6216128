import type { ForwardRow } from '../forward';
import type { OffloadCosts } from '../offload-costs';
import type { SmallPackets } from '../small-packets';
import { markdownTable } from './markdown';

/** What offload gains and costs: parts of the report, as text. */
export function forwardTable(rows: readonly ForwardRow[]): string {
  return markdownTable([
    ['TCP through a forwarder', 'Gb/s', 'of C with superpackets', 'quartiles', 'target', '', 'CPU ms/GB'],
    ...rows.map(({ name, gigabitsPerSecond, cpuPerGigabyte, ratio, target }) => [
      name,
      gigabitsPerSecond.toFixed(1),
      ratio.median.toFixed(2),
      `${ratio.low.toFixed(2)}–${ratio.high.toFixed(2)}`,
      target === undefined ? '-' : `≥ ${target}`,
      target === undefined ? '' : ratio.median >= target ? 'met' : 'MISSED',
      cpuPerGigabyte.toFixed(0),
    ]),
  ]);
}

export function costsLine(costs: OffloadCosts): string {
  return (
    `offload, ns: checksum of 1448 B ${costs.checksum1448.toFixed(0)}, of 64 KiB ${costs.checksum65536.toFixed(0)}; ` +
    `split ${costs.splitSegment.toFixed(0)} and merge ${costs.mergeSegment.toFixed(0)} a segment of 1448 B, ` +
    `${costs.mergeLonePacket.toFixed(0)} a packet that merges with none`
  );
}

export function smallPacketsLine(sides: readonly SmallPackets[]): string {
  const side = ({ offload, receive, send }: SmallPackets) =>
    `'${offload}' ${receive.toFixed(0)} ns to receive, ${send.toFixed(0)} ns to send`;
  return `packets of 64 B, CPU time: ${sides.map(side).join('; ')}`;
}
