import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { type Netns, PacketSocket } from '../../dist';
import type { Mode } from '../../examples/vpn/loss';
import { accept, generateKeyPair, Initiator } from '../../examples/vpn/noise';
import { PACKET, ReplayWindow, Session, SUPERPACKET } from '../../examples/vpn/session';
import { program } from '../helpers/optional';
import { FAR, FAR_INNER, NEAR, type VpnStage, vpnStage } from '../helpers/vpn-stage';

const MODES: Mode[] = ['packet', 'superpacket'];
const HAS_IPERF = spawnSync('iperf3', ['-v']).error === undefined;
if (!HAS_IPERF) console.log('skipped: what needs iperf3');

function spawnIn(netns: Netns, command: string, args: readonly string[]): ChildProcess {
  return netns.run(() => spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] }));
}

async function until(what: () => boolean, milliseconds = 10_000): Promise<void> {
  const deadline = performance.now() + milliseconds;
  while (!what()) {
    if (performance.now() > deadline) throw new Error(`never: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Answers to pings that the near side's kernel has had. */
function answers({ pair }: VpnStage): number {
  const [names, values] = pair.near.run(() => {
    const lines = readFileSync('/proc/thread-self/net/snmp', 'utf8').split('\n');
    return lines.filter((line) => line.startsWith('Icmp: ')).map((line) => line.split(' '));
  }) as [string[], string[]];
  return Number(values[names.indexOf('InEchoReps')]);
}

/**
 * Answers to `count` pings from near to far; waits for `wanted` of them. Not as ping(8) counts: behind its last ping it waits for twice the
 * longest round trip that it has seen, which on a busy machine is too little.
 */
async function ping(
  stage: VpnStage,
  count: number,
  size = 56,
  wanted = count,
  patience = 10_000,
): Promise<number> {
  const before = answers(stage);
  const options = ['-i', '0.02', '-c', String(count), '-s', String(size), '-p', 'feedc0de', '-W', '0.2'];
  const child = spawnIn(stage.pair.near, program('ping'), [...options, FAR_INNER]);
  child.stdout?.resume();
  await once(child, 'close');
  const deadline = performance.now() + patience;
  while (answers(stage) - before < wanted && performance.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return answers(stage) - before;
}

/** Pings until one is answered: those that come before there are keys are lost. No answer to an earlier one comes after that. */
async function answered(stage: VpnStage): Promise<void> {
  for (let tries = 0; tries < 50; tries++) {
    if ((await ping(stage, 1, 56, 1, 500)) > 0) return;
  }
  throw new Error('no ping is answered');
}

async function connected(stage: VpnStage): Promise<void> {
  await until(
    () => stage.near.endpoint !== undefined && stage.near.handshakes > 0 && stage.far.handshakes > 0,
  );
  await answered(stage);
}

/** Bytes that iperf3 brings from near to far, however long that takes, and the percentage of datagrams that were lost. */
async function iperf(stage: VpnStage, ...options: string[]): Promise<{ bytes: number; lost: number }> {
  const server = spawnIn(stage.pair.far, 'iperf3', ['-s', '-1', '-J']);
  await new Promise((resolve) => setTimeout(resolve, 300));
  const client = spawnIn(stage.pair.near, 'iperf3', ['-c', FAR_INNER, '-J', ...options]);
  let text = '';
  client.stdout?.on('data', (chunk) => {
    text += chunk;
  });
  server.stdout?.resume();
  await Promise.all([once(client, 'close'), once(server, 'close')]);
  const { end } = JSON.parse(text);
  return { bytes: (end.sum_received ?? end.sum).bytes, lost: end.sum?.lost_percent ?? 0 };
}

describe('the handshake', () => {
  it('gives both sides the same keys, and is for one peer only', () => {
    const [a, b, c] = [generateKeyPair(), generateKeyPair(), generateKeyPair()];
    const initiator = new Initiator(a, b.publicKey);
    const first = initiator.initiation(Buffer.from('payload'));
    expect(() => accept(c, first)).toThrow();
    const { peer, payload, respond } = accept(b, first);
    expect(peer).toEqual(a.publicKey);
    expect(String(payload)).toBe('payload');
    const { message, keys } = respond();
    const own = initiator.finish(message);
    expect(own.send).toEqual(keys.receive);
    expect(own.receive).toEqual(keys.send);
    expect(own.send).not.toEqual(own.receive);
    expect(first.includes(a.publicKey)).toBe(false);
    for (let at = 0; at < first.length; at++) {
      const changed = Buffer.from(first);
      changed[at] = (changed[at] as number) ^ 0x40;
      expect(() => accept(b, changed)).toThrow();
    }
    expect(() => accept(b, Buffer.concat([Buffer.alloc(32), first.subarray(32)]))).toThrow();
  });

  it('a message is opened once, as what it was sealed', () => {
    const keys = { send: Buffer.alloc(32, 1), receive: Buffer.alloc(32, 1) };
    const [a, b] = [new Session(keys, 1, 2, true), new Session(keys, 2, 1, false)];
    const { counter, sealed } = a.seal(PACKET, [Buffer.from('two '), Buffer.from('parts')]);
    const whole = Buffer.concat(sealed);
    expect(b.open(SUPERPACKET, counter, whole)).toBeUndefined();
    expect(b.open(PACKET, counter + 1, whole)).toBeUndefined();
    expect(b.window.isNew(counter)).toBe(true);
    expect(String(b.open(PACKET, counter, whole))).toBe('two parts');
    expect(b.window.isNew(counter)).toBe(false);
  });

  it('the window takes each counter once, in any order, as far as it reaches', () => {
    const window = new ReplayWindow();
    const taken = new Set<number>();
    let highest = -1;
    let seed = 1;
    for (let round = 0; round < 20_000; round++) {
      seed = (seed * 48271) % 2147483647;
      const counter = Math.max(0, round * 3 + (seed % 20_000) - 10_000);
      const fresh = !taken.has(counter) && counter > highest - 8192;
      expect(window.isNew(counter)).toBe(fresh);
      if (!fresh) continue;
      window.take(counter);
      taken.add(counter);
      highest = Math.max(highest, counter);
    }
  });
});

describe.each(MODES)('mode %s', (mode) => {
  it('carries pings of any size, and nothing in plain text', async () => {
    await using stage = vpnStage({ mode });
    using wire = PacketSocket.open({ interface: 'v0', netns: stage.pair.near });
    const frames: Buffer[] = [];
    wire.on('message', (frame) => frames.push(frame));
    await connected(stage);
    for (const size of [8, 1000, 1372, 5000, 30000]) expect(await ping(stage, 5, size)).toBe(5);
    const text = Buffer.from('feedc0defeedc0de', 'hex');
    // Its queue may have been too small for all of them.
    const bytes = frames.reduce((sum, frame) => sum + frame.length, 0);
    expect(bytes).toBeGreaterThan(5 * 37_000);
    expect(frames.some((frame) => frame.includes(text))).toBe(false);
    expect(stage.near.drops).toEqual({ ...stage.near.drops, forged: 0, replayed: 0, refused: 0 });
  });

  it.runIf(HAS_IPERF)('carries TCP and UDP', async () => {
    await using stage = vpnStage({ mode });
    await connected(stage);
    // It doesn't count what still waits in its queues when the sender has done.
    expect((await iperf(stage, '-n', '20M')).bytes).toBeGreaterThan(5 << 20);
    expect((await iperf(stage, '-n', '20M', '-R')).bytes).toBeGreaterThan(5 << 20);
    const udp = await iperf(stage, '-n', '1M', '-u', '-b', '10M');
    expect(udp.bytes).toBeGreaterThan(1 << 19);
    // iperf3's own queue is short.
    expect(udp.lost).toBeLessThan(50);
    expect(stage.far.drops).toMatchObject({ forged: 0, refused: 0 });
    expect(stage.near.mode).toBe(mode);
  });

  it('drops and counts what was changed, and goes on', async () => {
    await using stage = vpnStage({ mode }, true);
    await connected(stage);
    stage.way = (datagram) => {
      const at = 16 + Math.floor(Math.random() * (datagram.length - 16));
      datagram[at] = (datagram[at] as number) ^ 1;
      return [datagram];
    };
    const before = answers(stage);
    await ping(stage, 5, 56, 0);
    await until(() => stage.far.drops.forged >= 5);
    expect(answers(stage)).toBe(before);
    stage.way = (datagram) => [datagram];
    // Handshakes that were tried meanwhile are forged too.
    await answered(stage);
    expect(await ping(stage, 5)).toBe(5);
  });

  it('takes nothing twice', async () => {
    await using stage = vpnStage({ mode }, true);
    await connected(stage);
    stage.way = (datagram) => [datagram, datagram, datagram];
    expect(await ping(stage, 10)).toBe(10);
    await until(() => stage.far.drops.replayed >= 20);
    // The same later, handshakes among it, and from somebody else: nothing changes.
    const { endpoint } = stage.far;
    stage.way = (datagram) => [datagram];
    for (const datagram of stage.seen.splice(0)) stage.toFar(datagram);
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(stage.far.endpoint).toEqual(endpoint);
    expect(await ping(stage, 5)).toBe(5);
  });

  it('puts up with any order', async () => {
    await using stage = vpnStage({ mode }, true);
    await connected(stage);
    const held: Buffer[] = [];
    stage.way = (datagram, toFar) => {
      if (!toFar) return [datagram];
      held.push(datagram);
      return held.length < 4 ? [] : held.splice(0).reverse();
    };
    // Each is four datagrams: a superpacket of four fragments, or four fragments of a packet.
    expect(await ping(stage, 20, 5200, 15)).toBeGreaterThanOrEqual(15);
    expect(stage.far.drops).toMatchObject({ forged: 0, replayed: 0 });
  });

  it('lives through a restart of either side, and through new keys', async () => {
    await using stage = vpnStage({ mode, timing: { rekeyAfter: 300, rejectAfter: 10_000 } });
    await connected(stage);
    const { handshakes } = stage.near;
    await until(() => stage.near.handshakes >= handshakes + 3);
    expect(await ping(stage, 20)).toBe(20);
    for (const side of ['far', 'near'] as const) {
      stage.restart(side);
      await until(() => stage[side].handshakes > 0);
      await until(() => stage[side === 'far' ? 'near' : 'far'].endpoint !== undefined);
      await answered(stage);
      expect(await ping(stage, 5)).toBe(5);
    }
  });
});

it('follows the peer to another address', async () => {
  await using stage = vpnStage({}, true);
  await connected(stage);
  expect(stage.far.endpoint).toMatchObject({ address: FAR, port: 7000 });
  stage.move();
  expect(await ping(stage, 5)).toBe(5);
  expect(stage.far.endpoint).toMatchObject({ address: FAR, port: 7001 });
});

it('falls back to single packets where datagrams are lost, and comes back', async () => {
  await using stage = vpnStage({ timing: { backOff: 500 } }, true);
  await connected(stage);
  let count = 0;
  stage.way = (datagram, toFar) => (toFar && ++count % 25 === 0 ? [] : [datagram]);
  let pinging = true;
  const pings = (async () => {
    while (pinging) await ping(stage, 20, 5000, 0);
  })();
  await until(() => stage.near.mode === 'packet');
  expect(stage.far.mode).toBe('superpacket'); // nothing is lost on the way back
  stage.way = (datagram) => [datagram];
  await until(() => stage.near.mode === 'superpacket');
  pinging = false;
  await pings;
  await answered(stage);
  expect(await ping(stage, 5)).toBe(5);
});

it('drops whatever a stranger sends', async () => {
  await using stage = vpnStage();
  await connected(stage);
  const before = process.memoryUsage().arrayBuffers;
  for (let round = 0; round < 5000; round++) {
    const datagram = Buffer.alloc(1 + ((round * 37) % 1400), round);
    datagram[0] = round % 7;
    if (round % 3 === 0 && datagram.length > 16) {
      datagram[1] = round % 50;
      datagram[2] = 50;
    }
    stage.toFar(datagram);
    if (round % 100 === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  }
  const stranger = new Initiator(generateKeyPair(), generateKeyPair().publicKey);
  stage.toFar(Buffer.concat([Buffer.from([1, 0, 0, 0, 1, 2, 3, 4]), stranger.initiation(Buffer.alloc(8))]));
  expect(await ping(stage, 5)).toBe(5);
  expect(stage.far.endpoint).toMatchObject({ address: NEAR, port: 5001 });
  expect(stage.far.drops.unknown).toBeGreaterThan(1000);
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(40e6);
});
