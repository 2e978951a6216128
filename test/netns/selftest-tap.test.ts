import { describe, expect, it } from 'vitest';
import { constants, type PacketOffload, TunSocket } from '../../dist';
import { codeOf, ETH_P_IP } from '../helpers/device';
import { failure } from '../helpers/kernel-peers';
import { deviceFile, program } from '../helpers/optional';
import { packetStage, room } from '../helpers/packet-stage';
import { checksumsRight, udpPacket } from '../helpers/packets';
import { FAR_MAC, frame, NEAR_MAC } from '../helpers/pair';

/**
 * What the kernel's own selftests check of a macvtap with virtio headers (tools/testing/selftests/net/tap.c), written anew against this
 * package; each test has the name that its case has there. There the link below is a dummy, here one end of a cable, so that it is seen
 * what becomes of a frame.
 */

const stage = packetStage();
/**
 * Character devices are the whole host's, by the link's index alone, and a namespace that is given up goes later: each link has an index that
 * none had before.
 */
let nextIndex = process.pid * 64;
const ETHERNET = 14;
const UDP_HEADERS = 28;
/** VIRTIO_NET_HDR_GSO_UDP: fragments, which kernels no longer make, but take. */
const GSO_UDP = 3;

function tap(context: { skip(note?: string): void }): TunSocket {
  const name = 'xmacvtap0';
  const index = nextIndex++;
  const made = failure(
    stage.pair.near,
    program('ip'),
    ...`link add link v0 name ${name} index ${index} address ${NEAR_MAC} type macvtap mode passthru`.split(
      ' ',
    ),
  );
  if (made !== undefined) context.skip(`what needs a macvtap: ${made}`);
  return stage.kept(
    TunSocket.open({
      mode: 'tap',
      name,
      device: deviceFile(`/dev/tap${index}`),
      multiQueue: true,
      offload: 'raw',
      netns: stage.pair.near,
    }),
  );
}

const datagram = (size: number, unfinished: boolean) =>
  udpPacket(['172.17.0.2', 22], ['172.17.0.1', 58822], Buffer.alloc(size, 0xcb), { unfinished });
const out = (packet: Buffer, type = ETH_P_IP) => frame(type, packet, FAR_MAC, NEAR_MAC);
const headerLength = ETHERNET + UDP_HEADERS;

describe('tap.c', () => {
  const sends = (socket: TunSocket, bytes: Buffer, offload: Partial<PacketOffload>) =>
    socket.sendmsg(bytes, 0, { offload });

  it('test_packet_valid_udp_gso', (context) => {
    const socket = tap(context);
    const seen = stage.far({ protocol: ETH_P_IP });
    const bytes = out(datagram(1021, true));
    const offload = {
      needsChecksum: true,
      checksumStart: ETHERNET + 20,
      checksumOffset: 6,
      headerLength,
      gsoType: GSO_UDP,
      gsoSize: 1480,
    };
    expect(sends(socket, bytes, offload)).toBe(bytes.length);
    const data = room();
    const { bytes: length } = seen.recvmsg(data);
    expect(length).toBe(ETHERNET + UDP_HEADERS + 1021);
    expect(checksumsRight(data.subarray(ETHERNET, length))).toBe(true);
  });

  it('test_packet_valid_udp_csum', (context) => {
    const socket = tap(context);
    const seen = stage.far({ protocol: ETH_P_IP });
    const bytes = out(datagram(1024, false));
    expect(sends(socket, bytes, { checksumValid: true, gsoType: constants.VIRTIO_NET_HDR_GSO_NONE })).toBe(
      bytes.length,
    );
    const data = room();
    expect(data.subarray(0, seen.recvmsg(data).bytes)).toEqual(bytes);
  });

  it('test_packet_crash_tap_invalid_eth_proto', (context) => {
    const socket = tap(context);
    // Nothing says what it is: no EtherType, and no IP header where one would be.
    const bytes = out(Buffer.concat([Buffer.alloc(UDP_HEADERS), datagram(1024, true)]), 0);
    const offload = { headerLength, gsoType: GSO_UDP, gsoSize: 1480 };
    expect(codeOf(() => sends(socket, bytes, offload))).toBe('EINVAL');
    expect(socket.sendmsg(out(datagram(100, false)))).toBe(ETHERNET + UDP_HEADERS + 100);
  });
});
