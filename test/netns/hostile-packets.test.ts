import { writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  constants,
  type OffloadMode,
  PacketBatch,
  type PacketOffload,
  PacketSocket,
  TunSocket,
} from '../../dist';
import { corpus, type Hostile } from '../helpers/hostile';
import { enterQuietNamespace } from '../helpers/namespace';
import { ethernetFrame } from '../helpers/packets';

const { MSG_DONTWAIT } = constants;
const MTUS = [68, 576, 1280, 1500, 9000, 65521];
const MODES = ['none', 'split', 'raw'] as const;
const ROOM = Buffer.alloc(70_000);

/** A tap, and a socket that puts frames on its interface as a program of the host does: what is to be done to them, the kernel does or hands on. */
interface Wire {
  tap: TunSocket;
  host: PacketSocket;
}

const wires = {} as Record<OffloadMode, Wire>;

beforeAll(() => {
  enterQuietNamespace();
  writeFileSync('/proc/sys/net/ipv6/conf/default/disable_ipv6', '1');
  for (const offload of MODES) {
    const tap = TunSocket.open({ mode: 'tap', name: `t-${offload}`, offload, txQueueLength: 5000 });
    const host = PacketSocket.open({ interface: tap.name, protocol: 0, offload: 'raw' });
    wires[offload] = { tap, host };
  }
});
afterAll(() => {
  for (const { tap, host } of Object.values(wires)) {
    host[Symbol.dispose]();
    tap[Symbol.dispose]();
  }
});

interface Received {
  bytes: Buffer;
  offload?: PacketOffload | undefined;
}

/** All that waits on a tap. */
function drain(tap: TunSocket): Received[] {
  const all: Received[] = [];
  for (;;) {
    try {
      const { bytes, flags, offload } = tap.recvmsg(ROOM, MSG_DONTWAIT);
      expect(flags).toBe(0);
      all.push({ bytes: Buffer.from(ROOM.subarray(0, bytes)), offload });
    } catch (error) {
      expect(error).toMatchObject({ code: 'EAGAIN' });
      return all;
    }
  }
}

/** What comes out of a tap for one packet, or the refusal of the kernel that took nothing. */
function through({ tap, host }: Wire, bytes: Buffer, offload?: Partial<PacketOffload>): Received[] | string {
  try {
    host.sendmsg(bytes, 0, offload === undefined ? undefined : { offload });
  } catch (error) {
    return (error as NodeJS.ErrnoException).code as string;
  }
  return drain(tap);
}

const frameOf = ({ packet }: Hostile, version: 4 | 6) =>
  ethernetFrame(
    Buffer.from('020000000002', 'hex'),
    Buffer.from('020000000001', 'hex'),
    version === 4 ? 0x0800 : 0x86dd,
    packet,
  );

const hex = (received: Received[] | string) =>
  typeof received === 'string' ? received : received.map(({ bytes }) => bytes.toString('hex'));

/** What 'split' must give where the kernel gives `kernel`. */
function expected(
  { verdict }: Hostile,
  frame: Buffer,
  kernel: Received[] | string,
  split: Received[] | string,
) {
  if (typeof kernel === 'string') return kernel;
  switch (verdict) {
    case 'as the kernel':
      return hex(kernel);
    case 'dropped':
      return [];
    case 'unfinished':
      return kernel.length > 1 ? [] : [frame.toString('hex')];
    default:
      // Headers are before the identification, the data behind it.
      expect(split).toHaveLength(kernel.length);
      return hex(split);
  }
}

describe.each(MTUS)('hostile packets at an mtu of %i', (mtu) => {
  beforeAll(() => {
    for (const { tap } of Object.values(wires)) tap.link.mtu = mtu;
  });
  const forEach = (version: 4 | 6, judge: (hostile: Hostile, frame: Buffer) => void) => {
    for (const hostile of corpus(version, mtu)) judge(hostile, frameOf(hostile, version));
  };

  it.each([4, 6] as const)(
    "come out of 'split' as the kernel makes them, or not at all: IPv%i",
    (version) => {
      const errors = () => wires.split.tap.stats().received.errors;
      let cut = 0;
      forEach(version, (hostile, frame) => {
        const kernel = through(wires.none, frame, hostile.offload);
        const before = errors();
        const split = through(wires.split, frame, hostile.offload);
        expect([hostile.name, hex(split)]).toEqual([hostile.name, expected(hostile, frame, kernel, split)]);
        // What is dropped is counted.
        const lost = split.length === 0 && kernel.length > 0 && typeof kernel !== 'string';
        expect([hostile.name, errors() - before]).toEqual([hostile.name, lost ? 1 : 0]);
        if (kernel.length > 1 && typeof kernel !== 'string') cut++;
      });
      expect(cut).toBeGreaterThan(20);
    },
  );

  it.each([4, 6] as const)("pass 'raw' as they are: IPv%i", (version) => {
    forEach(version, (hostile, frame) => {
      const kernel = through(wires.none, frame, hostile.offload);
      const raw = through(wires.raw, frame, hostile.offload);
      if (typeof raw === 'string') return expect([hostile.name, raw]).toEqual([hostile.name, kernel]);
      const again = raw.flatMap(({ bytes, offload }) => hex(through(wires.none, bytes, offload)));
      if (hostile.verdict === 'fragmented') expect(again).toHaveLength(kernel.length);
      else expect([hostile.name, again]).toEqual([hostile.name, hex(kernel)]);
    });
  });

  it.each([4, 6] as const)("are merged by 'split' into what the kernel cuts again: IPv%i", (version) => {
    using host = PacketSocket.open({ interface: wires.none.tap.name, protocol: 0, offload: 'split' });
    const batch = new PacketBatch({ packetSize: 70_000 });
    forEach(version, (hostile, frame) => {
      const split = through(wires.split, frame, hostile.offload);
      if (typeof split === 'string') return;
      batch.clear();
      for (const { bytes } of split.filter(({ bytes }) => bytes.length <= mtu + 14)) batch.push(bytes);
      expect(host.sendmmsg(batch)).toBe(batch.length);
      const sent = [...batch].map((bytes) => bytes.toString('hex'));
      expect([hostile.name, hex(drain(wires.none.tap))]).toEqual([hostile.name, sent]);
    });
    expect(host.stats().offload?.sent).toBeGreaterThanOrEqual(10);
  });
});
