import { randomBytes } from 'node:crypto';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type OffloadFeature, type OffloadMode, type TunOptions, TunSocket } from '../../dist';
import { codeOf, HOST, PEER } from '../helpers/device';
import { inheriting } from '../helpers/inheriting';
import { kernelHas } from '../helpers/kernel';
import { belongings, enterQuietNamespace } from '../helpers/namespace';
import { checksumsRight, turnRound } from '../helpers/packets';
import { tcpRound } from '../helpers/tcp-round';

beforeAll(enterQuietNamespace);

const sockets: TunSocket[] = [];
const open = (options: TunOptions): TunSocket => {
  const socket = TunSocket.open({ address: `${HOST}/24`, ...options });
  sockets.push(socket);
  return socket;
};
afterEach(() => {
  for (const socket of sockets.splice(0)) socket[Symbol.dispose]();
});

const TCP_FEATURES: OffloadFeature[] = ['csum', 'tso4', 'tso6', 'tso-ecn'];
const UDP_FEATURES: OffloadFeature[] = kernelHas(6, 2) ? ['uso4', 'uso6'] : [];
/** Of a tap only: on a tun the kernel hands such superpackets over, but takes none back. */
const TUNNEL_FEATURES: OffloadFeature[] = kernelHas(6, 17) ? ['udp-tunnel', 'udp-tunnel-csum'] : [];

describe.each(['tun', 'tap'] as const)('%s', (mode) => {
  it.each<[OffloadMode | undefined, OffloadMode, OffloadFeature[]]>([
    [undefined, 'none', []],
    ['none', 'none', []],
    ['split', 'split', [...TCP_FEATURES, ...UDP_FEATURES]],
    ['raw', 'raw', [...TCP_FEATURES, ...UDP_FEATURES, ...(mode === 'tap' ? TUNNEL_FEATURES : [])]],
  ])('asked for %s says what is in force', (offload, inForce, features) => {
    const socket = open(offload === undefined ? { mode } : { mode, offload });
    expect(socket.offload).toBe(inForce);
    expect(socket.offloadFeatures).toEqual(features);
  });
});

it('says after it is closed what was in force', () => {
  const socket = open({ offload: 'raw' });
  const features = socket.offloadFeatures;
  socket.close();
  expect([socket.offload, socket.offloadFeatures]).toEqual(['raw', features]);
});

it.each<[TunOptions, string]>([
  [{ offload: 'some' as never }, 'ERR_INVALID_ARG_VALUE'],
  [{ offload: true as never }, 'ERR_INVALID_ARG_TYPE'],
  [{ offload: 'raw', packetInfo: true }, 'ERR_INVALID_ARG_VALUE'],
  [{ offload: 'split', packetInfo: true }, 'ERR_INVALID_ARG_VALUE'],
])('%j is refused with %s, and leaves nothing behind', (options, code) => {
  const before = belongings();
  expect(codeOf(() => TunSocket.open(options))).toBe(code);
  expect(belongings()).toEqual(before);
});

/** Lets the host send itself 256 KiB through the device: are its packets superpackets where that is the mode, and otherwise whole? */
async function expectInForce(socket: TunSocket): Promise<void> {
  let longest = 0;
  socket.on('message', (packet, { offload }) => {
    longest = Math.max(longest, packet.length);
    if (offload === undefined) expect(checksumsRight(packet)).toBe(true);
    turnRound(packet);
    socket.send(packet, { offload });
  });
  const data = randomBytes(2 ** 18);
  expect((await tcpRound(HOST, PEER, data)).equals(data)).toBe(true);
  socket.removeAllListeners('message');
  if (socket.offload === 'raw') expect(longest).toBeGreaterThan(1500);
  else expect(longest).toBe(1500);
}

describe('a persistent device, whose offload mask outlives who set it', () => {
  it('is set anew by each that attaches', async () => {
    const name = 'stays';
    const attach = (offload: OffloadMode) => open({ name, offload, persist: true });
    try {
      for (const offload of ['raw', 'none', 'split', 'none', 'raw', 'split'] as const) {
        const socket = attach(offload);
        await expectInForce(socket);
        socket.close();
      }
    } finally {
      attach('none').setPersist(false);
    }
  });
});

describe('queues of one device', () => {
  const queue = (offload: OffloadMode) => open({ name: 'many', multiQueue: true, offload });

  it.each<[OffloadMode, OffloadMode]>([
    ['none', 'raw'],
    ['none', 'split'],
    ['raw', 'none'],
    ['split', 'none'],
  ])("with '%s', one with '%s' is refused and changes nothing", async (first, second) => {
    const socket = queue(first);
    const features = socket.offloadFeatures;
    expect(codeOf(() => queue(second))).toBe('ERR_INVALID_ARG_VALUE');
    expect(socket.offloadFeatures).toEqual(features);
    await expectInForce(socket);
  });

  it.each(['raw', 'split', 'none'] as const)("are several with '%s'", async (offload) => {
    const [first, second] = [queue(offload), queue(offload)] as [TunSocket, TunSocket];
    expect(second.offloadFeatures).toEqual(first.offloadFeatures);
    second.detachQueue();
    await expectInForce(first);
    second.close();
    await expectInForce(first);
  });

  it.each(['raw', 'split', 'none'] as const)("share what comes, with '%s'", async (offload) => {
    const queues = [queue(offload), queue(offload), queue(offload)];
    for (const socket of queues) {
      socket.on('batch', (batch) => {
        for (const packet of batch) turnRound(packet);
        for (let sent = 0; sent < batch.length; ) sent += socket.sendmmsg(batch, 0, sent);
      });
    }
    const streams = Array.from({ length: 8 }, () => randomBytes(200_000));
    const arrived = await Promise.all(streams.map((data) => tcpRound(HOST, PEER, data)));
    expect(arrived.map((data, index) => data.equals(streams[index] as Buffer))).toEqual(
      streams.map(() => true),
    );
    const shares = queues.map((socket) => socket.stats().received.packets);
    expect(shares.filter((packets) => packets > 0).length).toBeGreaterThan(1);
  });
});

describe('fromFd', () => {
  const describeSocket = `
    const socket = socketFromFd(3);
    console.log(JSON.stringify([socket.constructor.name, socket.offload, socket.offloadFeatures ?? 'unknown']));
    socket.close();`;

  it.each<[OffloadMode, OffloadMode, unknown]>([
    ['none', 'none', []],
    // That this socket cuts is its own affair: the descriptor has virtio headers, and who set its mask is not known.
    ['split', 'raw', 'unknown'],
    ['raw', 'raw', 'unknown'],
  ])("of a descriptor that was opened with '%s' is '%s'", (offload, seen, features) => {
    const socket = open({ offload });
    expect(inheriting(socket, describeSocket)).toEqual(['TunSocket', seen, features]);
  });

  it('receives and sends with the virtio headers of the descriptor', () => {
    const socket = open({ offload: 'raw' });
    const program = `
      const socket = socketFromFd(3);
      const udp = require('node:dgram').createSocket('udp4').bind(0, '${HOST}', () => {
        udp.send('there and back', udp.address().port, '${PEER}');
        socket.once('message', (packet, { offload }) => {
          const source = Buffer.from(packet.subarray(12, 16));
          packet.copyWithin(12, 16, 20);
          source.copy(packet, 16);
          socket.sendmsg(packet, 0, { offload });
          udp.on('message', (message) => {
            console.log(JSON.stringify([String(message), offload]));
            udp.close();
            socket.close();
          });
        });
      });`;
    expect(inheriting(socket, program)).toEqual([
      'there and back',
      expect.objectContaining({ needsChecksum: true, checksumStart: 20, checksumOffset: 6 }),
    ]);
  });
});
