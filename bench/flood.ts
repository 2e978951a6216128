import { setTimeout } from 'node:timers/promises';
import { markdownTable } from './lib/markdown';
import { RemoteDevice } from './lib/remote-device';
import { quantile } from './lib/statistics';

const PINGS = 1000;
const QUICK_PINGS = 200;
const SIZE = 64;
const FLOOD_SIZE = 1400;
const INTERVAL_MS = 10;
const WARM_UP_MS = 500;

/** How long this process took with its other work. */
export interface FloodRow {
  /** What the flooded socket does meanwhile. */
  flooded: 'nothing' | "'message'" | "'batch'";
  /** Packets of the flood that came, a second. */
  packetsPerSecond: number;
  /** Of another socket's round trips, in milliseconds. */
  roundTrip: Percentiles;
  /** How late setInterval() of 10 ms fired, in milliseconds. */
  interval: Percentiles;
}

interface Percentiles {
  count: number;
  p50: number;
  p90: number;
  p99: number;
  max: number;
}

/** What is left for others where one socket is flooded by a sender on another core that is faster than any reader. */
export async function flood(quick: boolean): Promise<FloodRow[]> {
  const rows: FloodRow[] = [];
  for (const flooded of ['nothing', "'message'", "'batch'"] as const) rows.push(await round(flooded, quick));
  return rows;
}

async function round(flooded: FloodRow['flooded'], quick: boolean): Promise<FloodRow> {
  await using busy = new RemoteDevice();
  await using other = new RemoteDevice();
  other.echo();
  let packets = 0;
  if (flooded === "'batch'")
    busy.socket.on('batch', ({ length }) => {
      packets += length;
    });
  else
    busy.socket.on('message', () => {
      packets += 1;
    });

  const sender = flooded === 'nothing' ? undefined : busy.traffic.ask(`flood ${FLOOD_SIZE}`);
  await setTimeout(WARM_UP_MS);
  packets = 0;
  const started = performance.now();
  const late: number[] = [];
  let last = started;
  const timer = setInterval(() => {
    const now = performance.now();
    late.push(Math.max(0, now - last - INTERVAL_MS));
    last = now;
  }, INTERVAL_MS);
  const times = await other.pings(quick ? QUICK_PINGS : PINGS, SIZE);
  clearInterval(timer);
  const seconds = (performance.now() - started) / 1000;
  const came = packets;
  if (sender !== undefined) {
    busy.traffic.tell('stop');
    await sender;
  }
  return {
    flooded,
    packetsPerSecond: came / seconds,
    roundTrip: percentiles(times.map((time) => time / 1e6)),
    interval: percentiles(late),
  };
}

function percentiles(values: readonly number[]): Percentiles {
  const at = (part: number) => quantile(values, part);
  return { count: values.length, p50: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1) };
}

export function floodTable(rows: readonly FloodRow[]): string {
  const of = ({ p50, p90, p99, max }: Percentiles) => [p50, p90, p99, max].map((ms) => ms.toFixed(2));
  return markdownTable([
    [
      'a flood on another socket',
      'packets/s',
      ...['p50', 'p90', 'p99', 'max'].map((name) => `round trip ms, ${name}`),
      ...['p50', 'p90', 'p99', 'max'].map((name) => `timer late ms, ${name}`),
    ],
    ...rows.map(({ flooded, packetsPerSecond, roundTrip, interval }) => [
      flooded === 'nothing' ? 'none' : flooded,
      packetsPerSecond.toFixed(0),
      ...of(roundTrip),
      ...of(interval),
    ]),
  ]);
}
