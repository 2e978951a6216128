import { batchEvent } from './batch-event';
import type { Stage } from './lib/stage';
import { median } from './lib/statistics';

const PACKET_SIZE = 64;
const SAMPLES = 50;
/** What a process that keeps nothing still varies by. */
const FLAT_BYTES = 2 * 1024 * 1024;

/** Resident memory of a process through which many packets went as 'batch' events. */
export interface MemoryResult {
  packets: number;
  nanosecondsPerPacket: number;
  /** Bytes, after each part of the packets. */
  samples: number[];
  /** Bytes between the second tenth of the samples and the last one: their medians. */
  growth: number;
  flat: boolean;
}

/** Sends `packets` packets through the batch path, and samples resident memory on the way. */
export async function memory(
  stage: Stage,
  packets: number,
  progress: (text: string) => void,
): Promise<MemoryResult> {
  await using contender = stage.contender(batchEvent, PACKET_SIZE);
  const samples: number[] = [];
  let nanoseconds = 0;
  for (let index = 0; index < SAMPLES; index++) {
    const { round } = await stage.round(contender, 'flood', { packets: packets / SAMPLES }, PACKET_SIZE);
    nanoseconds += round.nanoseconds;
    samples.push(round.rss ?? 0);
    if (index % 10 === 9) progress(`memory: ${(packets / SAMPLES) * (index + 1)} packets`);
  }
  const growth = median(samples.slice(-SAMPLES / 10)) - median(samples.slice(SAMPLES / 10, SAMPLES / 5));
  return {
    packets,
    nanosecondsPerPacket: nanoseconds / packets,
    samples,
    growth,
    flat: growth <= FLAT_BYTES,
  };
}
