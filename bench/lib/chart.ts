import type { Report } from './report';
import { ratio, time, title } from './report';

/** A bar, its name beside it and its figure behind it. */
interface Bar {
  name: string;
  by: 'tunsock' | 'C' | 'others';
  value: number;
  text: string;
}

interface Chart {
  title: string;
  subtitle: string;
  bars: readonly Bar[];
  /** Where a line is drawn. */
  rule?: number;
}

export const COLORS = { tunsock: '#2f7ad6', C: '#8b96a3', others: '#d08a3c' };
export const WIDTH = 420;
/** What is many times as fast as what it is compared with would leave no room for the others. */
const MAX_SPEED = 1.25;
/** As the reader's page: the drawing has its own ground, so that it can be read on each. */
const DARK = `@media (prefers-color-scheme: dark) {
rect[fill="white"] { fill: #0d1117 } text { fill: #e6edf3 } .mark-rule line { stroke: #9aa4af } }`;

/** The charts for which a report has figures, by the name of their file: SVG. */
export async function charts(report: Report): Promise<[name: string, svg: string][]> {
  const where = `${report.machine}; ${report.date}${report.quick ? '; a quick run' : ''}`;
  const all: [string, Chart][] = [
    [
      'bench.svg',
      {
        title: 'Speed next to the C loop with the same system calls (C = 1; longer is faster)',
        subtitle: where,
        bars: againstC(report),
        rule: 1,
      },
    ],
    [
      'others.svg',
      {
        title: 'Time for a packet of 1400 bytes, next to what else there is for Node (shorter is faster)',
        subtitle: where,
        bars: againstOthers(report),
      },
    ],
    [
      'forward.svg',
      {
        title: 'TCP between two tun devices, through a forwarder (longer is faster)',
        subtitle: where,
        bars: forwarded(report),
      },
    ],
    [
      'vpn.svg',
      {
        title: 'TCP through a VPN between two namespaces of one machine (longer is faster)',
        subtitle: report.loss > 0 ? `${where}; ${report.loss} % of the datagrams lost` : where,
        bars: tunnelled(report),
      },
    ],
  ];
  return Promise.all(
    all
      .filter(([, { bars }]) => bars.length > 0)
      .map(async ([name, chart]): Promise<[string, string]> => [name, await drawn(chart)]),
  );
}

function againstC({ rows }: Report): Bar[] {
  return rows
    .filter(({ rival, target, speed }) => !rival && target !== undefined && speed.median <= MAX_SPEED)
    .map((row) => ({ name: title(row), by: 'tunsock', value: row.speed.median, text: ratio(row) }));
}

function againstOthers({ rows, udp = [] }: Report): Bar[] {
  const bar = (what: string, name: string, by: Bar['by'], ns: number): Bar => ({
    name: `${what}: ${name}`,
    by,
    value: ns,
    text: time(ns),
  });
  const rivals = rows
    .filter(({ rival, size }) => rival && size === 1400)
    .flatMap(({ operation, baselineName, baseline, tunsock }) => {
      const [call = '', other] = operation.split(' against ');
      // What is compared with another way of tunsock's own.
      if (other === undefined) return [];
      const what = baselineName.startsWith('cap') ? `frames, ${call}` : call;
      return [
        bar(what, 'tunsock', 'tunsock', tunsock.nanosecondsPerPacket),
        bar(what, baselineName, 'others', baseline.nanosecondsPerPacket),
      ];
    });
  const datagrams = udp.map(({ name, direction, nanoseconds }) =>
    bar(`UDP ${direction}`, name, name === 'C' ? 'C' : name === 'dgram' ? 'others' : 'tunsock', nanoseconds),
  );
  return [...rivals, ...datagrams];
}

function forwarded({ forward = [] }: Report): Bar[] {
  return forward.map(({ name, gigabitsPerSecond }) => ({
    name,
    by: name.startsWith('C') ? 'C' : 'tunsock',
    value: gigabitsPerSecond,
    text: `${gigabitsPerSecond.toFixed(1)} Gb/s`,
  }));
}

function tunnelled({ vpn = [] }: Report): Bar[] {
  return vpn.map(({ name, gigabitsPerSecond }) => ({
    name,
    by: name.startsWith('tunsock') ? 'tunsock' : 'others',
    value: gigabitsPerSecond,
    text: `${gigabitsPerSecond.toFixed(2)} Gb/s`,
  }));
}

async function drawn({ title, subtitle, bars, rule }: Chart): Promise<string> {
  const y = {
    field: 'name',
    type: 'nominal',
    sort: null,
    axis: { title: null, ticks: false, domain: false },
  };
  const x = { field: 'value', type: 'quantitative', axis: null };
  const color = {
    field: 'by',
    type: 'nominal',
    scale: { domain: Object.keys(COLORS), range: Object.values(COLORS) },
    legend: null,
  };
  const figure = { type: 'text', align: 'left', dx: 6, fontSize: 12 };
  return rendered(title, subtitle, {
    data: { values: bars },
    width: WIDTH,
    height: { step: 24 },
    layer: [
      { mark: { type: 'bar', height: { band: 0.7 } }, encoding: { x, y, color } },
      // Behind the bar, or where a line stands, behind all bars.
      {
        mark: figure,
        encoding: { x: rule === undefined ? x : { value: WIDTH }, y, text: { field: 'text' } },
      },
      ...(rule === undefined
        ? []
        : [{ mark: { type: 'rule', stroke: '#57606a' }, encoding: { x: { datum: rule } } }]),
    ],
  });
}

/** A drawing of Vega-Lite under a heading, in the style of all: SVG. */
export async function rendered(title: string, subtitle: string, drawing: object): Promise<string> {
  const [{ View, parse }, { compile }] = await Promise.all([import('vega'), import('vega-lite')]);
  const spec = {
    ...drawing,
    title: {
      text: title,
      subtitle,
      anchor: 'start',
      frame: 'bounds',
      fontSize: 14,
      subtitleFontSize: 11,
      offset: 14,
    },
    background: 'white',
    padding: 14,
    config: {
      view: { stroke: null },
      axis: { labelFontSize: 12, labelLimit: 400, labelPadding: 6 },
      font: 'sans-serif',
    },
  };
  const view = new View(parse(compile(spec as Parameters<typeof compile>[0]).spec), { renderer: 'none' });
  const svg = await view.toSVG();
  return `${svg.replace('>', `><style>${DARK}</style>`)}\n`;
}
