/**
 * Sees what goes through an interface, with the time of each packet and whether it came or went. A filter in the kernel lets only
 * UDP through: what it drops costs this program nothing.
 *
 *     node capture.js
 */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { PacketSocket } from 'tunsock';
import { describePacket } from 'tunsock/packets';
import { runExample } from './stage';

/** `tcpdump -ddd udp` for IPv4 over Ethernet: EtherType 0x0800, protocol 17. */
const ONLY_UDP = [
  { code: 0x28, jt: 0, jf: 0, k: 12 },
  { code: 0x15, jt: 0, jf: 3, k: 0x0800 },
  { code: 0x30, jt: 0, jf: 0, k: 23 },
  { code: 0x15, jt: 0, jf: 1, k: 17 },
  { code: 0x06, jt: 0, jf: 0, k: 262144 },
  { code: 0x06, jt: 0, jf: 0, k: 0 },
];

/** Prints a line for each packet; returns how many there were, and were dropped, once `count` have been seen. */
export async function capture(name: string, count: number): Promise<{ seen: number; dropped: number }> {
  using socket = PacketSocket.open({ interface: name, timestamps: true, filter: ONLY_UDP });
  let seen = 0;
  await new Promise<void>((resolve, reject) => {
    socket.on('error', reject);
    socket.on('message', (frame, { timestamp = 0n, packetType }) => {
      const time = new Date(Number(timestamp / 1_000_000n)).toISOString().slice(11, -1);
      const nanoseconds = String(timestamp % 1_000_000n).padStart(6, '0');
      const direction = packetType === 'outgoing' ? 'out' : 'in ';
      console.log(`${time}${nanoseconds} ${direction} ${describePacket(frame, { ethernet: true })}`);
      seen += 1;
      if (seen === count) resolve();
    });
  });
  return { seen, dropped: socket.stats().received.dropped ?? 0 };
}

async function main(): Promise<void> {
  // On loopback each packet goes out and comes in.
  const captured = capture('lo', 6);
  const socket = createSocket('udp4').bind(0, '127.0.0.1');
  await once(socket, 'listening');
  for (const text of ['one', 'two', 'three']) socket.send(text, socket.address().port, '127.0.0.1');
  const { seen, dropped } = await captured;
  console.log(`${seen} packets, ${dropped} dropped`);
  socket.close();
}

runExample(module, main);
