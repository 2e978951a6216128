/**
 * A tun device in a namespace of its own: JavaScript answers pings, injects a datagram that an ordinary socket
 * receives, and sees how long a packet is that it had no room for.
 */
import { spawn, spawnSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { constants, TunSocket } from 'tunsock';
import { enterOwnNamespace } from './own-namespace';
import { describePacket, echoReply, layoutOf, udpPacket } from './packets';

const HOST = { v4: '10.0.0.1', v6: 'fd00::1' };
const PEER = { v4: '10.0.0.2', v6: 'fd00::2' };
const TIMEOUT_MS = 10_000;

async function main(): Promise<void> {
  const results: [what: string, passed: boolean][] = [];
  const report = (what: string, passed: boolean) => {
    results.push([what, passed]);
    console.log(`${passed ? 'ok     ' : 'FAILED '}${what}\n`);
  };

  const tun = TunSocket.open({
    name: 'tun0',
    address: [`${HOST.v4}/24`, `${HOST.v6}/64`],
    mtu: 1500,
    receiveTimeout: TIMEOUT_MS,
    signal: AbortSignal.timeout(3 * TIMEOUT_MS),
  });
  console.log(`opened ${tun.name} (interface ${tun.index}) with ${HOST.v4}/24 and ${HOST.v6}/64\n`);
  tun.on('message', (packet) => {
    const reply = echoReply(packet);
    console.log(`  received ${describePacket(packet)}`);
    if (reply === undefined) return;
    tun.send(reply);
    console.log(`  sent     ${describePacket(reply)}`);
  });

  report('the kernel pings a peer that is JavaScript, over IPv4', await ping(PEER.v4));
  report('the kernel pings a peer that is JavaScript, over IPv6', await ping(PEER.v6));
  report('an ordinary dgram socket receives an injected datagram', await inject(tun));
  tun.removeAllListeners('message');
  report('a packet that is cut shows its true length', await truncate(tun));

  const { received, sent } = tun.stats();
  tun.close();
  const failed = results.filter(([, passed]) => !passed).length;
  console.log(
    `received ${received.packets} packets (${received.bytes} bytes), sent ${sent.packets} (${sent.bytes} bytes)`,
  );
  console.log(`${results.length - failed} of ${results.length} worked`);
  process.exitCode = failed === 0 ? 0 : 1;
}

/** Two echo requests by ping(8), or where that is not installed by a few lines of Python. */
async function ping(address: string): Promise<boolean> {
  const hasPing = spawnSync('ping', ['-V']).error === undefined;
  const child = hasPing
    ? spawn('ping', ['-c', '2', '-i', '0.2', '-W', '3', address], { stdio: 'ignore' })
    : spawn('python3', ['-c', PYTHON_PING, address], { stdio: ['ignore', 'ignore', 'inherit'] });
  const [code] = await once(child, 'exit', { signal: AbortSignal.timeout(TIMEOUT_MS) });
  return code === 0;
}

const PYTHON_PING = `
import socket, struct, sys
v6 = ':' in sys.argv[1]
family, protocol, request, reply = (socket.AF_INET6, 58, 128, 129) if v6 else (socket.AF_INET, 1, 8, 0)
s = socket.socket(family, socket.SOCK_RAW, protocol)
s.settimeout(3)
for n in range(2):
    m = struct.pack('!BBHHH', request, 0, 0, 1, n)
    c = sum(struct.unpack('!4H', m))
    m = struct.pack('!BBHHH', request, 0, 0 if v6 else ~(c + (c >> 16)) & 0xffff, 1, n)
    s.sendto(m, (sys.argv[1], 0))
    while True:
        d = s.recv(2048)
        d = d if v6 else d[20:]
        if d[0] == reply and d[6:8] == m[6:8]: break
`;

/** Builds a UDP packet byte by byte and sends it into the host's stack. */
async function inject(tun: TunSocket): Promise<boolean> {
  const socket = createSocket('udp4');
  socket.bind(5000, HOST.v4);
  await once(socket, 'listening');
  const message = once(socket, 'message', { signal: AbortSignal.timeout(TIMEOUT_MS) });
  const from = { address: Buffer.from([10, 0, 0, 2]), port: 4000 };
  const to = { address: Buffer.from([10, 0, 0, 1]), port: 5000 };
  const packet = udpPacket(from, to, Buffer.from('hello from nowhere'));
  tun.sendmsg(packet);
  console.log(`  sent     ${describePacket(packet)}`);
  const [payload, sender] = await message;
  console.log(`  the dgram socket received '${payload}' from ${sender.address}:${sender.port}`);
  socket.close();
  return payload.toString() === 'hello from nowhere' && sender.port === from.port;
}

/** Receives a datagram of 1000 bytes into 100. */
async function truncate(tun: TunSocket): Promise<boolean> {
  const socket = createSocket('udp4');
  socket.bind(0, HOST.v4);
  await once(socket, 'listening');
  socket.send(Buffer.alloc(1000), 9, PEER.v4);
  await new Promise(setImmediate);
  const room = Buffer.alloc(100);
  const deadline = Date.now() + TIMEOUT_MS;
  while (Date.now() < deadline) {
    const { bytes, size, flags } = tun.recvmsg(room);
    // The kernel has words of its own to say on a new interface, over IPv6.
    if (layoutOf(room.subarray(0, bytes))?.version !== 4) continue;
    console.log(
      `  received ${bytes} of ${size} bytes${(flags & constants.MSG_TRUNC) !== 0 ? ', MSG_TRUNC' : ''}`,
    );
    socket.close();
    return bytes === 100 && size === 1028 && (flags & constants.MSG_TRUNC) !== 0;
  }
  return false;
}

enterOwnNamespace();
main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
