/**
 * A small program with privileges opens the device, and one without them uses it. The opener makes and configures a tun device, hands its
 * descriptor over by a channel, and is done; what parses packets from the network runs as nobody, and could not have opened the device.
 *
 *     sudo node privilege-separation.js
 */
import { spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { DescriptorChannel, type SystemError, TunSocket } from 'tunsock';
import { describePacket } from 'tunsock/packets';
import { runExample } from './stage';

const NOBODY = 65534;
/** The descriptor that the unprivileged program finds its end of the channel at. */
const INHERITED = 3;

/** The privileged part: all that it does with the device is to make it and to hand it over. */
async function opener(): Promise<void> {
  const [ours, theirs] = DescriptorChannel.pair();
  const child = spawn(process.execPath, [__filename, 'user'], {
    stdio: ['ignore', 'inherit', 'inherit', theirs.fd],
  });
  theirs.close();
  const tun = TunSocket.open({ name: 'tun0', address: '10.0.0.1/24', addressGeneration: 'none' });
  ours.send(tun, Buffer.from('the device'));
  tun.close(); // the device lives on with its other descriptor
  const [code] = await once(child, 'exit');
  ours.close();
  process.exitCode = code ?? 1;
}

/** Gives up all that root may do, for good. */
function dropPrivileges(): void {
  process.setgroups?.([]);
  process.setgid?.(NOBODY);
  process.setuid?.(NOBODY);
}

/** The unprivileged part: once it has its end of the channel, it has no privileges any more. */
async function user(): Promise<void> {
  using channel = DescriptorChannel.fromFd(INHERITED);
  dropPrivileges();
  try {
    TunSocket.open();
  } catch (error) {
    console.log(`user ${process.getuid?.()} may not open a device: ${(error as SystemError).code}`);
  }
  const { sockets, data, credentials } = await channel.receive({ signal: AbortSignal.timeout(10_000) });
  const [tun] = sockets;
  if (tun === undefined) throw new Error('no device came');
  console.log(`user ${credentials.uid} has sent ${data}: ${tun.name}`);

  const host = createSocket('udp4');
  host.send('hello', 9, '10.0.0.2', () => host.close());
  const packet = await tun.receive({ signal: AbortSignal.timeout(10_000) });
  console.log(`it reads ${describePacket(packet)}`);
  tun.close();
}

if (process.argv[2] === 'user') void user();
else runExample(module, opener);
