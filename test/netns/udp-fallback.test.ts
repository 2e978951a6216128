import { spawnSync } from 'node:child_process';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { constants, type OffloadFallback, PacketBatch, UdpSocket } from '../../dist';
import { type Pair, vethPair } from '../helpers/pair';
import { ALL_THREADS, HAS_STRACE } from '../helpers/strace';
import { batchOf, queued, udpStage } from '../helpers/udp-stage';

const { MSG_DONTWAIT } = constants;
const { open, kept } = udpStage();
const USO = ['uso4', 'uso6'];

const numbered = (length: number) => Buffer.from(Array.from({ length }, (_, index) => index % 251));
const lengths = (datagrams: readonly Buffer[]) => datagrams.map((datagram) => datagram.length);

describe('a path with a smaller mtu, raw', () => {
  let pair: Pair;
  let said: OffloadFallback[];
  const hear = (message: unknown) => void said.push(message as OffloadFallback);
  beforeEach(() => {
    pair = vethPair();
    pair.near.run(() => pair.nearLink.addAddress('10.3.0.1/24'));
    pair.far.run(() => pair.farLink.addAddress('10.3.0.2/24'));
    pair.near.run(() => {
      pair.nearLink.mtu = 1000;
    });
    said = [];
    subscribe('tunsock:offload:fallback', hear);
  });
  afterEach(() => {
    unsubscribe('tunsock:offload:fallback', hear);
    pair.close();
  });
  const both = () => {
    const b = open({ netns: pair.far, address: '10.3.0.2', receiveBuffer: 4 << 20 });
    return { a: open({ netns: pair.near, address: '10.3.0.1', offload: 'raw' }), b, to: b.address() };
  };

  it.each(['sendmsg', 'sendmmsg', 'send', 'sendBatch'] as const)(
    '%s: the datagrams go one by one, and it is said once',
    async (call) => {
      const { a, b, to } = both();
      const options = { to, segmentSize: 1400 };
      const data = numbered(5 * 1400 + 77);
      for (let round = 0; round < 2; round++) {
        if (call === 'sendmsg') {
          expect(a.sendmsg([data.subarray(0, 100), data.subarray(100)], 0, options)).toBe(data.length);
        } else if (call === 'sendmmsg') expect(a.sendmmsg(batchOf([data], options))).toBe(1);
        else if (call === 'sendBatch') expect(await a.sendBatch(batchOf([data], options))).toBe(1);
        else {
          const result = await new Promise((resolve) =>
            a.send(data, options, (error, bytes) => resolve([error, bytes])),
          );
          expect(result).toEqual([null, data.length]);
        }
        const got = queued(b);
        expect(lengths(got)).toEqual([1400, 1400, 1400, 1400, 1400, 77]);
        expect(Buffer.concat(got)).toEqual(data);
      }
      await new Promise(setImmediate);
      expect(said).toEqual([{ socket: a, features: USO }]);
      // What fits goes as one still.
      a.sendmsg(numbered(2000), 0, { to, segmentSize: 900 });
      expect(lengths(queued(b))).toEqual([900, 900, 200]);
      expect(a.stats()).toMatchObject({
        sent: { packets: 2 * 6 + 1, errors: 0 },
        offload: { sent: 1, refused: USO },
      });
      expect(a.offloadFeatures).toEqual([]);
    },
  );

  it('messages of a batch, each with its own destination and length', () => {
    const { a, b, to } = both();
    const c = open({ netns: pair.far, address: '10.3.0.2' });
    const batch = new PacketBatch({ packetSize: 65535 });
    batch.push(numbered(3000), { to, segmentSize: 1400 });
    batch.push(numbered(50), { to: c.address() });
    batch.push(numbered(2800), { to: c.address(), segmentSize: 1400 });
    batch.push(numbered(1800), { to, segmentSize: 900 });
    for (let sent = 0; sent < 4; ) sent += a.sendmmsg(batch, 0, sent);
    expect(lengths(queued(b))).toEqual([1400, 1400, 200, 900, 900]);
    expect(lengths(queued(c))).toEqual([50, 1400, 1400]);
    expect(a.stats().offload).toEqual({ received: 0, sent: 1, refused: USO });
  });

  it('also of a socket that something else opened', () => {
    const { a, b, to } = both();
    const adopted = kept(UdpSocket.fromFd(a.detach()));
    adopted.sendmsg(numbered(2800), 0, { to, segmentSize: 1400 });
    expect(lengths(queued(b))).toEqual([1400, 1400]);
    expect(adopted.stats().offload).toEqual({ received: 0, sent: 0, refused: USO });
  });
});

/** Sends what it is told, and prints what became of it: `calls` are [method, bytes of each message, segmentSize, flags]. */
const PROGRAM = `
  const { UdpSocket, PacketBatch } = require(${JSON.stringify(join(__dirname, '../../dist'))});
  const [, offload, calls] = JSON.parse(process.argv[1]);
  const a = UdpSocket.open({ address: '127.0.0.1', offload });
  const b = UdpSocket.open({ address: '127.0.0.1', receiveBuffer: 4 << 20 });
  const to = b.address();
  const published = [];
  require('node:diagnostics_channel').subscribe('tunsock:offload:fallback', ({ socket, features }) => {
    published.push([socket === a, features]);
  });
  let next = 0;
  const numbered = (length) => Buffer.from(Array.from({ length }, () => next++ % 251));
  const results = calls.map(([method, sizes, segmentSize, flags]) => {
    const options = segmentSize === 0 ? { to } : { to, segmentSize };
    try {
      if (method === 'sendmsg') return a.sendmsg(numbered(sizes[0]), flags, options);
      const batch = new PacketBatch({ packetSize: 65535 });
      for (const size of sizes) batch.push(numbered(size), options);
      let sent = 0;
      while (sent < sizes.length) sent += a.sendmmsg(batch, flags, sent);
      return sent;
    } catch (error) { return error.code; }
  });
  const arrived = new PacketBatch({ capacity: 256 });
  b.recvmmsg(arrived, 0x40);
  const { offload: counted, sent } = a.stats();
  setImmediate(() => {
    const bytes = Buffer.concat([...arrived].map((datagram) => Buffer.from(datagram)));
    const inOrder = bytes.every((byte, index) => byte === index % 251);
    console.log(JSON.stringify({ results, published, counted, sent, lengths: [...arrived.lengths.subarray(0, arrived.length)], inOrder }));
    a.close();
    b.close();
  });
`;

type Call = ['sendmsg' | 'sendmmsg', number[], number, number];

interface Report {
  results: (number | string)[];
  published: [boolean, string[]][];
  counted: { sent: number; refused: string[] };
  sent: { packets: number; errors: number; wouldBlock: number };
  lengths: number[];
  inOrder: boolean;
}

/** Runs the program so that system calls fail as `faults` say: 'sendmsg:error=EIO:when=1' is the first one. */
function run(faults: string[], offload: 'split' | 'raw', calls: Call[]): Report {
  const { stdout, stderr } = spawnSync(
    'strace',
    [
      ...ALL_THREADS,
      ...['-o', '/dev/null', '-e', 'trace=sendmsg,sendmmsg'],
      ...faults.flatMap((fault) => ['-e', `inject=${fault}`]),
      ...[process.execPath, '-e', PROGRAM, JSON.stringify(['', offload, calls])],
    ],
    { encoding: 'utf8', timeout: 20_000 },
  );
  expect(stderr).toBe('');
  return JSON.parse(stdout);
}

describe.runIf(HAS_STRACE)('a device that makes no checksums (EIO)', () => {
  it('raw: a message, and all later ones of any length', () => {
    const report = run(['sendmsg:error=EIO:when=1'], 'raw', [
      ['sendmsg', [2500], 1000, 0],
      ['sendmsg', [25], 10, 0],
      ['sendmmsg', [25, 35], 10, 0],
      ['sendmsg', [7], 0, 0],
    ]);
    expect(report).toEqual({
      results: [2500, 25, 2, 7],
      published: [[true, USO]],
      counted: { received: 0, sent: 0, refused: USO },
      sent: expect.objectContaining({ packets: 3 + 3 + 3 + 4 + 1, bytes: 2592, errors: 0 }),
      lengths: [1000, 1000, 500, 10, 10, 5, 10, 10, 5, 10, 10, 10, 5, 7],
      inOrder: true,
    });
  });

  it('raw: messages of a batch', () => {
    const report = run(['sendmmsg:error=EIO:when=1'], 'raw', [['sendmmsg', [2500, 1500, 10], 1000, 0]]);
    expect(report).toMatchObject({ results: [3], published: [[true, USO]], inOrder: true });
    expect(report.lengths).toEqual([1000, 1000, 500, 1000, 500, 10]);
  });

  it('split: a run of datagrams, and all later ones', () => {
    const report = run(['sendmsg:error=EIO:when=1'], 'split', [
      ['sendmmsg', [1000, 1000, 500], 0, 0],
      ['sendmmsg', [10, 10, 10], 0, 0],
    ]);
    expect(report).toMatchObject({
      results: [3, 3],
      published: [[true, USO]],
      counted: { sent: 0, refused: USO },
      sent: { packets: 6, errors: 0 },
      lengths: [1000, 1000, 500, 10, 10, 10],
      inOrder: true,
    });
  });

  // strace takes one fault for each call: what is learnt from sendmmsg(2) makes datagrams go by sendmsg(2).
  const learnt: Call = ['sendmmsg', [20], 10, 0];
  const noRoom = (when: string) => ['sendmmsg:error=EIO:when=1', `sendmsg:error=EAGAIN:when=${when}`];

  it.each(['sendmsg', 'sendmmsg'] as const)('and no room for all: a blocking %s waits', (method) => {
    const report = run(noRoom('5..6'), 'raw', [learnt, [method, [4500], 1000, 0]]);
    expect(report).toMatchObject({
      results: [1, method === 'sendmsg' ? 4500 : 1],
      sent: { packets: 7, wouldBlock: 2, errors: 0 },
      lengths: [10, 10, 1000, 1000, 1000, 1000, 500],
      inOrder: true,
    });
  });

  it('and no room for all: a sendmsg that does not wait tells how far it came, a sendmmsg that there was none', () => {
    const one = run(noRoom('5'), 'raw', [learnt, ['sendmsg', [4500], 1000, MSG_DONTWAIT]]);
    expect(one).toMatchObject({ results: [1, 2000], inOrder: true, lengths: [10, 10, 1000, 1000] });
    const many = run(noRoom('5'), 'raw', [
      learnt,
      ['sendmmsg', [4500, 900], 1000, MSG_DONTWAIT],
      ['sendmmsg', [7], 0, 0],
    ]);
    expect(many).toMatchObject({ results: [1, 'EAGAIN', 1], sent: { packets: 5, wouldBlock: 1 } });
    expect(many.lengths).toEqual([10, 10, 1000, 1000, 7]);
  });

  it.each([
    ['EPERM', { errors: 1, wouldBlock: 0 }],
    ['EAGAIN', { errors: 0, wouldBlock: 1 }],
  ])('what is no refusal, as %s, is told, and changes nothing', (error, counted) => {
    const report = run([`sendmsg:error=${error}:when=1`], 'raw', [
      ['sendmsg', [2500], 1000, MSG_DONTWAIT],
      ['sendmsg', [2500], 1000, MSG_DONTWAIT],
    ]);
    expect(report).toMatchObject({
      results: [error, 2500],
      published: [],
      counted: { sent: 1, refused: [] },
      sent: { packets: 1, ...counted },
    });
  });
});
