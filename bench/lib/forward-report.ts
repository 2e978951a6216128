import type { ForwardRow } from '../forward';
import type { OffloadCosts } from '../offload-costs';
import type { SmallPackets } from '../small-packets';
import { markdownTable } from './markdown';
import { escapeXml } from './xml';

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

const ROW_HEIGHT = 26;
const LABEL_WIDTH = 150;
const BAR_WIDTH = 460;
const HEADER = 36;

/** Throughput with and without offload. */
/** `machine` and `date`: where and when it was measured. */
export function forwardChart(
  { machine, date }: { machine: string; date: string },
  rows: readonly ForwardRow[],
): string {
  const height = HEADER + rows.length * ROW_HEIGHT + 30;
  const most = Math.max(...rows.map(({ gigabitsPerSecond }) => gigabitsPerSecond));
  const bars = rows.map(({ name, gigabitsPerSecond }, index) => {
    const top = HEADER + index * ROW_HEIGHT;
    const middle = top + ROW_HEIGHT / 2 + 4;
    const width = (BAR_WIDTH * gigabitsPerSecond) / most;
    return [
      `<text x="${LABEL_WIDTH - 8}" y="${middle}" text-anchor="end">${escapeXml(name)}</text>`,
      `<rect x="${LABEL_WIDTH}" y="${top + 5}" width="${width.toFixed(1)}" height="${ROW_HEIGHT - 10}" fill="${name.startsWith('C') ? '#9aa5b1' : '#3b7dd8'}"/>`,
      `<text x="${LABEL_WIDTH + BAR_WIDTH + 10}" y="${middle}">${gigabitsPerSecond.toFixed(1)} Gb/s</text>`,
    ].join('\n');
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" width="760" height="${height}" viewBox="0 0 760 ${height}" font-family="sans-serif" font-size="13">
<rect width="760" height="${height}" fill="#ffffff"/>
<text x="10" y="20" font-size="15" font-weight="bold">TCP between two tun devices, through a forwarder</text>
${bars.join('\n')}
<text x="10" y="${height - 8}" fill="#555555" font-size="11">${escapeXml(`${machine}; ${date}`)}</text>
</svg>
`;
}
