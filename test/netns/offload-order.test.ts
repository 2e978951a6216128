import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { constants, PacketBatch, PacketSocket, TunSocket as Tun, type TunSocket } from '../../dist';
import { codeOf, ETH_P_IP, HOST, PEER } from '../helpers/device';
import { enterQuietNamespace } from '../helpers/namespace';
import { ethernetFrame, tcpPacket, udpPacket } from '../helpers/packets';
import { HAS_TC, type SlowLink, slowLink } from '../helpers/slow-link';

const { MSG_DONTWAIT } = constants;

beforeAll(enterQuietNamespace);

const turn = () => new Promise((resolve) => setImmediate(resolve));

/** A packet that the kernel refuses, and that is of a flow all the same: it says of itself what cannot be. */
const NONSENSE = { needsChecksum: true, checksumStart: 60000, checksumOffset: 6 };
/** A packet that the kernel refuses, and that is of no flow. */
const STRANGER = Buffer.alloc(20);

describe('a batch of several flows with bad packets among them', () => {
  const FLOWS = 4;
  let tun: TunSocket;
  let servers: Socket[];
  /** What came, flow by flow. */
  let arrived: string[][];
  beforeEach(async () => {
    tun = Tun.open({ offload: 'split', address: `${HOST}/24` });
    servers = [];
    arrived = Array.from({ length: FLOWS }, () => []);
    for (const texts of arrived) {
      const server = createSocket('udp4').bind(0, HOST);
      await once(server, 'listening');
      server.on('message', (message) => texts.push(message.toString()));
      servers.push(server);
    }
  });
  afterEach(() => {
    for (const server of servers) server.close();
    tun[Symbol.dispose]();
  });

  interface Planned {
    packet: Buffer;
    flow: number;
    text: string;
    bad: boolean;
    nonsense: boolean;
  }

  /** Packets of random flows in runs, each flow counting up, some of them bad; the same for the same seed. */
  function plan(seed: number, count: number): Planned[] {
    let state = seed;
    const below = (limit: number) => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return (state >>> 8) % limit;
    };
    const counters = new Array<number>(FLOWS).fill(0);
    return Array.from({ length: count }, () => {
      const flow = below(FLOWS);
      const kind = below(20);
      const stranger = kind === 0;
      const nonsense = kind === 1;
      const number = counters[flow] as number;
      const text = `${flow}:${String(number).padStart(5, '0')}`;
      if (!stranger && !nonsense) counters[flow] = number + 1;
      const port = servers[flow]?.address().port ?? 0;
      const packet = stranger ? STRANGER : udpPacket([PEER, 4000], [HOST, port], text, { id: number });
      return { packet, flow, text, bad: stranger || nonsense, nonsense };
    });
  }
  const goodOf = (planned: Planned[], flow: number) =>
    planned.filter((packet) => packet.flow === flow && !packet.bad).map(({ text }) => text);
  const allArrived = async (planned: Planned[]) => {
    const good = planned.filter(({ bad }) => !bad).length;
    while (arrived.flat().length < good) await turn();
  };
  const expectEachOnceInOrder = (planned: Planned[]) => {
    for (const flow of arrived.keys()) expect(arrived[flow]).toEqual(goodOf(planned, flow));
  };

  it.each([
    [1, 64],
    [2, 64],
    [3, 256],
    [4, 300],
  ])(
    'is sent by a loop that skips what fails: each packet once, and in order; seed %d, %d packets',
    async (seed, count) => {
      const planned = plan(seed, count);
      const batch = new PacketBatch({ capacity: count });
      for (const { packet, nonsense } of planned) batch.push(packet, nonsense ? { offload: NONSENSE } : {});
      const failed: string[] = [];
      for (let sent = 0; sent < batch.length; ) {
        const left = [...batch].slice(sent).map((packet) => packet.toString('hex'));
        try {
          sent += tun.sendmmsg(batch, 0, sent);
        } catch (error) {
          expect((error as { code?: string }).code).toBe('EINVAL');
          failed.push(left[0] as string);
          sent += 1;
        }
        // Nothing is lost or doubled by what a call does to the batch.
        expect([...batch].map((packet) => packet.toString('hex')).sort()).toEqual(
          planned.map(({ packet }) => packet.toString('hex')).sort(),
        );
      }
      expect(failed).toEqual(planned.filter(({ bad }) => bad).map(({ packet }) => packet.toString('hex')));
      await allArrived(planned);
      expectEachOnceInOrder(planned);
      expect(tun.stats().offload?.sent).toBeGreaterThan(0);
      expect(tun.stats().sent.packets).toBe(count - failed.length);
    },
  );

  it.each([5, 6])(
    'is sent by send(): each error goes to the callback of its packet; seed %d',
    async (seed) => {
      const planned = plan(seed, 200);
      const results = new Array<[string | null, number] | undefined>(planned.length);
      let calls = 0;
      await new Promise<void>((resolve) => {
        planned.forEach(({ packet, nonsense }, index) => {
          tun.send(packet, nonsense ? { offload: NONSENSE } : {}, (error, bytes) => {
            results[index] = [error && ((error as { code?: string }).code ?? 'no code'), bytes];
            calls += 1;
            if (calls === planned.length) resolve();
          });
        });
      });
      expect(results).toEqual(
        planned.map(({ bad, packet }) => (bad ? ['EINVAL', 0] : [null, packet.length])),
      );
      await allArrived(planned);
      expectEachOnceInOrder(planned);
      expect(calls).toBe(planned.length);
    },
  );
});

describe.runIf(HAS_TC)('a device that has no room for more in the middle of a batch', () => {
  let slow: SlowLink;
  let far: PacketSocket;
  beforeEach(() => {
    slow = slowLink({ offload: 'split' });
    far = PacketSocket.open({
      interface: 'far',
      protocol: 'ip',
      offload: 'split',
      ignoreOutgoing: true,
      receiveTimeout: 5000,
    });
  });
  afterEach(() => {
    far[Symbol.dispose]();
    slow[Symbol.dispose]();
  });

  const COUNT = 12;
  /** Of each flow its own length, so that a callback's bytes tell whose it is. */
  const SIZES = [1000, 1100, 1200];
  /** Ethernet, IPv4 and TCP. */
  const HEADERS = 14 + 20 + 20;
  const macs = [Buffer.from([2, 0, 0, 0, 0, 8]), Buffer.from([2, 0, 0, 0, 0, 9])] as const;
  const frameOf = (flow: number, number: number) => {
    const text = `${flow}:${number}`.padEnd(SIZES[flow] as number, '.');
    const sequence = number * text.length;
    const packet = tcpPacket(['10.9.0.1', 4000], ['10.9.0.2', 5000 + flow], text, { id: number, sequence });
    return ethernetFrame(macs[0], macs[1], ETH_P_IP, packet);
  };
  const label = (frame: Buffer) => frame.subarray(HEADERS).toString().replace(/\.+$/, '');
  const labelsOf = (flow: number) => Array.from({ length: COUNT }, (_, number) => `${flow}:${number}`);
  /** One of each flow in turn: 0:0, 1:0, 2:0, 0:1 ... */
  const interleaved = Array.from({ length: COUNT * 3 }, (_, index) =>
    frameOf(index % 3, Math.floor(index / 3)),
  );
  /** The frames that came out behind the bridge; it has multicast of its own to tell. */
  const receivedFar = (count: number) => {
    const labels: string[] = [];
    while (labels.length < count) {
      const room = Buffer.alloc(2048);
      const { bytes, packetType } = far.recvmsg(room);
      if (packetType !== 'multicast') labels.push(label(room.subarray(0, bytes)));
    }
    return labels;
  };
  const flowsOf = (labels: string[]) =>
    [0, 1, 2].map((flow) => labels.filter((label) => label.startsWith(`${flow}:`)));

  it('leaves the batch with exactly what was not sent from there on', () => {
    const batch = new PacketBatch({ capacity: interleaved.length });
    for (const frame of interleaved) batch.push(frame);
    const before = [...batch].map(label);
    const sent = slow.tap.sendmmsg(batch, MSG_DONTWAIT);
    expect(sent).toBeGreaterThan(0);
    expect(sent).toBeLessThan(batch.length);
    expect(sent % COUNT).toBe(0);
    const after = [...batch].map(label);
    // Whole superpackets went, so whole flows, before packets that stood between theirs; what is left has kept its order.
    const gone = after.slice(0, sent);
    expect(flowsOf(gone).filter(({ length }) => length > 0)).toEqual(
      Array.from({ length: sent / COUNT }, (_, flow) => labelsOf(flow)),
    );
    expect(after.slice(sent)).toEqual(before.filter((name) => !gone.includes(name)));
    expect([...batch.lengths.subarray(0, batch.length)]).toEqual(
      after.map((name) => HEADERS + (SIZES[Number(name[0])] as number)),
    );
    expect(codeOf(() => slow.tap.sendmmsg(batch, MSG_DONTWAIT, sent))).toBe('EAGAIN');
    expect([...batch].map(label)).toEqual(after);
    slow.release();
    for (let at = sent; at < batch.length; ) at += slow.tap.sendmmsg(batch, 0, at);
    expect(flowsOf(receivedFar(interleaved.length))).toEqual([0, 1, 2].map(labelsOf));
    expect(slow.tap.stats().offload?.sent).toBe(3);
  });

  it('goes on with send(), whose callbacks are those of their packets', async () => {
    const results: string[] = [];
    const done = new Promise<void>((resolve) => {
      const note = (name: string) => (error: Error | null, bytes: number) => {
        results.push(error === null ? `${name} ${bytes}` : `${name} ${(error as { code?: string }).code}`);
        if (results.length === interleaved.length + 2) resolve();
      };
      interleaved.forEach((frame, index) => {
        // Bad ones of these flows, one behind what goes at once and one behind what must wait.
        if (index === 3 || index === 30) {
          slow.tap.send(frameOf(2, 99), { offload: NONSENSE }, note(`bad ${index}`));
        }
        slow.tap.send(frame, note(label(frame)));
      });
    });
    await turn();
    const atOnce = results.length;
    expect(atOnce).toBeLessThan(interleaved.length);
    expect(slow.tap.getSendQueueCount()).toBe(interleaved.length + 2 - atOnce);
    slow.release();
    await done;
    expect(results.filter((result) => result.startsWith('bad')).sort()).toEqual([
      'bad 3 EINVAL',
      'bad 30 EINVAL',
    ]);
    const good = results.filter((result) => !result.startsWith('bad'));
    expect(flowsOf(good)).toEqual(
      [0, 1, 2].map((flow) => labelsOf(flow).map((name) => `${name} ${HEADERS + (SIZES[flow] as number)}`)),
    );
    expect(flowsOf(receivedFar(interleaved.length))).toEqual([0, 1, 2].map(labelsOf));
    expect(slow.tap.getSendQueueSize()).toBe(0);
  });
});
