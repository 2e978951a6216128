import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { constants, TunSocket } from '../../dist';
import { HOST, PEER } from '../helpers/device';
import { EMULATED } from '../helpers/kernel';
import { enterQuietNamespace } from '../helpers/namespace';
import { checksum, checksumsRight, turnRound } from '../helpers/packets';
import { tcpRound } from '../helpers/tcp-round';

const { VIRTIO_NET_HDR_GSO_ECN } = constants;
const BYTES = EMULATED ? 2 ** 21 : 2 ** 22;
const CONGESTED = 3;
const CWR = 0x80;
const SYN = 0x02;
const HOST6 = 'fd00::1';
const PEER6 = 'fd00::2';

beforeAll(() => {
  enterQuietNamespace();
  writeFileSync('/proc/sys/net/ipv4/tcp_ecn', '1');
});

const isSix = (packet: Buffer) => (packet[0] as number) >> 4 === 6;
const flagsOf = (packet: Buffer) => packet[(isSix(packet) ? 40 : 20) + 13] as number;
/** Whether the sender has ECN for this packet: ECT(0). */
const isCapable = (packet: Buffer) =>
  (isSix(packet) ? ((packet[1] as number) & 0x30) === 0x20 : ((packet[1] as number) & 3) === 2) &&
  (flagsOf(packet) & SYN) === 0;

/** Says of a packet on its way that there is congestion, as a router does (RFC 3168). */
function congested(packet: Buffer): void {
  if (isSix(packet)) {
    packet[1] = (packet[1] as number) | (CONGESTED << 4);
    return;
  }
  packet[1] = (packet[1] as number) | CONGESTED;
  packet.writeUInt16BE(0, 10);
  packet.writeUInt16BE(checksum(packet.subarray(0, 20)), 10);
}

describe.each([
  ['IPv4', HOST, PEER],
  ['IPv6', HOST6, PEER6],
])('a TCP sender over %s that is told of congestion', (_, host, peer) => {
  const address = [`${HOST}/24`, `${HOST6}/64`];

  it("says so on a socket with 'raw' in one header, with the bit for ECN beside its type", async () => {
    using tun = TunSocket.open({ offload: 'raw', address });
    let answers = 0;
    let packets = 0;
    tun.on('message', (packet, { offload }) => {
      if ((flagsOf(packet) & (CWR | SYN)) === CWR && offload !== undefined && offload.gsoType !== 0) {
        answers += 1;
        expect(offload.gsoType & VIRTIO_NET_HDR_GSO_ECN).toBe(VIRTIO_NET_HDR_GSO_ECN);
      }
      packets += 1;
      if (isCapable(packet) && packets % 10 === 0) congested(packet);
      tun.send(turnRound(packet), { offload });
    });
    const data = randomBytes(BYTES);
    expect((await tcpRound(host, peer, data)).equals(data)).toBe(true);
    expect(answers).toBeGreaterThan(0);
  });

  it("says so on a socket with 'split' in the first of the segments, each of which is right", async () => {
    using tun = TunSocket.open({ offload: 'split', address });
    let answers = 0;
    let packets = 0;
    tun.on('batch', (batch) => {
      for (const packet of batch) {
        expect(checksumsRight(packet)).toBe(true);
        if ((flagsOf(packet) & (CWR | SYN)) === CWR) answers += 1;
        packets += 1;
        if (isCapable(packet) && packets % 100 === 0) congested(packet);
        turnRound(packet);
      }
      for (let sent = 0; sent < batch.length; ) sent += tun.sendmmsg(batch, 0, sent);
    });
    const data = randomBytes(BYTES);
    expect((await tcpRound(host, peer, data)).equals(data)).toBe(true);
    expect(answers).toBeGreaterThan(0);
    // An answer to one mark, not to each segment: there are as few as there are windows.
    expect(answers).toBeLessThan(packets / 10);
  });
});
