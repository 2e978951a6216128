import { spawn, spawnSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { join } from 'node:path';
import { constants, Netns, TunSocket } from 'tunsock';
import { describePacket, echoReply, readIp, udpPacket } from 'tunsock/packets';
import { type Arguments, type Command, CommandError } from './command';
import { Terminal } from './terminal';

const HOST = { v4: '10.0.0.1', v6: 'fd00::1' };
const PEER = { v4: '10.0.0.2', v6: 'fd00::2' };
const TIMEOUT_MS = 10_000;

export const command: Command = {
  synopsis: 'demo [options]',
  details:
    'A tun device whose peer is this program: it answers the pings of the kernel, injects a datagram that an ordinary socket receives, and sees how long a packet is that it had no room for. Without privilege it starts itself again under unshare -Urn.',
  options: { json: { type: 'boolean', help: 'print only the results, as JSON' } },
  arguments: [0, 0],
  run,
};

async function run(args: Arguments): Promise<number> {
  const again = enterOwnNamespace(args.flag('json'));
  if (again !== undefined) return again;
  const quiet = args.flag('json');
  const terminal = new Terminal(process.stdout);
  const say = (text: string) => {
    if (!quiet) terminal.line(text);
  };
  const results: { what: string; passed: boolean }[] = [];
  const report = (what: string, passed: boolean) => {
    results.push({ what, passed });
    say(`${passed ? terminal.colour('green', 'ok     ') : terminal.colour('red', 'FAILED ')}${what}\n`);
  };

  using tun = TunSocket.open({
    name: 'tun0',
    address: [`${HOST.v4}/24`, `${HOST.v6}/64`],
    mtu: 1500,
    receiveTimeout: TIMEOUT_MS,
  });
  say(`opened ${tun.name} (interface ${tun.index}) with ${HOST.v4}/24 and ${HOST.v6}/64\n`);
  tun.on('message', (packet) => {
    const reply = echoReply(packet);
    say(`  received ${describePacket(packet)}`);
    if (reply === undefined) return;
    tun.send(reply);
    say(`  sent     ${describePacket(reply)}`);
  });
  report('the kernel pings a peer that is JavaScript, over IPv4', await ping(PEER.v4));
  report('the kernel pings a peer that is JavaScript, over IPv6', await ping(PEER.v6));
  report('an ordinary dgram socket receives an injected datagram', await inject(tun, say));
  tun.removeAllListeners('message');
  report('a packet that is cut shows its true length', await truncate(tun, say));

  const { received, sent } = tun.stats();
  const failed = results.filter(({ passed }) => !passed).length;
  say(
    `received ${received.packets} packets (${received.bytes} bytes), sent ${sent.packets} (${sent.bytes} bytes)`,
  );
  say(`${results.length - failed} of ${results.length} worked`);
  if (quiet) process.stdout.write(`${JSON.stringify(results, null, 2)}\n`);
  return failed === 0 ? 0 : 1;
}

/** Moves this thread into a fresh network namespace; without privilege, does all under unshare(1), and returns the exit status of that. */
function enterOwnNamespace(json: boolean): number | undefined {
  try {
    Netns.create().enter();
    return undefined;
  } catch (error) {
    if ((error as { code?: string }).code !== 'EPERM' || process.env.TUNSOCK_UNSHARED !== undefined)
      throw error;
  }
  const main = join(__dirname, 'main.js');
  const { status, error } = spawnSync(
    'unshare',
    ['-Urn', '--', process.execPath, main, 'demo', ...(json ? ['--json'] : [])],
    { stdio: 'inherit', env: { ...process.env, TUNSOCK_UNSHARED: '1' } },
  );
  if (error !== undefined)
    throw new CommandError(`unshare can't be started: ${error.message}`, { cause: error });
  if (status !== 0)
    throw new CommandError("it did not work under unshare -Urn; 'tunsock doctor' says why, or run as root");
  return 0;
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

/** Sends a UDP packet into the host's stack. */
async function inject(tun: TunSocket, say: (text: string) => void): Promise<boolean> {
  const socket = createSocket('udp4');
  socket.bind(5000, HOST.v4);
  await once(socket, 'listening');
  const message = once(socket, 'message', { signal: AbortSignal.timeout(TIMEOUT_MS) });
  const from = { address: PEER.v4, port: 4000 };
  const packet = udpPacket(from, { address: HOST.v4, port: 5000 }, Buffer.from('hello from nowhere'));
  tun.sendmsg(packet);
  say(`  sent     ${describePacket(packet)}`);
  const [payload, sender] = await message;
  say(`  the dgram socket received '${payload}' from ${sender.address}:${sender.port}`);
  socket.close();
  return payload.toString() === 'hello from nowhere' && sender.port === from.port;
}

/** Receives a datagram of 1000 bytes into 100. */
async function truncate(tun: TunSocket, say: (text: string) => void): Promise<boolean> {
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
    if (readIp(room.subarray(0, bytes))?.version !== 4) continue;
    say(`  received ${bytes} of ${size} bytes${(flags & constants.MSG_TRUNC) !== 0 ? ', MSG_TRUNC' : ''}`);
    socket.close();
    return bytes === 100 && size === 1028 && (flags & constants.MSG_TRUNC) !== 0;
  }
  return false;
}
