import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { HOST, PEER } from '../helpers/device';
import { kernelHas } from '../helpers/kernel';
import { enterQuietNamespace } from '../helpers/namespace';
import { tcpPacket, udpPacket } from '../helpers/packets';
import { ALL_THREADS, HAS_STRACE } from '../helpers/strace';

const dist = join(__dirname, '../../dist');
const HOST6 = 'fd00::1';
const PEER6 = 'fd00::2';
const RUN = 6;

beforeAll(enterQuietNamespace);

/** Sends each run of packets that it is given with one sendmmsg(), and prints what became of it. */
const PROGRAM = `
  const { TunSocket, PacketSocket, PacketBatch, constants } = require(${JSON.stringify(dist)});
  const [, address, ...runs] = JSON.parse(process.argv[1]);
  const tun = TunSocket.open({ name: 't', offload: 'split', address });
  // What the host gets: a packet socket on the same interface sees it too.
  const seen = PacketSocket.open({ interface: 't', ignoreOutgoing: true, offload: 'none' });
  const published = [];
  require('node:diagnostics_channel').subscribe('tunsock:offload:fallback', ({ socket, features }) => {
    published.push([socket === tun, features]);
  });
  const features = [tun.offloadFeatures];
  const results = [];
  const merged = [];
  for (const run of runs) {
    const batch = new PacketBatch({ capacity: run.length });
    for (const packet of run) batch.push(Buffer.from(packet, 'base64'));
    try { results.push(tun.sendmmsg(batch, constants.MSG_DONTWAIT)); } catch (error) { results.push(error.code); }
    merged.push(tun.stats().offload.sent);
    features.push(tun.offloadFeatures);
  }
  const arrived = new PacketBatch({ capacity: 256, packetSize: 65535 });
  seen.recvmmsg(arrived, constants.MSG_DONTWAIT);
  const { offload, sent } = tun.stats();
  // The channel is told on the next tick.
  setImmediate(() => {
    console.log(JSON.stringify({
      features, results, merged, published, refused: offload.refused, sent,
      arrived: [...arrived].map((packet) => packet.toString('base64')),
    }));
    tun.close();
    seen.close();
  });
`;

interface Report {
  features: string[][];
  results: (number | string)[];
  merged: number[];
  published: [boolean, string[]][];
  refused: string[];
  sent: { packets: number; errors: number; wouldBlock: number };
  arrived: string[];
}

/** Runs the program so that system calls on the device fail as `faults` say: 'writev:error=EINVAL:when=1' is the first one. */
function run(faults: string[], runs: Buffer[][]): Report {
  const address = [`${HOST}/24`, `${HOST6}/64`];
  const packets = runs.map((packets) => packets.map((packet) => packet.toString('base64')));
  const { stdout, stderr } = spawnSync(
    'strace',
    [
      ...ALL_THREADS,
      ...['-o', '/dev/null', '-P', '/dev/net/tun'],
      ...['-e', 'trace=write,writev', ...faults.flatMap((fault) => ['-e', `inject=${fault}`])],
      ...[process.execPath, '-e', PROGRAM, JSON.stringify(['', address, ...packets])],
    ],
    { encoding: 'utf8', timeout: 20_000 },
  );
  expect(stderr).toBe('');
  return JSON.parse(stdout);
}

/** Opens a 'split' device of which the kernel refuses the first `refusals` masks of features: what is in force then. */
function openRefused(refusals: number): { offload: string; features: string[] } {
  const program = `
    const { TunSocket } = require(${JSON.stringify(dist)});
    const tun = TunSocket.open({ offload: 'split' });
    console.log(JSON.stringify({ offload: tun.offload, features: tun.offloadFeatures }));
  `;
  const traced = (...extra: string[]) =>
    spawnSync(
      'strace',
      [...ALL_THREADS, '-P', '/dev/net/tun', '-e', 'trace=ioctl', ...extra, process.execPath, '-e', program],
      { encoding: 'utf8', timeout: 20_000 },
    );
  const calls = traced()
    .stderr.split('\n')
    .filter((line) => line.includes('ioctl('));
  const first = calls.findIndex((line) => line.includes('TUNSETOFFLOAD')) + 1;
  expect(first).toBeGreaterThan(0);
  if (refusals === 0) return JSON.parse(traced().stdout);
  const when = `${first}..${first + refusals - 1}`;
  return JSON.parse(traced('-e', `inject=ioctl:error=EINVAL:when=${when}`).stdout);
}

describe.runIf(HAS_STRACE)('a kernel that lacks features', () => {
  const TCP = ['csum', 'tso4', 'tso6'];
  it.each([
    [0, 'split', [...TCP, 'tso-ecn', ...(kernelHas(6, 2) ? ['uso4', 'uso6'] : [])]],
    [1, 'split', [...TCP, 'tso-ecn']],
    [2, 'split', TCP],
    [3, 'split', ['csum']],
    [4, 'none', []],
  ])('and refuses %i masks is asked for less: %s %j', (refusals, offload, features) => {
    expect(openRefused(refusals)).toEqual({ offload, features });
  });
});

type Maker = (index: number) => Buffer;
const data = (index: number) => Buffer.alloc(100, index);
const udp4: Maker = (index) => udpPacket([PEER, 4000], [HOST, 4001], data(index), { id: index });
const udp6: Maker = (index) => udpPacket([PEER6, 4000], [HOST6, 4001], data(index));
const tcp = (index: number) => ({ sequence: 1000 + 100 * index, id: index });
const tcp4: Maker = (index) => tcpPacket([PEER, 4000], [HOST, 4001], data(index), tcp(index));
const tcp6: Maker = (index) => tcpPacket([PEER6, 4000], [HOST6, 4001], data(index), tcp(index));

/** Run `number` of a flow. */
const packetsOf = (make: Maker, number: number) =>
  Array.from({ length: RUN }, (_, index) => make(number * RUN + index));
const asText = (packets: Buffer[]) => packets.map((packet) => packet.toString('base64'));

describe.runIf(HAS_STRACE)('a kernel that refuses a merged write', () => {
  it.each<[string, string, string[], Maker, Maker]>([
    ['TCP over IPv4', 'EINVAL', ['tso4'], tcp4, tcp6],
    ['TCP over IPv6', 'EINVAL', ['tso6'], tcp6, tcp4],
    ['UDP over IPv4', 'EINVAL', ['uso4', 'uso6'], udp4, tcp4],
    ['UDP over IPv6', 'EINVAL', ['uso4', 'uso6'], udp6, tcp6],
    ['UDP', 'EOPNOTSUPP', ['uso4', 'uso6'], udp4, tcp6],
    ['TCP', 'EMSGSIZE', ['tso4'], tcp4, udp4],
  ])('of %s with %s gets it packet by packet, and no more of that kind', (_, error, refused, make, other) => {
    const runs = [packetsOf(make, 0), packetsOf(make, 1), packetsOf(other, 2)];
    const report = run([`writev:error=${error}:when=1`], runs);
    expect(report.results).toEqual([RUN, RUN, RUN]);
    // The first two runs went one by one, and the last one, of another kind, as one superpacket.
    expect(report.merged).toEqual([0, 0, 1]);
    const alone = asText([...packetsOf(make, 0), ...packetsOf(make, 1)]);
    expect(report.arrived.slice(0, alone.length)).toEqual(alone);
    expect(report.arrived).toHaveLength(alone.length + 1);
    expect(report.refused).toEqual(refused);
    expect(report.published).toEqual([[true, refused]]);
    const [before, ...after] = report.features;
    expect(before).toEqual(expect.arrayContaining(refused));
    for (const features of after) {
      expect(features).toEqual(before?.filter((feature) => !refused.includes(feature)));
    }
    expect(report.sent).toMatchObject({ packets: 3 * RUN, errors: 0 });
  });

  it('of two kinds says so once for each', () => {
    const report = run(
      ['writev:error=EINVAL:when=1..2'],
      [
        [...packetsOf(tcp4, 0), ...packetsOf(udp6, 0)],
        [...packetsOf(tcp4, 1), ...packetsOf(udp6, 1)],
      ],
    );
    expect(report.results).toEqual([2 * RUN, 2 * RUN]);
    expect(report.merged).toEqual([0, 0]);
    expect(report.refused).toEqual(['tso4', 'uso4', 'uso6']);
    expect(report.published.flatMap(([, features]) => features)).toEqual(['tso4', 'uso4', 'uso6']);
    expect(report.arrived).toHaveLength(4 * RUN);
  });

  it.each([
    ['EIO', 'EIO', { errors: 1, wouldBlock: 0 }],
    ['EAGAIN', 'EAGAIN', { errors: 0, wouldBlock: 1 }],
  ])('for the state of the device, %s, is asked again', (error, code, counted) => {
    const report = run([`writev:error=${error}:when=1`], [packetsOf(tcp4, 0), packetsOf(tcp4, 0)]);
    expect(report.results).toEqual([code, RUN]);
    expect(report.merged).toEqual([0, 1]);
    expect(report.refused).toEqual([]);
    expect(report.published).toEqual([]);
    expect(report.sent).toMatchObject({ packets: RUN, ...counted });
  });

  it('and the first packet by itself too, speaks of that packet, not of superpackets', () => {
    const faults = ['writev:error=EINVAL:when=1', 'write:error=EINVAL:when=1'];
    const report = run(faults, [packetsOf(tcp4, 0), packetsOf(tcp4, 0)]);
    expect(report.results).toEqual(['EINVAL', RUN]);
    expect(report.merged).toEqual([0, 1]);
    expect(report.refused).toEqual([]);
    expect(report.published).toEqual([]);
  });

  it('and then one of its packets: those before it count as sent', () => {
    const faults = ['writev:error=EINVAL:when=1', 'write:error=EINVAL:when=3'];
    const report = run(faults, [packetsOf(tcp4, 0)]);
    expect(report.results).toEqual([2]);
    expect(report.arrived).toEqual(asText(packetsOf(tcp4, 0).slice(0, 2)));
    expect(report.refused).toEqual(['tso4']);
  });
});

describe.runIf(HAS_STRACE)('who hears of it', () => {
  const SENDING = `
    const { TunSocket, PacketSocket, PacketBatch } = require(${JSON.stringify(dist)});
    const [how, ...packets] = JSON.parse(process.argv[1]);
    const runs = packets.map((packet) => Buffer.from(packet, 'base64'));
    const tun = TunSocket.open({ name: 't', persist: true, offload: 'split', address: '${HOST}/24' });
    const seen = PacketSocket.open({ interface: 't', ignoreOutgoing: true, offload: 'none' });
    let heard = 0;
    require('node:diagnostics_channel').subscribe('tunsock:offload:fallback', () => {
      heard += 1;
      if (how === 'close') tun.close();
      else tun.sendmsg(runs[0]);
    });
    let called = 0;
    for (const packet of runs) tun.send(packet, () => { called += 1; });
    setImmediate(() => setImmediate(() => {
      const arrived = new PacketBatch({ capacity: 64 });
      const count = seen.recvmmsg(arrived, 0x40);
      console.log(JSON.stringify([heard, called, count, tun.getSendQueueCount(), tun.getSendQueueSize()]));
      seen.close();
    }));
  `;

  it.each([
    ['close', RUN],
    ['sendmsg', RUN + 1],
  ])('may %s the socket: nothing is sent twice', (how, arrived) => {
    const packets = packetsOf(tcp4, 0).map((packet) => packet.toString('base64'));
    const faults = ['-e', 'trace=writev', '-e', 'inject=writev:error=EINVAL:when=1'];
    const { stdout } = spawnSync(
      'strace',
      [
        ...ALL_THREADS,
        ...['-o', '/dev/null', '-P', '/dev/net/tun', ...faults],
        ...[process.execPath, '-e', SENDING, JSON.stringify([how, ...packets])],
      ],
      { encoding: 'utf8', timeout: 20_000 },
    );
    expect(JSON.parse(stdout)).toEqual([1, RUN, arrived, 0, 0]);
  });
});
