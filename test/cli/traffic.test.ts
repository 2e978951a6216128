import { spawnSync } from 'node:child_process';
import { createReadStream, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Link, Netns, PacketSocket, TunSocket } from '../../dist';
import type { CapturedPacket } from '../../dist/cli/pcap/captured-packet';
import * as writer from '../../dist/cli/pcap/pcapng-writer';
import { readCapture } from '../../dist/cli/pcap/reader';
import {
  checksumsRight,
  ethernetFrame,
  readEthernet,
  readIp,
  tcpPacket,
  udpPacket,
} from '../../dist/packets';
import { enterQuietNamespace } from '../helpers/namespace';
import { HAS_PYTHON, tcpExchange } from '../helpers/peers';
import { inTerminal, plainLines, start, temporaryFolder, tunsock } from './helpers';

enterQuietNamespace();
const folder = temporaryFolder();
const file = join(folder.path, 'file.pcapng');

const FROM = { address: '10.0.0.2', port: 4000 };
const TO = { address: '10.0.0.1', port: 9 };
const MACS = { destination: '02:00:00:00:00:02', source: '02:00:00:00:00:01' };

async function packetsOf(path: string): Promise<CapturedPacket[]> {
  const packets: CapturedPacket[] = [];
  for await (const packet of readCapture(createReadStream(path)))
    packets.push({ ...packet, data: Buffer.from(packet.data) });
  return packets;
}

/** A file with a packet each 10 ms. */
function writeFile(
  linkType: number,
  packets: readonly Buffer[],
  lengths = packets.map(({ length }) => length),
): void {
  const blocks = packets.map((data, index) =>
    writer.packetBlock(data, lengths[index] as number, BigInt(index) * 10_000_000n, {
      direction: undefined,
      comment: undefined,
    }),
  );
  const head = [writer.sectionBlock('test'), writer.interfaceBlock('x', linkType, 0)];
  writeFileSync(file, Buffer.concat([...head, ...blocks]));
}

/** Waits until a packet socket of another process is on the interface. */
async function untilWatched(): Promise<void> {
  const count = () => readFileSync('/proc/thread-self/net/packet', 'utf8').trim().split('\n').length - 1;
  while (count() === 0) await setTimeout(20);
  await setTimeout(100);
}

describe('on a tun device', () => {
  let tun: TunSocket;
  beforeEach(() => {
    tun = TunSocket.open({ name: 'tun0', address: '10.0.0.1/24' });
  });
  afterEach(() => tun[Symbol.asyncDispose]());

  const datagrams = Array.from({ length: 20 }, (_, index) => udpPacket(FROM, TO, Buffer.alloc(index * 50)));

  it('capture writes packets as they are, with times and the name of the interface', async () => {
    const before = BigInt(Date.now()) * 1_000_000n;
    const running = start(['capture', 'tun0', file, '--count', '20', '--direction', 'in', '--json']);
    await untilWatched();
    for (const packet of datagrams) tun.sendmsg(packet);
    const { status, stdout, stderr } = await running.ended;
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(JSON.parse(stdout)).toMatchObject({
      ...{ interface: 'tun0', packets: 20, bytes: readFileSync(file).length, dropped: 0, errors: 0 },
    });
    const packets = await packetsOf(file);
    expect(packets.map(({ data }) => data)).toEqual(datagrams);
    for (const { interface: name, linkType, timestamp } of packets) {
      expect([name, linkType]).toEqual(['tun0', 101]);
      expect(timestamp - before).toBeGreaterThan(0n);
      expect(timestamp - before).toBeLessThan(30_000_000_000n);
    }
    expect(packets.some(({ timestamp }) => timestamp % 1000n !== 0n)).toBe(true);
  });

  it('capture ends on SIGINT with a whole file, and cuts with --snap', async () => {
    const running = start(['capture', 'tun0', file, '--snap', '28']);
    await untilWatched();
    for (const packet of datagrams) tun.sendmsg(packet);
    while (readFileSync(file).length < 1000) await setTimeout(20);
    running.kill('SIGINT');
    expect((await running.ended).status).toBe(0);
    const packets = (await packetsOf(file)).filter(({ data }) => readIp(data)?.source === FROM.address);
    expect(packets.map(({ data }) => data.length)).toEqual(datagrams.map(() => 28));
    expect(packets.map(({ length }) => length)).toEqual(datagrams.map(({ length }) => length));
  });

  it('an empty capture is a file with the interface', async () => {
    expect(tunsock(['capture', 'tun0', file, '--seconds', '0.2']).status).toBe(0);
    expect(await packetsOf(file)).toEqual([]);
    expect(readFileSync(file).includes('tun0')).toBe(true);
  });

  it('replay sends what was captured at the recorded speed, or another', async () => {
    const out = Array.from({ length: 21 }, (_, index) => udpPacket(TO, FROM, Buffer.alloc(index)));
    writeFile(writer.LINKTYPE_RAW, out);
    const seconds: number[] = [];
    for (const speed of [[], ['--speed', '4'], ['--rate', '1000'], ['--fast']]) {
      const { status, stdout, stderr } = tunsock(['replay', file, 'tun0', '--json', ...speed]);
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
      const result = JSON.parse(stdout);
      expect(result).toMatchObject({ packets: 21, cut: 0, tooLong: 0, otherLink: 0 });
      seconds.push(result.seconds);
      const received: Buffer[] = [];
      while (received.length < 21) {
        const packet = await tun.receive();
        if (readIp(packet)?.version === 4) received.push(packet);
      }
      expect(received).toEqual(out);
    }
    // 20 pauses of 10 ms, of 2.5 ms and of 1 ms; never sooner than that.
    expect(seconds[0]).toBeGreaterThanOrEqual(0.2);
    expect(seconds[1]).toBeGreaterThanOrEqual(0.05);
    expect(seconds[1]).toBeLessThan(seconds[0] as number);
    expect(seconds[2]).toBeGreaterThanOrEqual(0.02);
    expect(seconds[3]).toBeLessThan(seconds[0] as number);
  });

  it('replay counts what it cannot send, and fails', () => {
    const whole = udpPacket(TO, FROM, Buffer.alloc(10));
    writeFile(writer.LINKTYPE_RAW, [whole, whole, udpPacket(TO, FROM, Buffer.alloc(2000))], [38, 100, 2028]);
    const { status, stdout } = tunsock(['replay', file, 'tun0', '--fast', '--json']);
    expect(status).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject({ packets: 1, cut: 1, tooLong: 1, otherLink: 0 });
    writeFile(writer.LINKTYPE_ETHERNET, [ethernetFrame(MACS, whole)]);
    const other = tunsock(['replay', file, 'tun0', '--fast', '--json']);
    expect([other.status, JSON.parse(other.stdout).otherLink]).toEqual([1, 1]);
  });

  it('replay repeats, and ends in the middle', () => {
    writeFile(
      writer.LINKTYPE_RAW,
      Array.from({ length: 10 }, () => udpPacket(TO, FROM, Buffer.alloc(10))),
    );
    const all = JSON.parse(tunsock(['replay', file, 'tun0', '--fast', '--json', '--loop', '3']).stdout);
    expect(all.packets).toBe(30);
    const some = JSON.parse(tunsock(['replay', file, 'tun0', '--fast', '--json', '--count', '4']).stdout);
    expect(some.packets).toBe(4);
  });

  it('monitor counts packets by size, protocol and flow, and what was dropped', async () => {
    tun.link.txQueueLength = 10;
    const running = start(['monitor', 'tun0', '--json', '--interval', '1', '--count', '2', '--flows', '2']);
    await untilWatched();
    for (const packet of datagrams) tun.sendmsg(packet);
    const syn = tcpPacket({ ...FROM, port: 5 }, TO, { sequence: 1, flags: 2 });
    tun.sendmsg(syn);
    // Nobody receives the answers: ICMP errors of the host fill the queue, and overflow. What it limits is of no matter here.
    using sender = PacketSocket.open({ interface: 'tun0', protocol: 0 });
    for (let count = 0; count < 50; count++)
      sender.sendmsg(udpPacket(TO, { ...FROM, port: 7 }, Buffer.alloc(1300)));
    const { status, stdout } = await running.ended;
    expect(status).toBe(0);
    const intervals = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(intervals).toHaveLength(2);
    const total = (pick: (interval: (typeof intervals)[0]) => number) =>
      intervals.reduce((sum, interval) => sum + pick(interval), 0);
    expect(total((interval) => interval.in.packets)).toBe(21);
    const bytes = datagrams.reduce((sum, { length }) => sum + length, syn.length);
    expect(total((interval) => interval.in.bytes)).toBe(bytes);
    expect(total((interval) => interval.out.packets)).toBeGreaterThanOrEqual(50);
    expect(total((interval) => interval.drops.sent)).toBeGreaterThanOrEqual(40);
    const share = (name: string) =>
      total(({ protocols }) => protocols.find((one: { name: string }) => one.name === name)?.packets ?? 0);
    expect(share('UDP')).toBe(70);
    expect(share('TCP')).toBeGreaterThanOrEqual(1);
    expect(intervals.flatMap(({ flows }) => flows.map(({ name }: { name: string }) => name))).toContain(
      'UDP 10.0.0.1:9 10.0.0.2:7',
    );
  });

  it.runIf(HAS_PYTHON).each([80, 50])('monitor draws its view into %i columns', (columns) => {
    const { status, stdout } = inTerminal(columns, ['monitor', 'tun0', '--interval', '0.1', '--count', '3']);
    expect(status).toBe(0);
    const lines = plainLines(stdout);
    expect(lines.filter((line) => line.length >= columns)).toEqual([]);
    expect(lines.filter((line) => line === 'tun0')).toHaveLength(3);
    expect(lines.filter((line) => line.startsWith('drops: in 0'))).toHaveLength(3);
    // It is drawn over itself.
    expect(stdout).toMatch(new RegExp(`${'\x1b'}\\[\\d+A`));
  });

  it('monitor is a line for each interval where there is no terminal', () => {
    const { stdout } = tunsock(['monitor', 'tun0', '--interval', '0.1', '--count', '2']);
    expect(stdout.trim().split('\n')).toEqual([
      expect.stringMatching(
        /^tun0: in 0 pkt\/s 0 bit\/s, out 0 pkt\/s 0 bit\/s; drops: in 0, out 0, errors 0$/,
      ),
      expect.stringMatching(/^tun0: in /),
    ]);
  });

  it('monitor and capture end with an error when the device goes', async () => {
    const other = TunSocket.open({ name: 'gone0' });
    const running = [start(['monitor', 'gone0']), start(['capture', 'gone0', file])];
    while (readFileSync('/proc/thread-self/net/packet', 'utf8').trim().split('\n').length < 3)
      await setTimeout(20);
    await setTimeout(100);
    other.close();
    for (const { ended } of running) {
      const { status, stderr } = await ended;
      expect(status).toBe(1);
      expect(stderr).toMatch(/^tunsock: .*gone0/);
    }
  });
});

describe('on a cable', () => {
  let beyond: Netns;
  beforeEach(() => {
    beyond = Netns.create();
    // Its end says nothing by itself.
    beyond.run(() => writeFileSync('/proc/sys/net/ipv6/conf/default/addr_gen_mode', '1'));
    const peer = { name: 'b0', netns: beyond };
    Link.create({ type: 'veth', name: 'a0', peer, mac: MACS.source, address: '10.0.1.1/24', up: true });
    const end = beyond.run(() => Link.get('b0'));
    end.addAddress('10.0.1.2/24');
    end.up();
  });
  afterEach(() => {
    Link.get('a0').delete();
    beyond.close();
  });

  it('capture cuts superpackets, or marks them', async () => {
    const largest: number[] = [];
    for (const offload of ['split', 'raw']) {
      const running = start(['capture', 'a0', file, '--offload', offload]);
      await untilWatched();
      using here = Netns.current();
      await tcpExchange(here, beyond, '10.0.1.2', 1_000_000);
      await setTimeout(200);
      running.kill('SIGTERM');
      expect((await running.ended).status).toBe(0);
      const packets = await packetsOf(file);
      const ip = packets
        .map(({ data }) => readEthernet(data)?.payload as Buffer)
        .filter((data) => readIp(data)?.version === 4);
      largest.push(Math.max(...ip.map(({ length }) => length)));
      if (offload === 'split') expect(ip.filter((data) => !checksumsRight(data))).toHaveLength(0);
      const marks = readFileSync(file, 'latin1').match(
        /superpacket: TCP over IPv4, 1448 bytes of payload a segment/g,
      );
      expect(marks === null).toBe(offload === 'split');
    }
    expect(largest[0]).toBeLessThanOrEqual(1500);
    expect(largest[1]).toBeGreaterThan(1500);
  });

  it('capture has the VLAN tag in the frame, where it was on the cable', async () => {
    const running = start(['capture', 'a0', file, '--count', '1', '--direction', 'in', '--promiscuous']);
    await untilWatched();
    const tags = [{ id: 42, priority: 5, dropEligible: false, protocol: 0x8100 }];
    const frame = ethernetFrame(
      { destination: MACS.source, source: MACS.destination, tags },
      udpPacket(FROM, TO, Buffer.alloc(9)),
    );
    using sender = beyond.run(() => PacketSocket.open({ interface: 'b0', protocol: 0 }));
    sender.sendmsg(frame);
    expect((await running.ended).status).toBe(0);
    expect((await packetsOf(file)).map(({ data }) => data)).toEqual([frame]);
  });

  const HAS_TCPDUMP = spawnSync('tcpdump', ['--version']).error === undefined;
  it.runIf(HAS_TCPDUMP)('replay sends what tcpdump has written', async () => {
    const frames = [1, 2, 3].map((size) => ethernetFrame(MACS, udpPacket(FROM, TO, Buffer.alloc(size * 20))));
    writeFile(writer.LINKTYPE_ETHERNET, frames);
    const converted = join(folder.path, 'file.pcap');
    expect(spawnSync('tcpdump', ['-r', file, '-w', converted]).status).toBe(0);
    using receiver = beyond.run(() =>
      PacketSocket.open({ interface: 'b0', promiscuous: true, protocol: 'ip', receiveTimeout: 5000 }),
    );
    expect(tunsock(['replay', converted, 'a0', '--speed', '2']).status).toBe(0);
    for (const frame of frames) {
      const room = Buffer.alloc(2048);
      const { bytes } = receiver.recvmsg(room);
      expect(room.subarray(0, bytes)).toEqual(frame);
    }
  });
});
