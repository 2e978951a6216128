import { readdirSync } from 'node:fs';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout } from 'node:timers/promises';
import { type PacketBatch, TunSocket } from 'tunsock';
import { RemoteDevice } from './lib/remote-device';
import { median } from './lib/statistics';

const SAMPLE_MS = 2000;
const PROGRESS_EVERY = 30;
const FLOOD_SIZE = 1400;
const PING_SIZE = 64;
/** Sockets that are opened, listened to and closed between two samples. */
const CHURN = 5;
/** What a process that keeps nothing still varies by: V8 sizes its heap by what garbage it meets. */
const FLAT_BYTES = 8 * 1024 * 1024;
/** How much the delay may differ between two parts of the time on a machine that has other work. */
const FLAT_DELAY = 2;

/** The process at one moment. */
export interface SoakSample {
  seconds: number;
  /** Bytes. */
  rss: number;
  descriptors: number;
  /** How late the event loop was since the last sample, in milliseconds: median, 99th percentile. */
  delay: { p50: number; p99: number };
  /** Since the start. */
  packets: number;
}

export interface SoakResult {
  samples: SoakSample[];
  /** What the last tenth of the samples has more than the third tenth, by their medians; of the delay how many times as much. */
  growth: { rss: number; descriptors: number; delay: number };
  flat: boolean;
}

/**
 * One process under load for minutes: a flood as 'message', one as 'batch' that is cut and sent back, round trips on a third socket, and
 * sockets that come and go.
 */
export async function soak(minutes: number, progress: (text: string) => void): Promise<SoakResult> {
  await using messages = new RemoteDevice();
  await using batches = new RemoteDevice('split');
  await using other = new RemoteDevice();
  let packets = 0;
  messages.socket.on('message', () => {
    packets += 1;
  });
  batches.socket.on('batch', (batch) => {
    packets += batch.length;
    sendBack(batches.socket, batch);
  });
  other.echo();
  const floods = [messages, batches].map(({ traffic }) => traffic.ask(`flood ${FLOOD_SIZE}`));

  const samples: SoakSample[] = [];
  const delay = monitorEventLoopDelay({ resolution: 5 });
  delay.enable();
  const started = performance.now();
  const elapsed = () => performance.now() - started;
  while (elapsed() < minutes * 60_000) {
    const due = elapsed() + SAMPLE_MS;
    await other.pings(20, PING_SIZE);
    for (let churned = 0; churned < CHURN; churned++) {
      const socket = TunSocket.open({ address: '10.8.0.1/24' });
      socket.on('message', () => {}).send(Buffer.from('4500001400000000400066e60a0800020a080001', 'hex'));
      await setTimeout(10);
      socket.close();
    }
    // On a machine that is busy otherwise, what came before has taken longer.
    await setTimeout(Math.max(0, due - elapsed()));
    samples.push({
      seconds: elapsed() / 1000,
      rss: process.memoryUsage.rss(),
      descriptors: readdirSync('/proc/self/fd').length,
      delay: { p50: delay.percentile(50) / 1e6, p99: delay.percentile(99) / 1e6 },
      packets,
    });
    delay.reset();
    if (samples.length % PROGRESS_EVERY === 0) progress(soakLine({ samples, ...judged(samples) }));
  }
  for (const { traffic } of [messages, batches]) traffic.tell('stop');
  await Promise.all(floods);
  return { samples, ...judged(samples) };
}

/** To the sink behind the device, which nobody reads. */
function sendBack(socket: TunSocket, batch: PacketBatch): void {
  for (const packet of batch) {
    const source = packet.readUInt32BE(12);
    packet.copyWithin(12, 16, 20);
    packet.writeUInt32BE(source, 16);
    packet.writeUInt16BE(9, 22);
    packet.writeUInt16BE(0, 26); // no checksum
  }
  for (let sent = 0; sent < batch.length; ) sent += socket.sendmmsg(batch, 0, sent);
}

function judged(samples: readonly SoakSample[]): Omit<SoakResult, 'samples'> {
  const tenth = Math.max(1, Math.floor(samples.length / 10));
  // Before that V8's heap grows to what this load needs.
  const [early, late] = [samples.slice(2 * tenth, 3 * tenth + 1), samples.slice(-tenth)];
  const of = (part: readonly SoakSample[], value: (sample: SoakSample) => number) => median(part.map(value));
  const growth = {
    rss: of(late, ({ rss }) => rss) - of(early, ({ rss }) => rss),
    descriptors: of(late, ({ descriptors }) => descriptors) - of(early, ({ descriptors }) => descriptors),
    delay: of(late, (sample) => sample.delay.p50) / of(early, (sample) => sample.delay.p50),
  };
  const flat = growth.rss <= FLAT_BYTES && growth.descriptors <= 0 && growth.delay <= FLAT_DELAY;
  return { growth, flat };
}

export function soakLine({ samples, growth, flat }: SoakResult): string {
  const last = samples[samples.length - 1] as SoakSample;
  const mib = (bytes: number) => `${(bytes / 1024 / 1024).toFixed(1)} MiB`;
  const range = (value: (sample: SoakSample) => number, print: (value: number) => string) => {
    const values = samples.map(value);
    return `${print(Math.min(...values))} to ${print(Math.max(...values))}`;
  };
  return (
    `soak: ${(last.seconds / 60).toFixed(1)} minutes, ${last.packets} packets; resident ${range(({ rss }) => rss, mib)}, growth ` +
    `${mib(growth.rss)}; descriptors ${range(({ descriptors }) => descriptors, String)}; event-loop delay, median ` +
    `${range(
      ({ delay }) => delay.p50,
      (ms) => ms.toFixed(2),
    )} ms, ${growth.delay.toFixed(2)} times as much at the end: ${flat ? 'flat' : 'NOT FLAT'}`
  );
}
