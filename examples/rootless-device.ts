/**
 * A tun device without any privilege: it is made inside `unshare -Urn`, where everybody is root of a network of their own, and its descriptor is
 * used outside of it, by an ordinary process. That process has the network, files and rights that it had before; what it reads and writes are
 * the packets of the network inside. So a user's program carries a container's traffic, as slirp4netns and pasta do.
 *
 *     node rootless-device.js
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { readlinkSync } from 'node:fs';
import { DescriptorChannel, type SystemError, TunSocket } from 'tunsock';
import { describePacket, readIp, readUdp, rewriteEndpoints } from 'tunsock/packets';

/** The descriptor that the program inside finds its end of the channel at. */
const INHERITED = 3;
const WORDS = ['all', 'of', 'this', 'without', 'root'];

const network = () => readlinkSync('/proc/self/ns/net');
const soon = () => AbortSignal.timeout(10_000);

/** Inside: makes the device, hands it over, and is a host like any other from then on. */
async function inside(): Promise<void> {
  using channel = DescriptorChannel.fromFd(INHERITED);
  using tun = TunSocket.open({ name: 'tun0', address: '10.0.0.1/24', addressGeneration: 'none' });
  channel.send(tun, Buffer.from(network()));
  tun.close(); // the device lives on with the descriptor that was sent

  const host = createSocket('udp4').bind(0, '10.0.0.1');
  await once(host, 'listening');
  const heard: string[] = [];
  for (const word of WORDS) {
    host.send(word, 7, '10.0.0.2');
    const [message] = await once(host, 'message', { signal: soon() });
    heard.push(String(message));
  }
  host.close();
  console.log(`inside hears: ${heard.join(' ')}`);
}

/** Starts this program inside. */
function start(end: DescriptorChannel): ChildProcess {
  const child = spawn('unshare', ['-Urn', process.execPath, __filename, 'inside'], {
    stdio: ['ignore', 'inherit', 'inherit', end.fd],
  });
  end.close();
  return child;
}

/** Outside: an ordinary process, which echoes datagrams by the device alone. */
async function outside(): Promise<void> {
  const [ours, theirs] = DescriptorChannel.pair();
  const child = start(theirs);
  const exited = once(child, 'exit');
  const { sockets, data } = await ours.receive({ signal: soon() });
  ours.close();
  const [tun] = sockets;
  if (!(tun instanceof TunSocket)) throw new Error('no device came');
  console.log(`${tun.name} is in ${String(data) === network() ? 'this network' : 'another network'}`);
  try {
    console.log(`this process may enter it: the interface has the number ${tun.link.index}`);
  } catch (error) {
    // Its addresses and routes are set inside. Packets need nothing but the descriptor.
    console.log(`this process may not enter it: ${(error as SystemError).code}`);
  }

  let first = '';
  tun.on('message', (packet) => {
    const ip = readIp(packet);
    const udp = ip?.protocol === 17 ? readUdp(ip.payload) : undefined;
    if (ip?.version !== 4 || udp?.destinationPort !== 7) return;
    first ||= describePacket(packet);
    rewriteEndpoints(packet, {
      source: ip.destination,
      destination: ip.source,
      sourcePort: udp.destinationPort,
      destinationPort: udp.sourcePort,
    });
    tun.send(packet);
  });
  const [code] = await exited;
  const { received, sent } = tun.stats();
  console.log(`outside reads ${first}`);
  console.log(`${received.packets} packets came, ${sent.packets} went back`);
  tun.close();
  process.exitCode = code ?? 1;
}

const main = process.argv[2] === 'inside' ? inside : outside;
main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
