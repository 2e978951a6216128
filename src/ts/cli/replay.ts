import { createReadStream } from 'node:fs';
import { setImmediate, setTimeout } from 'node:timers/promises';
import { Link, PacketSocket } from 'tunsock';
import { type Arguments, type Command, UsageError } from './command';
import { hasEthernet } from './link-type';
import type { CapturedPacket } from './pcap/captured-packet';
import { LINKTYPE_ETHERNET, LINKTYPE_IPV4, LINKTYPE_IPV6, LINKTYPE_RAW } from './pcap/pcapng-writer';
import { readCapture } from './pcap/reader';
import { quantity, Terminal } from './terminal';

const PROGRESS_MS = 500;
/** A timer is no more exact: what is due sooner is waited for in turns of the loop. */
const TIMER_MS = 2;
/** Signals have their turn after so many packets without a pause. */
const BURST = 64;
const MAX_SPEED = 1e6;
const RAW_TYPES = [LINKTYPE_RAW, LINKTYPE_IPV4, LINKTYPE_IPV6];

export const command: Command = {
  synopsis: 'replay [options] <file.pcap[ng]> <interface>',
  details:
    "Frames with an Ethernet header go out of interfaces that have one, IP packets out of those that have none. What was cut when it was captured, or is longer than the interface's mtu, is not sent, but counted, and the exit status is 1. '-' reads standard input.",
  options: {
    speed: { type: 'string', value: 'FACTOR', help: 'times as fast as recorded (1)' },
    rate: { type: 'string', value: 'PACKETS', help: 'so many packets a second, whatever the recorded times' },
    fast: { type: 'boolean', help: 'as fast as can be' },
    loop: { type: 'string', value: 'N', help: 'the whole file N times (1)' },
    count: { type: 'string', short: 'c', value: 'PACKETS', help: 'end after so many' },
    json: { type: 'boolean', help: 'print the result as JSON' },
  },
  arguments: [2, 2],
  run,
};

/** What a replay came to. */
interface Result {
  interface: string;
  file: string;
  packets: number;
  bytes: number;
  seconds: number;
  /** Not sent, since only a part of them was captured. */
  cut: number;
  /** Not sent, since they are longer than the interface takes. */
  tooLong: number;
  /** Not sent, since they start with another header than the interface's packets. */
  otherLink: number;
}

async function run(args: Arguments): Promise<number> {
  const [path, name] = args.positionals as [string, string];
  const loops = args.number('loop', 1, 1e9) ?? 1;
  const limit = args.number('count', 1, Number.MAX_SAFE_INTEGER) ?? Number.POSITIVE_INFINITY;
  const pace = paceOf(args);
  if (path === '-' && loops > 1) throw new UsageError('standard input can be read only once: no --loop');
  const ethernet = hasEthernet(Link.get(name).mac);
  // With no protocol it receives nothing.
  using socket = PacketSocket.open({ interface: name, protocol: 0 });
  const terminal = new Terminal(process.stderr);
  const result: Result = {
    interface: name,
    file: path,
    packets: 0,
    bytes: 0,
    seconds: 0,
    cut: 0,
    tooLong: 0,
    otherLink: 0,
  };
  let stopped = false;
  const stop = () => {
    stopped = true;
  };
  process.once('SIGINT', stop);
  process.once('SIGTERM', stop);
  const start = performance.now();
  const progress = terminal.isTerminal
    ? setInterval(
        () => terminal.show([`${result.packets} packets, ${quantity(result.bytes, 'B')}`]),
        PROGRESS_MS,
      )
    : undefined;
  try {
    for (let loop = 0; loop < loops && !stopped; loop++) {
      pace.restart();
      for await (const packet of readCapture(inputOf(path))) {
        if (stopped || result.packets >= limit) break;
        if (refusal(packet, ethernet, result)) continue;
        await pace.wait(packet, () => stopped);
        if (stopped) break;
        send(socket, packet.data, result);
      }
    }
  } finally {
    clearInterval(progress);
    process.off('SIGINT', stop);
    process.off('SIGTERM', stop);
  }
  result.seconds = (performance.now() - start) / 1000;
  process.stdout.write(args.flag('json') ? `${JSON.stringify(result, null, 2)}\n` : `${summary(result)}\n`);
  return result.cut + result.tooLong + result.otherLink === 0 ? 0 : 1;
}

function inputOf(path: string): AsyncIterable<Buffer> {
  return path === '-' ? process.stdin : createReadStream(path);
}

function summary({ packets, bytes, seconds, cut, tooLong, otherLink }: Result): string {
  const parts = [`sent ${packets} packets (${quantity(bytes, 'B')}) in ${seconds.toFixed(3)} s`];
  if (cut > 0) parts.push(`${cut} not sent: cut when they were captured`);
  if (tooLong > 0) parts.push(`${tooLong} not sent: longer than the mtu`);
  if (otherLink > 0) parts.push(`${otherLink} not sent: of another kind of link than the interface`);
  return parts.join('\n');
}

/** Whether a packet can't be sent; counts why. */
function refusal({ linkType, data, length }: CapturedPacket, ethernet: boolean, result: Result): boolean {
  const fits = ethernet ? linkType === LINKTYPE_ETHERNET : RAW_TYPES.includes(linkType);
  if (!fits) result.otherLink += 1;
  else if (data.length < length) result.cut += 1;
  else return false;
  return true;
}

function send(socket: PacketSocket, data: Buffer, result: Result): void {
  try {
    socket.sendmsg(data);
    result.packets += 1;
    result.bytes += data.length;
  } catch (error) {
    if ((error as { code?: string }).code !== 'EMSGSIZE') throw error;
    result.tooLong += 1;
  }
}

/** When each packet is due. */
interface Pace {
  restart(): void;
  wait(packet: CapturedPacket, stopped: () => boolean): Promise<void>;
}

function paceOf(args: Arguments): Pace {
  const speed = args.number('speed', 1e-6, MAX_SPEED, { fraction: true });
  const rate = args.number('rate', 1e-3, 1e9, { fraction: true });
  const fast = args.flag('fast');
  if ([speed !== undefined, rate !== undefined, fast].filter(Boolean).length > 1) {
    throw new UsageError('--speed, --rate and --fast exclude each other');
  }
  let start = 0;
  let first: bigint | undefined;
  let count = 0;
  const due = ({ timestamp }: CapturedPacket): number => {
    if (fast) return 0;
    if (rate !== undefined) return start + ((count - 1) * 1000) / rate;
    first ??= timestamp;
    return start + Number(timestamp - first) / 1e6 / (speed ?? 1);
  };
  return {
    restart() {
      [start, first, count] = [performance.now(), undefined, 0];
    },
    async wait(packet, stopped) {
      count += 1;
      const until = due(packet);
      if (count % BURST === 0) await setImmediate();
      for (let left = until - performance.now(); left > 0 && !stopped(); left = until - performance.now()) {
        // Not longer, so that a signal is heard in the middle of a long pause.
        if (left > TIMER_MS) await setTimeout(Math.min(left - TIMER_MS / 2, 100));
        else await setImmediate();
      }
    },
  };
}
