import { createWriteStream, type WriteStream } from 'node:fs';
import { constants, Link, type MessageInfo, type PacketOffload, PacketSocket, type VlanTag } from 'tunsock';
import type { Arguments, Command } from './command';
import { hasEthernet, startsWithEthernet } from './link-type';
import {
  interfaceBlock,
  LINKTYPE_ETHERNET,
  LINKTYPE_RAW,
  packetBlock,
  sectionBlock,
  statisticsBlock,
} from './pcap/pcapng-writer';
import { quantity, Terminal } from './terminal';

const MAX_SNAP = 262_144;
const DEFAULT_BUFFER = 16 << 20;
const PROGRESS_MS = 500;

export const command: Command = {
  synopsis: 'capture [options] <interface> <file.pcapng>',
  details:
    "Times are the kernel's, in nanoseconds. Superpackets of segmentation offload are cut into what is sent in their place, with finished checksums; with '--offload raw' they stay whole, each with a comment. VLAN tags stand in the frames. '-' writes to standard output. Ends on SIGINT or SIGTERM, or by --count, --seconds or --bytes; then says what was dropped, also in the file.",
  options: {
    count: { type: 'string', short: 'c', value: 'PACKETS', help: 'end after so many' },
    seconds: { type: 'string', value: 'S', help: 'end after so long' },
    bytes: { type: 'string', value: 'BYTES', help: 'end before the file is longer' },
    snap: { type: 'string', short: 's', value: 'BYTES', help: 'keep so much of each packet (all)' },
    direction: { type: 'string', value: 'both|in', help: 'in: only what comes in (both)' },
    promiscuous: { type: 'boolean', short: 'p', help: 'also frames for other hosts' },
    offload: { type: 'string', value: 'split|raw', help: 'superpackets: cut them, or mark them (split)' },
    filter: { type: 'string', value: 'PROGRAM', help: "a BPF program as 'tcpdump -ddd' prints it" },
    buffer: {
      type: 'string',
      value: 'BYTES',
      help: `for packets that wait in the kernel (${DEFAULT_BUFFER})`,
    },
    json: { type: 'boolean', help: 'print the result as JSON' },
  },
  arguments: [2, 2],
  run,
};

interface Limits {
  packets: number;
  bytes: number;
  snap: number;
}

async function run(args: Arguments): Promise<number> {
  const [name, path] = args.positionals as [string, string];
  const limits: Limits = {
    packets: args.number('count', 1, Number.MAX_SAFE_INTEGER) ?? Number.POSITIVE_INFINITY,
    bytes: args.number('bytes', 1, Number.MAX_SAFE_INTEGER) ?? Number.POSITIVE_INFINITY,
    snap: args.number('snap', 1, MAX_SNAP) ?? MAX_SNAP,
  };
  const seconds = args.number('seconds', 0.001, 2_000_000, { fraction: true });
  const filter = args.text('filter');
  const socket = PacketSocket.open({
    interface: name,
    timestamps: true,
    auxdata: true,
    offload: args.choice('offload', ['split', 'raw']) ?? 'split',
    ignoreOutgoing: args.choice('direction', ['both', 'in']) === 'in',
    promiscuous: args.flag('promiscuous'),
    receiveBuffer: args.number('buffer', 1, 0x3fffffff) ?? DEFAULT_BUFFER,
    ...(filter === undefined ? {} : { filter }),
  });
  const capture = new Capture(socket, name, path, limits);
  const result = await capture.run(seconds);
  const report = new Terminal(path === '-' ? process.stderr : process.stdout);
  if (args.flag('json')) report.line(JSON.stringify(result, null, 2));
  else report.line(summary(result));
  return 0;
}

/** What a capture came to. */
interface Result {
  interface: string;
  file: string;
  packets: number;
  /** Bytes of the file. */
  bytes: number;
  /** Packets that the kernel had no room for. */
  dropped: number;
  /** Packets that could not be had, such as superpackets of tunnels that can't be cut. */
  errors: number;
}

function summary({ packets, bytes, dropped, errors, file }: Result): string {
  const failed = errors === 0 ? '' : `, ${errors} could not be read`;
  return `${packets} packets, ${quantity(bytes, 'B')} to ${file}, ${dropped} dropped by the kernel${failed}`;
}

class Capture {
  readonly #socket: PacketSocket;
  readonly #name: string;
  readonly #path: string;
  readonly #limits: Limits;
  readonly #file: WriteStream | typeof process.stdout;
  #packets = 0;
  #bytes = 0;
  #described = false;
  #over = false;
  #stop: (error?: Error) => void = () => {};

  constructor(socket: PacketSocket, name: string, path: string, limits: Limits) {
    this.#socket = socket;
    this.#name = name;
    this.#path = path;
    this.#limits = limits;
    this.#file = path === '-' ? process.stdout : createWriteStream(path);
  }

  async run(seconds: number | undefined): Promise<Result> {
    const ended = new Promise<void>((resolve, reject) => {
      this.#stop = (error) => {
        this.#over = true;
        if (error === undefined) resolve();
        else reject(error);
      };
    });
    const stop = () => this.#stop();
    const timer = seconds === undefined ? undefined : setTimeout(stop, seconds * 1000);
    const progress = this.#showProgress();
    process.once('SIGINT', stop);
    process.once('SIGTERM', stop);
    this.#file.on('error', this.#stop);
    this.#file.on('drain', () => this.#socket.resume());
    this.#socket.on('error', (error) => {
      // An interface that is down may come up again.
      if ((error as { code?: string }).code !== 'ENETDOWN') this.#stop(error);
    });
    this.#socket.on('message', (packet, info) => this.#take(packet, info));
    try {
      this.#write(sectionBlock('tunsock capture'));
      await ended;
      return await this.#finish();
    } finally {
      clearTimeout(timer);
      clearInterval(progress);
      process.off('SIGINT', stop);
      process.off('SIGTERM', stop);
      this.#socket[Symbol.dispose]();
    }
  }

  #take(packet: Buffer, info: MessageInfo): void {
    if (this.#over) return;
    try {
      if (!this.#described) {
        this.#describe(startsWithEthernet(info.hardwareType as number) ? LINKTYPE_ETHERNET : LINKTYPE_RAW);
      }
      const frame = withTag(packet, info.vlan);
      const notes = {
        direction: info.packetType === 'outgoing' ? ('out' as const) : ('in' as const),
        comment: info.offload === undefined ? undefined : offloadComment(info.offload),
      };
      const length = info.size + frame.length - packet.length;
      const block = packetBlock(frame.subarray(0, this.#limits.snap), length, info.timestamp ?? 0n, notes);
      if (this.#bytes + block.length > this.#limits.bytes) {
        this.#stop();
        return;
      }
      this.#write(block);
      this.#packets += 1;
      if (this.#packets >= this.#limits.packets) this.#stop();
    } catch (error) {
      this.#stop(error as Error);
    }
  }

  /** Tells what the packets are of; the first of them says what they start with. */
  #describe(linkType: number): void {
    this.#described = true;
    this.#write(interfaceBlock(this.#name, linkType, this.#limits.snap));
  }

  /** Where the file is slower than the packets, they wait in the kernel, which counts what it drops. */
  #write(block: Buffer): void {
    this.#bytes += block.length;
    if (!this.#file.write(block)) this.#socket.pause();
  }

  async #finish(): Promise<Result> {
    const gone = this.#socket.closed;
    const { received } = this.#socket.stats();
    if (!this.#described) {
      const mac = gone ? '' : Link.get(this.#name).mac;
      this.#describe(hasEthernet(mac) ? LINKTYPE_ETHERNET : LINKTYPE_RAW);
    }
    const now = BigInt(Date.now()) * 1_000_000n;
    const dropped = received.dropped ?? 0;
    this.#write(statisticsBlock(now, received.packets + dropped, dropped));
    await new Promise<void>((resolve, reject) => {
      this.#file.once('error', reject);
      if (this.#file === process.stdout) this.#file.write('', () => resolve());
      else this.#file.end(resolve);
    });
    return {
      interface: this.#name,
      file: this.#path,
      packets: this.#packets,
      bytes: this.#bytes,
      dropped,
      errors: received.errors,
    };
  }

  #showProgress(): NodeJS.Timeout | undefined {
    const terminal = new Terminal(process.stderr);
    if (!terminal.isTerminal) return undefined;
    return setInterval(() => {
      terminal.show([`${this.#packets} packets, ${quantity(this.#bytes, 'B')}; Ctrl-C ends it`]);
    }, PROGRESS_MS);
  }
}

/** The frame as it was on the cable: the kernel takes its outermost VLAN tag out. */
function withTag(frame: Buffer, tag: VlanTag | undefined): Buffer {
  if (tag === undefined) return frame;
  const bytes = Buffer.alloc(4);
  bytes.writeUInt16BE(tag.protocol, 0);
  bytes.writeUInt16BE((tag.priority << 13) | (tag.dropEligible ? 0x1000 : 0) | tag.id, 2);
  // A socket that puts it back itself has it in its place.
  if (frame.subarray(12, 16).equals(bytes)) return frame;
  return Buffer.concat([frame.subarray(0, 12), bytes, frame.subarray(12)]);
}

const GSO_NAMES = new Map([
  [constants.VIRTIO_NET_HDR_GSO_TCPV4, 'TCP over IPv4'],
  [constants.VIRTIO_NET_HDR_GSO_TCPV6, 'TCP over IPv6'],
  [constants.VIRTIO_NET_HDR_GSO_UDP_L4, 'UDP'],
]);
const GSO_KIND = 0x1f;

function offloadComment({ gsoType, gsoSize, needsChecksum }: PacketOffload): string | undefined {
  const notes: string[] = [];
  if (gsoType !== constants.VIRTIO_NET_HDR_GSO_NONE) {
    const kind = GSO_NAMES.get(gsoType & GSO_KIND) ?? `type ${gsoType}`;
    notes.push(`superpacket: ${kind}, ${gsoSize} bytes of payload a segment`);
  }
  if (needsChecksum) notes.push('checksum not finished');
  return notes.length === 0 ? undefined : notes.join('; ');
}
