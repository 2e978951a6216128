import type { SoakResult, SoakSample } from '../soak';
import { COLORS, rendered, WIDTH } from './chart';
import type { Report } from './report';

const HEIGHT = 80;

/** What is drawn against time, one under the other; of the delay two lines. */
const PARTS: { title: string; lines: [color: string, value: (sample: SoakSample) => number][] }[] = [
  { title: 'resident memory, MiB', lines: [[COLORS.tunsock, ({ rss }) => rss / 1024 / 1024]] },
  { title: 'descriptors', lines: [[COLORS.tunsock, ({ descriptors }) => descriptors]] },
  {
    title: 'delay of the event loop, ms: median, and 99th percentile (grey)',
    lines: [
      [COLORS.C, ({ delay }) => delay.p99],
      [COLORS.tunsock, ({ delay }) => delay.p50],
    ],
  },
];

/** How one process under load was, minute by minute: SVG. */
export function soakChart(report: Report, { samples }: SoakResult): Promise<string> {
  const last = samples[samples.length - 1] as SoakSample;
  return rendered(
    `One process under load (${(last.packets / 1e6).toFixed(1)} million packets)`,
    `${report.machine}; ${report.date}`,
    {
      vconcat: PARTS.map(({ title, lines }, part) => ({
        title: { text: title, anchor: 'start', fontSize: 12, fontWeight: 'normal', offset: 4 },
        width: WIDTH,
        height: HEIGHT,
        layer: lines.map(([color, value]) => ({
          data: { values: samples.map((sample) => ({ x: sample.seconds / 60, y: value(sample) })) },
          mark: { type: 'line', stroke: color, strokeWidth: 1.5 },
          encoding: {
            x: {
              field: 'x',
              type: 'quantitative',
              axis: { title: part === PARTS.length - 1 ? 'minutes' : null, grid: false },
            },
            y: { field: 'y', type: 'quantitative', axis: { title: null, tickCount: 4 } },
          },
        })),
      })),
    },
  );
}
