import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Link, PacketSocket, TunSocket } from '../../../dist';
import { HOST, PEER } from '../../helpers/device';
import { enterQuietNamespace } from '../../helpers/namespace';
import { ethernetFrame, turnRound, udpPacket } from '../../helpers/packets';
import { FAR_MAC, frame, NEAR_MAC, type Pair, vethPair } from '../../helpers/pair';
import { tcpRound } from '../../helpers/tcp-round';

/** What ring_traffic.cc prints: of the packets that it moved, or of the step that failed. */
interface Report {
  received?: number;
  sent?: number;
  longest?: number;
  kicks?: number;
  calls?: number;
  error?: number;
  step?: string;
}

interface Traffic {
  /** Ends an echo. */
  end(): void;
  report: Promise<Report>;
}

/** Starts ring_traffic over a descriptor, and waits until the kernel's thread moves packets, or it has failed. */
async function traffic(fd: number, ...args: string[]): Promise<Traffic> {
  const child = spawn('/tunsock/ring_traffic', args, { stdio: ['pipe', 'pipe', 'inherit', fd] });
  const lines: string[] = [];
  const output = createInterface(child.stdout as NodeJS.ReadableStream);
  output.on('line', (line) => lines.push(line));
  const closed = once(child, 'close');
  await Promise.race([once(output, 'line'), closed]);
  return {
    end: () => child.stdin?.end(),
    report: closed.then(([code]) => {
      expect(code).toBe(0);
      return JSON.parse(lines.at(-1) as string);
    }),
  };
}

beforeAll(() => {
  enterQuietNamespace();
});

/** Letters for ring_traffic: 'h', virtio headers on the backend; 's', a limited send buffer; 'e', Ethernet. */
const backends = [
  { mode: 'tun', offload: 'none', options: 's' },
  { mode: 'tun', offload: 'raw', options: 'hs' },
  { mode: 'tap', offload: 'none', options: 'e' },
  { mode: 'tap', offload: 'none', options: 'es' },
  { mode: 'tap', offload: 'raw', options: 'he' },
] as const;

const COUNT = 20_000;
/** Bytes of a packet of the mtu. */
const ONE_FRAME = { tun: 1500, tap: 1514 };

describe.each(backends)(
  'vhost over a $mode device with offload $offload, $options',
  ({ mode, offload, options }) => {
    let socket: TunSocket;
    beforeEach(() => {
      socket = TunSocket.open({ mode, offload, address: `${HOST}/24`, txQueueLength: 2000 });
      if (mode === 'tap') socket.link.addNeighbour(PEER, FAR_MAC);
    });
    afterEach(() => socket[Symbol.dispose]());

    it.each(['echo', 'echo-batch'])(
      'carries TCP both ways by %s, in superpackets where it has headers',
      async (job) => {
        const echo = await traffic(socket.fd, job, options);
        const data = randomBytes(2 ** 19);
        expect((await tcpRound(HOST, PEER, data)).equals(data)).toBe(true);
        echo.end();
        const { received, sent, longest } = await echo.report;
        expect(sent).toBe(received);
        // How many segments a superpacket has is the sender's choice, by how fast it finds the way to be: two at least.
        if (offload === 'raw') expect(longest).toBeGreaterThan(ONE_FRAME[mode]);
        else expect(longest).toBe(ONE_FRAME[mode]);
      },
    );

    it(`sends ${COUNT} packets with next to no system call`, async () => {
      const packet = udpPacket([PEER, 4000], [HOST, 9], Buffer.alloc(64));
      const mac = Buffer.from(socket.link.mac.replaceAll(':', ''), 'hex');
      const bytes =
        mode === 'tap' ? ethernetFrame(mac, Buffer.from([2, 0, 0, 0, 0, 2]), 0x0800, packet) : packet;
      const { report } = await traffic(socket.fd, 'send', options, `${COUNT}`, bytes.toString('hex'));
      const { sent, kicks, calls } = await report;
      expect(sent).toBe(COUNT);
      expect(Number(kicks) + Number(calls)).toBeLessThan(COUNT / 20);
      // What the device sent to the host, which is what it received from here.
      expect(socket.link.counters().rxPackets).toBe(COUNT);
    });
  },
);

describe('a tun device with its send buffer as it comes', () => {
  it('loses every packet without a word: the reason for TUNSETSNDBUF', async () => {
    using socket = TunSocket.open({ address: `${HOST}/24` });
    const udp = createSocket('udp4').bind(0, HOST);
    await once(udp, 'listening');
    const first = once(udp, 'message');
    const send = async (options: string, count: number, text: string) => {
      const packet = udpPacket([PEER, 4000], [HOST, udp.address().port], text);
      const { report } = await traffic(socket.fd, 'send', options, `${count}`, packet.toString('hex'));
      expect(await report).toMatchObject({ sent: count });
    };
    await send('-', 100, 'lost');
    await send('s', 1, 'here');
    expect(String((await first)[0])).toBe('here');
    // Only the counter of dropped packets tells.
    expect(socket.link.counters()).toMatchObject({ rxPackets: 101, rxErrors: 0, rxDropped: 100 });
    udp.close();
  });
});

describe('vhost over a packet socket', () => {
  let pair: Pair;
  beforeEach(() => {
    pair = vethPair();
  });
  afterEach(() => pair.close());

  it('carries frames both ways', async () => {
    using near = PacketSocket.open({ interface: 'v0', netns: pair.near, offload: 'none' });
    using far = PacketSocket.open({
      interface: 'v1',
      netns: pair.far,
      ignoreOutgoing: true,
      receiveTimeout: 10_000,
    });
    const echo = await traffic(near.fd, 'echo', 'e');
    const packet = (text: string) => udpPacket([PEER, 4000], [HOST, 9], text);
    const texts = Array.from({ length: 50 }, (_, index) => `frame ${index}`);
    for (const text of texts) far.sendmsg(frame(0x0800, packet(text), NEAR_MAC, FAR_MAC));
    for (const text of texts) {
      const room = Buffer.alloc(2048);
      const { bytes } = far.recvmsg(room);
      expect(room.subarray(0, bytes)).toEqual(frame(0x0800, turnRound(packet(text)), FAR_MAC, NEAR_MAC));
    }
    echo.end();
    expect(await echo.report).toMatchObject({ received: 50, sent: 50 });
  });
});

describe('what can not be had', () => {
  it('is a ring of 100 buffers, which is no power of two: EINVAL', async () => {
    using socket = TunSocket.open({ address: `${HOST}/24` });
    const { report } = await traffic(socket.fd, 'echo', 'sn');
    expect(await report).toEqual({ error: 22, step: 'vhost' });
  });

  it('is a backend that is no socket: ENOTSOCK', async () => {
    const fd = openSync('/dev/null', 'r+');
    const { report } = await traffic(fd, 'echo', '-');
    expect(await report).toEqual({ error: 88, step: 'VHOST_NET_SET_BACKEND' });
    closeSync(fd);
  });

  it('is a backend that is attached to no device: EINVAL', async () => {
    const fd = openSync('/dev/net/tun', 'r+');
    const { report } = await traffic(fd, 'echo', '-');
    expect(await report).toEqual({ error: 22, step: 'VHOST_NET_SET_BACKEND' });
    closeSync(fd);
  });

  it('does not change the device', async () => {
    using socket = TunSocket.open({ address: `${HOST}/24` });
    expect(Link.get(socket.name).isUp).toBe(true);
    const { report, end } = await traffic(socket.fd, 'echo', 's');
    end();
    expect(await report).toMatchObject({ sent: 0 });
    // The socket has its packets again.
    const data = randomBytes(2 ** 14);
    socket.on('message', (packet) => socket.send(turnRound(packet)));
    expect((await tcpRound(HOST, PEER, data)).equals(data)).toBe(true);
  });
});
