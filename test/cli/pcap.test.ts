import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { CapturedPacket } from '../../dist/cli/pcap/captured-packet';
import * as writer from '../../dist/cli/pcap/pcapng-writer';
import { readCapture } from '../../dist/cli/pcap/reader';
import { udpPacket } from '../../dist/packets';
import { temporaryFolder } from './helpers';

const HAS_TCPDUMP = spawnSync('tcpdump', ['--version']).error === undefined;
if (!HAS_TCPDUMP) console.log('skipped: what needs tcpdump');

async function* inPieces(file: Buffer, size: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < file.length; at += size) yield file.subarray(at, at + size);
}

async function packetsOf(file: Buffer, size = file.length): Promise<CapturedPacket[]> {
  const packets: CapturedPacket[] = [];
  for await (const packet of readCapture(inPieces(file, Math.max(size, 1)))) {
    packets.push({ ...packet, data: Buffer.from(packet.data) });
  }
  return packets;
}

const failure = (file: Buffer) =>
  packetsOf(file).then(
    () => 'nothing',
    (error: Error) => error.message,
  );

/** Integers in the order of a file's writer. */
function words(order: 'LE' | 'BE') {
  return (...list: (readonly [bytes: 2 | 4 | 8, value: number | bigint])[]) =>
    Buffer.concat(
      list.map(([size, value]) => {
        const bytes = Buffer.alloc(size);
        if (size === 2) bytes[`writeUInt16${order}`](Number(value));
        else if (size === 4) bytes[`writeUInt32${order}`](Number(value));
        else bytes[`writeBigInt64${order}`](BigInt(value));
        return bytes;
      }),
    );
}

const DATA = udpPacket(
  { address: '10.0.0.1', port: 1 },
  { address: '10.0.0.2', port: 2 },
  Buffer.from('abc'),
);
const PADDED = Buffer.concat([DATA, Buffer.alloc(-DATA.length & 3)]);

function pcap(order: 'LE' | 'BE', magic: number): Buffer {
  const w = words(order);
  const head = w([4, magic], [2, 2], [2, 4], [4, 0], [4, 0], [4, 65535], [4, 101]);
  const record = w([4, 1_700_000_000], [4, 123_456], [4, DATA.length], [4, 1500]);
  return Buffer.concat([head, record, DATA, record, DATA]);
}

function pcapng(order: 'LE' | 'BE', interfaceOptions: Buffer = Buffer.alloc(0), unknown = 200_000): Buffer {
  const w = words(order);
  const block = (type: number, body: Buffer) => {
    const length = [4, body.length + 12] as const;
    return Buffer.concat([w([4, type], length), body, w(length)]);
  };
  const time = 1_700_000_000_123_456n;
  return Buffer.concat([
    block(0x0a0d0d0a, w([4, 0x1a2b3c4d], [2, 1], [2, 0], [8, -1n])),
    block(1, Buffer.concat([w([2, 101], [2, 0], [4, 0]), interfaceOptions])),
    block(0x40000bad, Buffer.alloc(unknown)),
    block(
      6,
      Buffer.concat([
        w([4, 0], [4, time >> 32n], [4, time & 0xffffffffn], [4, DATA.length], [4, 1500]),
        PADDED,
      ]),
    ),
    block(
      2,
      Buffer.concat([
        w([2, 0], [2, 0], [4, time >> 32n], [4, time & 0xffffffffn], [4, DATA.length], [4, 1500]),
        PADDED,
      ]),
    ),
    block(3, Buffer.concat([w([4, DATA.length]), PADDED])),
  ]);
}

describe.each(['LE', 'BE'] as const)('written %s', (order) => {
  it.each([
    ['microseconds', 0xa1b2c3d4, 1_700_000_000_123_456_000n],
    ['nanoseconds', 0xa1b23c4d, 1_700_000_000_000_123_456n],
  ])('pcap with %s is read, in pieces of any size', async (_, magic, timestamp) => {
    const packet = { linkType: 101, timestamp, data: DATA, length: 1500, interface: undefined };
    const file = pcap(order, magic);
    for (const size of [1, 7, file.length]) expect(await packetsOf(file, size)).toEqual([packet, packet]);
  });

  it('pcapng is read: three kinds of packets, and blocks that are not known', async () => {
    const packet = { linkType: 101, data: DATA, interface: undefined };
    const timed = { ...packet, timestamp: 1_700_000_000_123_456_000n, length: 1500 };
    expect(await packetsOf(pcapng(order), 1000)).toEqual([
      timed,
      timed,
      { ...packet, timestamp: 0n, length: DATA.length },
    ]);
  });

  it('times have the resolution and offset that the interface has, and its name', async () => {
    const w = words(order);
    const option = (code: number, value: Buffer) =>
      Buffer.concat([w([2, code], [2, value.length]), value, Buffer.alloc(-value.length & 3)]);
    const first = async (options: Buffer) => (await packetsOf(pcapng(order, options)))[0];
    const nanoseconds = await first(
      Buffer.concat([option(2, Buffer.from('eth7')), option(9, Buffer.from([9]))]),
    );
    expect(nanoseconds).toMatchObject({ timestamp: 1_700_000_000_123_456n, interface: 'eth7' });
    // 2^-20 of a second, and an hour later.
    const binary = await first(Buffer.concat([option(9, Buffer.from([0x94])), option(14, w([8, 3600n]))]));
    expect(binary?.timestamp).toBe(
      (1_700_000_000_123_456n * 1_000_000_000n) / 1_048_576n + 3_600_000_000_000n,
    );
  });
});

describe('a damaged file', () => {
  it('is refused with the place', async () => {
    expect(await failure(Buffer.alloc(0))).toMatch(/empty/);
    expect(await failure(Buffer.from('#!/bin/sh\n'))).toMatch(/no pcap or pcapng/);
    const file = pcap('LE', 0xa1b2c3d4);
    expect(await failure(file.subarray(0, 50))).toMatch(/ends within a record .* at byte 40/);
    const long = Buffer.from(file);
    long.writeUInt32LE(0x7fffffff, 32);
    expect(await failure(long)).toMatch(/2147483647 bytes is more than there can be, at byte 24/);
    const ng = pcapng('LE');
    const lengths = Buffer.from(ng);
    lengths.writeUInt32LE(7, 32);
    expect(await failure(lengths)).toMatch(/length of 7 bytes, at byte 28/);
    const other = Buffer.from(ng);
    other.writeUInt32LE(24, 44);
    expect(await failure(other)).toMatch(/two lengths differ/);
    const orphan = Buffer.concat([ng.subarray(0, 28), ng.subarray(48)]);
    expect(await failure(orphan)).toMatch(/interface 0, which the file doesn't have/);
  });

  it('never makes anything but packets or such an error', async () => {
    const short = (order: 'LE' | 'BE') => pcapng(order, Buffer.alloc(0), 8);
    const files = [pcap('LE', 0xa1b2c3d4), pcap('BE', 0xa1b23c4d), short('LE'), short('BE')];
    let packets = 0;
    for (let round = 0; round < 4000; round++) {
      const file = Buffer.from(files[round % files.length] as Buffer);
      for (let edits = 0; edits <= round % 3; edits++) {
        file[Math.floor(Math.random() * Math.min(file.length, 300))] = Math.random() * 256;
      }
      try {
        const cut = file.subarray(0, Math.ceil((0.5 + Math.random() / 2) * file.length));
        for await (const { data } of readCapture(inPieces(cut, 64))) packets += data.length > 0 ? 1 : 0;
      } catch (error) {
        expect((error as Error).constructor.name).toBe('FormatError');
      }
    }
    expect(packets).toBeGreaterThan(1000);
  });
});

describe('what is written', () => {
  const time = 1_700_000_000_123_456_789n;
  const file = Buffer.concat([
    writer.sectionBlock('test'),
    writer.interfaceBlock('tun0', writer.LINKTYPE_RAW, 262_144),
    writer.packetBlock(DATA, 1500, time, { direction: 'in', comment: 'a comment' }),
    writer.packetBlock(DATA, DATA.length, time + 1n, { direction: undefined, comment: undefined }),
    writer.statisticsBlock(time, 3, 1),
  ]);

  it('is read again as it was', async () => {
    const packet = { linkType: 101, data: DATA, interface: 'tun0' };
    expect(await packetsOf(file)).toEqual([
      { ...packet, timestamp: time, length: 1500 },
      { ...packet, timestamp: time + 1n, length: DATA.length },
    ]);
  });

  it.runIf(HAS_TCPDUMP)('is what tcpdump reads', () => {
    using folder = temporaryFolder();
    const path = join(folder.path, 'file.pcapng');
    writeFileSync(path, file);
    const { stdout, status } = spawnSync('tcpdump', ['-r', path, '-n', '-tt', '--nano'], {
      encoding: 'utf8',
    });
    expect(status).toBe(0);
    expect(stdout.trim().split('\n')).toEqual([
      '1700000000.123456789 IP 10.0.0.1.1 > 10.0.0.2.2: UDP, length 3',
      '1700000000.123456790 IP 10.0.0.1.1 > 10.0.0.2.2: UDP, length 3',
    ]);
  });
});
