import { constants, Netns, PacketBatch, PacketSocket, TunSocket } from 'tunsock';
import { udpPacket } from 'tunsock/packets';
import { type Arguments, type Command, CommandError } from './command';
import { quantity, Terminal } from './terminal';

const BATCH = 64;
const QUEUE = 1000;
const DEFAULT_SECONDS = 1;

/** What one operation did. */
interface Result {
  operation: string;
  packetSize: number;
  packetsPerSecond: number;
  bitsPerSecond: number;
  nanosecondsPerPacket: number;
}

export const command: Command = {
  synopsis: 'bench [options]',
  details:
    "Sending: packets go into the host's stack, which has no use for them. Receiving: the queue of the device is filled, and only the time to empty it counts. Needs root, or 'tunsock run -- tunsock bench'.",
  options: {
    size: {
      type: 'string',
      value: 'BYTES',
      help: 'of each packet, 28 to 1500 (64 and 1400, one after the other)',
    },
    seconds: { type: 'string', value: 'S', help: `for each operation (${DEFAULT_SECONDS})` },
    json: { type: 'boolean', help: 'print the results as JSON' },
  },
  arguments: [0, 0],
  run,
};

async function run(args: Arguments): Promise<number> {
  const size = args.number('size', 28, 1500);
  const milliseconds = (args.number('seconds', 0.01, 3600, { fraction: true }) ?? DEFAULT_SECONDS) * 1000;
  const progress = new Terminal(process.stderr);
  const results: Result[] = [];
  using netns = ownNamespace();
  for (const packetSize of size === undefined ? [64, 1400] : [size]) {
    using stage = openStage(netns, packetSize);
    for (const [operation, measure] of Object.entries(operations)) {
      if (progress.isTerminal) progress.show([`measuring ${operation}, ${packetSize} bytes …`]);
      const { packets, nanoseconds } = measure(stage, milliseconds);
      const packetsPerSecond = (packets * 1e9) / nanoseconds;
      results.push({
        operation,
        packetSize,
        packetsPerSecond: Math.round(packetsPerSecond),
        bitsPerSecond: Math.round(packetsPerSecond * packetSize * 8),
        nanosecondsPerPacket: Math.round(nanoseconds / packets),
      });
    }
  }
  if (progress.isTerminal) progress.show([]);
  process.stdout.write(args.flag('json') ? `${JSON.stringify(results, null, 2)}\n` : tableOf(results));
  return 0;
}

function ownNamespace(): Netns {
  try {
    return Netns.create();
  } catch (error) {
    if ((error as { code?: string }).code !== 'EPERM') throw error;
    throw new CommandError(
      "a network namespace can't be made: run as root, or 'tunsock run -- tunsock bench'",
      {
        cause: error,
      },
    );
  }
}

function tableOf(results: readonly Result[]): string {
  const rows = results.map(
    ({ operation, packetSize, packetsPerSecond, bitsPerSecond, nanosecondsPerPacket }) =>
      [
        operation.padEnd(9),
        `${packetSize} B`.padStart(7),
        quantity(packetsPerSecond, 'pkt/s').padStart(12),
        quantity(bitsPerSecond, 'bit/s').padStart(12),
        `${nanosecondsPerPacket} ns`.padStart(8),
      ].join(' '),
  );
  return `${rows.join('\n')}\n`;
}

interface Stage extends Disposable {
  tun: TunSocket;
  packet: Buffer;
  batch: PacketBatch;
  /** Fills the device's queue. */
  fill(): void;
}

function openStage(netns: Netns, packetSize: number): Stage {
  const tun = TunSocket.open({ netns, address: '10.0.0.1/24', txQueueLength: QUEUE });
  const host = PacketSocket.open({ netns, interface: tun.name, protocol: 0 });
  const batch = new PacketBatch({ capacity: BATCH });
  // To an address that is not the host's: it forwards nothing, so that it drops them.
  const packet = udpPacket(
    { address: '10.0.0.2', port: 1 },
    { address: '192.0.2.1', port: 9 },
    Buffer.alloc(packetSize - 28),
  );
  const packets = new PacketBatch({ capacity: BATCH });
  for (let index = 0; index < BATCH; index++) packets.push(packet);
  return {
    tun,
    packet,
    batch,
    fill() {
      for (let sent = 0; sent + BATCH <= QUEUE; sent += BATCH) host.sendmmsg(packets);
    },
    [Symbol.dispose]() {
      host.close();
      tun.close();
    },
  };
}

interface Measured {
  packets: number;
  nanoseconds: number;
}

const operations: { readonly [name: string]: (stage: Stage, milliseconds: number) => Measured } = {
  sendmsg: ({ tun, packet }, milliseconds) =>
    sending(milliseconds, () => {
      for (let count = 0; count < BATCH; count++) tun.sendmsg(packet);
      return BATCH;
    }),
  sendmmsg: ({ tun, packet, batch }, milliseconds) => {
    batch.clear();
    while (batch.length < BATCH) batch.push(packet);
    return sending(milliseconds, () => tun.sendmmsg(batch));
  },
  recvmsg: (stage, milliseconds) => {
    const room = Buffer.alloc(2048);
    return receiving(stage, milliseconds, () => {
      let count = 0;
      try {
        for (; ; count++) stage.tun.recvmsg(room, constants.MSG_DONTWAIT);
      } catch (error) {
        if ((error as { code?: string }).code !== 'EAGAIN') throw error;
      }
      return count;
    });
  },
  recvmmsg: (stage, milliseconds) =>
    receiving(stage, milliseconds, () => {
      let count = 0;
      for (let got = 1; got > 0; count += got) got = stage.tun.recvmmsg(stage.batch, constants.MSG_DONTWAIT);
      return count;
    }),
};

function sending(milliseconds: number, send: () => number): Measured {
  const start = process.hrtime.bigint();
  const end = start + BigInt(Math.round(milliseconds * 1e6));
  let packets = 0;
  let now = start;
  while (now < end) {
    packets += send();
    now = process.hrtime.bigint();
  }
  return { packets, nanoseconds: Number(now - start) };
}

function receiving(stage: Stage, milliseconds: number, empty: () => number): Measured {
  empty();
  const deadline = performance.now() + milliseconds;
  const total: Measured = { packets: 0, nanoseconds: 0 };
  while (performance.now() < deadline) {
    stage.fill();
    const start = process.hrtime.bigint();
    total.packets += empty();
    total.nanoseconds += Number(process.hrtime.bigint() - start);
  }
  return total;
}
