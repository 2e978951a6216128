/**
 * What bench/baseline/udp_loop.c does, in Node: `node udp-peer.js tunsock|dgram send <port> <bytes> [capacity]`, `tunsock|tunsock-raw|dgram receive <port>
 * <bytes> [capacity]`; capacity is that of the batch. dgram's receiver inherits its socket, since it could not have such a large queue.
 */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { constants, PacketBatch, UdpSocket } from 'tunsock';

const ADDRESS = '127.0.0.1';
const BATCH = 64;
const SOCKET_FD = 3;

type Work = (packets: number) => number | Promise<number>;

function tunsockSend(port: number, bytes: number, capacity: number): Work {
  const udp = UdpSocket.open({ address: ADDRESS, offload: 'split' });
  udp.connect(ADDRESS, port);
  const batch = new PacketBatch({ capacity });
  while (batch.length < capacity) batch.push(Buffer.alloc(bytes));
  return (packets) => {
    for (let left = packets; left > 0; left -= capacity) {
      if (udp.sendmmsg(batch) !== capacity) throw new Error('not all were sent');
    }
    return packets;
  };
}

function tunsockReceive(port: number, offload: 'split' | 'raw', bytes: number, capacity: number): Work {
  const udp = UdpSocket.open({ address: ADDRESS, port, offload, receiveBuffer: 128 << 20 });
  const batch = new PacketBatch({ capacity, packetSize: offload === 'raw' ? 65536 : 2048 });
  return (packets) => {
    let done = 0;
    while (done < packets) {
      const received = udp.recvmmsg(batch, constants.MSG_DONTWAIT);
      if (received === 0) break;
      if (offload === 'split') done += received;
      else for (let at = 0; at < received; at++) done += Math.ceil((batch.lengths[at] as number) / bytes);
    }
    return done;
  };
}

async function dgramSend(port: number, bytes: number): Promise<Work> {
  const udp = createSocket('udp4');
  udp.connect(port, ADDRESS);
  await once(udp, 'connect');
  const data = Buffer.alloc(bytes);
  return async (packets) => {
    for (let left = packets; left > 0; left -= BATCH) {
      const sent: Promise<void>[] = [];
      for (let count = 0; count < BATCH; count++) {
        sent.push(new Promise((resolve) => udp.send(data, () => resolve())));
      }
      await Promise.all(sent);
    }
    return packets;
  };
}

function dgramReceive(): Work {
  const udp = createSocket('udp4');
  let done = 0;
  let wanted = Number.POSITIVE_INFINITY;
  let finished = () => {};
  // Listens when this returns.
  udp.bind({ fd: SOCKET_FD });
  udp.on('message', () => {
    done += 1;
    if (done >= wanted) finished();
  });
  // Whether the line or the datagrams are seen first is for the loop to say.
  return async (packets) => {
    if (done < packets) {
      await new Promise<void>((resolve) => {
        wanted = packets;
        finished = resolve;
      });
    }
    const received = done;
    done = 0;
    wanted = Number.POSITIVE_INFINITY;
    return received;
  };
}

async function main([side, direction, ...numbers]: string[]): Promise<void> {
  const [port, bytes, capacity] = numbers.map(Number) as [number, number, number];
  let work: Work;
  if (side === 'dgram') work = await (direction === 'send' ? dgramSend(port, bytes) : dgramReceive());
  else if (direction === 'send') work = tunsockSend(port, bytes, capacity);
  else work = tunsockReceive(port, side === 'tunsock-raw' ? 'raw' : 'split', bytes, capacity);
  process.stdout.write('{"packets":0,"nanoseconds":0,"cpu":0}\n');
  let before = process.cpuUsage();
  for await (const line of createInterface({ input: process.stdin })) {
    // It has been stopped since its last answer, and may have read before it sees the line.
    const cpu = side === 'dgram' ? before : process.cpuUsage();
    const start = process.hrtime.bigint();
    const packets = await work(Number(line));
    const nanoseconds = Number(process.hrtime.bigint() - start);
    const { user, system } = process.cpuUsage(cpu);
    process.stdout.write(`${JSON.stringify({ packets, nanoseconds, cpu: (user + system) * 1000 })}\n`);
    before = process.cpuUsage();
  }
  process.exit();
}

void main(process.argv.slice(2));
