import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { beforeAll, describe, expect, it } from 'vitest';
import { constants, type OffloadMode, type PacketOffload, TunSocket } from '../../dist';
import { HOST, PEER } from '../helpers/device';
import { kernelHas } from '../helpers/kernel';
import { enterQuietNamespace } from '../helpers/namespace';
import { turnRound } from '../helpers/packets';
import { tcpRound } from '../helpers/tcp-round';

const { VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV4 } = constants;
const ETHERNET = 14;
const IPV4 = 20;
/** UDP's header and VXLAN's, behind which comes a whole Ethernet frame. */
const VXLAN = 8 + 8;
const INNER_HOST = '10.8.0.1';
const INNER_PEER = '10.8.0.2';

function ip(command: string): string | undefined {
  const { error, status, stderr } = spawnSync('ip', command.split(' '), { encoding: 'utf8' });
  return error?.message ?? (status === 0 ? undefined : stderr.trim());
}

/** A device with a VXLAN over it, all of which goes to one peer. */
function tunnel(mode: 'tun' | 'tap', offload: OffloadMode, checksum = 'noudpcsum'): TunSocket {
  const socket = TunSocket.open({ mode, offload, name: 'under', address: `${HOST}/24` });
  if (mode === 'tap') socket.link.addNeighbour(PEER, '02:00:00:00:00:09');
  for (const command of [
    `link add vx address 02:00:00:00:00:01 type vxlan id 7 dev under local ${HOST} remote ${PEER} dstport 4789 ${checksum}`,
    `address add ${INNER_HOST}/24 dev vx`,
    'link set vx up',
    `neighbour add ${INNER_PEER} lladdr 02:00:00:00:00:02 dev vx`,
  ]) {
    expect(ip(command)).toBeUndefined();
  }
  return socket;
}

/** What keeps these tests from being run, if anything. */
let missing: string | undefined;
beforeAll(() => {
  enterQuietNamespace();
  missing = ip(`link add vx type vxlan id 7 remote ${PEER} dstport 4789`) ?? ip('link delete vx');
  if (missing !== undefined) console.log(`skipped: what needs a VXLAN: ${missing}`);
});

/** Exchanges the two ends of an Ethernet frame. */
function turnFrameRound(frame: Buffer): Buffer {
  const destination = Buffer.from(frame.subarray(0, 6));
  frame.copyWithin(0, 6, 12);
  destination.copy(frame, 6);
  return turnRound(frame, ETHERNET);
}

interface Seen {
  longest: number;
  superpackets: PacketOffload[];
}

/** Sends 256 KiB by TCP through the tunnel to this host itself, and says what went through the device below. */
async function tcpThrough(socket: TunSocket): Promise<Seen> {
  const seen: Seen = { longest: 0, superpackets: [] };
  const header = socket.link.mac === '' ? 0 : ETHERNET;
  socket.on('message', (packet, { offload, protocol }) => {
    if (protocol !== constants.ETH_P_IP) return;
    seen.longest = Math.max(seen.longest, packet.length - header);
    if (offload !== undefined && offload.gsoType !== 0) seen.superpackets.push(offload);
    if (header === 0) turnRound(packet);
    else turnFrameRound(packet);
    turnFrameRound(packet.subarray(header + IPV4 + VXLAN));
    socket.send(packet, { offload });
  });
  const data = randomBytes(2 ** 18);
  expect((await tcpRound(INNER_HOST, INNER_PEER, data)).equals(data)).toBe(true);
  ip('link delete vx');
  return seen;
}

describe('TCP in a UDP tunnel', () => {
  it.for([
    ['noudpcsum', false],
    ['udpcsum', true],
  ] as const)(
    'over a raw tap comes in superpackets that tell of both headers (since 6.17), and is taken back: %s',
    async ([checksum, outerNeedsChecksum], context) => {
      context.skip(missing !== undefined, missing);
      using tap = tunnel('tap', 'raw', checksum);
      const { longest, superpackets } = await tcpThrough(tap);
      if (!kernelHas(6, 17)) {
        // An older kernel cuts what is in a tunnel itself.
        expect([longest, superpackets]).toEqual([1500, []]);
        return;
      }
      expect(superpackets.length).toBeGreaterThan(0);
      const inner = ETHERNET + IPV4 + VXLAN + ETHERNET;
      for (const offload of superpackets) {
        expect(offload).toMatchObject({
          needsChecksum: true,
          checksumStart: inner + IPV4,
          checksumOffset: 16,
          gsoType: VIRTIO_NET_HDR_GSO_TCPV4 | VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV4,
          outerNeedsChecksum,
          outerTransportOffset: ETHERNET + IPV4,
          innerNetworkOffset: inner,
        });
      }
    },
  );

  // The kernel would hand superpackets over on a tun too, but not take them back; and nobody cuts them in 'split'.
  it.for([
    ['tun', 'raw'],
    ['tun', 'split'],
    ['tap', 'split'],
  ] as const)('over a %s with %s comes packet by packet', async ([mode, offload], context) => {
    context.skip(missing !== undefined, missing);
    using socket = tunnel(mode, offload);
    const { longest, superpackets } = await tcpThrough(socket);
    expect([longest, superpackets]).toEqual([1500, []]);
  });
});
