/**
 * A host that is not there answers pings: the kernel routes them to a tun device, and JavaScript replies.
 *
 *     node ping-responder.js
 */
import { PacketSocket, TunSocket } from 'tunsock';
import { describePacket, echoReply, echoRequest } from 'tunsock/packets';
import { runExample } from './stage';

/** Answers all that ask. */
export function respond(tun: TunSocket): void {
  tun.on('message', (packet) => {
    const reply = echoReply(packet);
    if (reply === undefined) return;
    console.log(`  asked    ${describePacket(packet)}`);
    tun.send(reply);
  });
}

/** Pings as ping(8) does, but on the host's side of the device; returns the milliseconds until the answer. */
export async function ping(device: string, from: string, to: string): Promise<number> {
  using socket = PacketSocket.open({ interface: device, ignoreOutgoing: true });
  const start = performance.now();
  socket.send(echoRequest(from, to, { id: 1, sequence: 1 }, Buffer.from('how are you?')));
  for (;;) {
    const packet = await socket.receive({ signal: AbortSignal.timeout(5000) });
    const text = describePacket(packet);
    if (!text.startsWith(`${to} > ${from} ICMP`)) continue;
    console.log(`  answered ${text}`);
    return performance.now() - start;
  }
}

async function main(): Promise<void> {
  const tun = TunSocket.open({ address: ['10.0.0.1/24', 'fd00::1/64'] });
  respond(tun);
  for (const [from, to] of [
    ['10.0.0.1', '10.0.0.2'],
    ['fd00::1', 'fd00::2'],
  ] as const) {
    console.log(`${to} answered in ${(await ping(tun.name, from, to)).toFixed(1)} ms`);
  }
  tun.close();
}

runExample(module, main);
