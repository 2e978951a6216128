import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Link, Netns, PacketSocket } from '../../dist';
import { EMULATED } from '../helpers/kernel';
import { untilRunning } from '../helpers/pair';

/** Two hosts, each with a cable to a third, where two packet sockets are the bridge. */
const HAS_IPERF = spawnSync('iperf3', ['-v']).status === 0;
if (!HAS_IPERF) console.log('skipped: what needs iperf3');

const SERVER = '10.8.0.2';
let hosts: Netns[];
let middle: Netns;
let ports: PacketSocket[];
let children: ChildProcess[];

beforeEach(() => {
  children = [];
  middle = Netns.create();
  hosts = [1, 2].map((number) => {
    const host = Netns.create();
    const link = middle.run(() =>
      Link.create({ type: 'veth', name: `p${number}`, peer: { name: 'eth0', netns: host } }),
    );
    link.up();
    host.run(() => {
      const far = Link.get('eth0');
      far.addAddress(`10.8.0.${number}/24`);
      far.up();
      untilRunning(far);
    });
    return host;
  });
  // Nothing but what every user gets.
  ports = ['p1', 'p2'].map((name) =>
    PacketSocket.open({ interface: name, netns: middle, ignoreOutgoing: true, promiscuous: true }),
  );
  const [one, two] = ports as [PacketSocket, PacketSocket];
  one.on('message', (packet) => two.send(packet));
  two.on('message', (packet) => one.send(packet));
});
afterEach(() => {
  for (const child of children) child.kill();
  for (const port of ports) port.close();
  for (const netns of [middle, ...hosts]) netns.close();
});

/** What iperf3 has measured between the hosts. */
async function iperf(
  ...args: string[]
): Promise<{ sum_received: { bytes: number }; sum: { packets: number; lost_packets: number } }> {
  const [client, server] = hosts as [Netns, Netns];
  const serving = server.run(() =>
    spawn('iperf3', ['-s', '-1', '-B', SERVER, '--forceflush'], { stdio: ['ignore', 'pipe', 'inherit'] }),
  );
  children.push(serving);
  let ready = '';
  while (!ready.includes('listening')) ready += (await once(serving.stdout, 'data'))[0];
  serving.stdout.resume();
  const running = client.run(() =>
    spawn('iperf3', ['-c', SERVER, '-J', ...args], { stdio: ['ignore', 'pipe', 'inherit'] }),
  );
  children.push(running);
  let output = '';
  running.stdout.on('data', (chunk) => {
    output += chunk;
  });
  const [[code]] = await Promise.all([once(running, 'close'), once(serving, 'close')]);
  expect(code, output).toBe(0);
  return JSON.parse(output).end;
}

describe.runIf(HAS_IPERF)("a bridge of two default packet sockets by 'message' and send()", () => {
  it.each([[[]], [['-R']], [['-P', '3']]])(
    'passes TCP on, whose frames have no checksums yet: %j',
    async (args) => {
      // In a guest there is no telling how long that takes. What is under way at the end is not counted.
      const [amount, least] = EMULATED ? [['-n', '4M'], 1 << 20] : [['-t', '1'], 4 << 20];
      const { sum_received } = await iperf(...amount, ...args);
      expect(sum_received.bytes).toBeGreaterThan(least);
    },
  );

  it('passes UDP on', async () => {
    // No faster than the bridge is: what overflows its socket's queue is lost.
    const { sum } = await iperf('-u', '-n', '200K', '-b', EMULATED ? '1M' : '10M', '-l', '1000');
    expect(sum.packets).toBeGreaterThan(100);
    expect(sum.lost_packets).toBe(0);
  });

  it('puts nothing on the cable that is longer than the mtu', async () => {
    let longest = 0;
    for (const port of ports) {
      port.on('message', (packet) => {
        longest = Math.max(longest, packet.length);
      });
    }
    await iperf('-n', '1M');
    expect(longest).toBe(1514);
    expect(ports[0]?.stats().offload?.received).toBeGreaterThan(0);
    expect(ports[1]?.stats().offload?.sent).toBeGreaterThan(0);
  });
});
