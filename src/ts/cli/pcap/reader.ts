import { ByteSource, FormatError } from './byte-source';
import { BIG, type CapturedPacket, type Integers, LITTLE, MAX_PACKET } from './captured-packet';
import { readPcapng } from './pcapng-reader';

const PCAP_MICROSECONDS = 0xa1b2c3d4;
const PCAP_NANOSECONDS = 0xa1b23c4d;
const PCAPNG = 0x0a0d0d0a;

/**
 * The packets of a pcap or pcapng file, one at a time, in memory for one. Nothing that the file says of itself is believed
 * unchecked.
 *
 * @throws FormatError for a file that is no capture, or is damaged.
 */
export async function* readCapture(
  chunks: AsyncIterable<Uint8Array>,
): AsyncGenerator<CapturedPacket, void, undefined> {
  const source = new ByteSource(chunks);
  const magic = await source.take(4);
  if (magic === undefined) throw new FormatError('the file is empty', 0);
  // The same bytes in both orders.
  if (magic.readUInt32BE(0) === PCAPNG) {
    yield* readPcapng(source);
    return;
  }
  for (const integers of [LITTLE, BIG]) {
    const value = integers.u32(magic, 0);
    if (value !== PCAP_MICROSECONDS && value !== PCAP_NANOSECONDS) continue;
    yield* readPcap(source, integers, value === PCAP_NANOSECONDS ? 1n : 1000n);
    return;
  }
  throw new FormatError('this is no pcap or pcapng file', 0);
}

/** draft-ietf-opsawg-pcap: a header, then records. */
async function* readPcap(
  source: ByteSource,
  { u16, u32 }: Integers,
  unit: bigint,
): AsyncGenerator<CapturedPacket> {
  const header = await source.need(20);
  if (u16(header, 0) !== 2) throw new FormatError(`pcap version ${u16(header, 0)} is not known`, 4);
  const linkType = u32(header, 16) & 0xffff;
  for (;;) {
    const at = source.offset;
    const record = await source.take(16);
    if (record === undefined) return;
    const captured = u32(record, 8);
    if (captured > MAX_PACKET)
      throw new FormatError(`a packet of ${captured} bytes is more than there can be`, at);
    const timestamp = BigInt(u32(record, 0)) * 1_000_000_000n + BigInt(u32(record, 4)) * unit;
    const length = Math.max(u32(record, 12), captured);
    yield { linkType, timestamp, data: await source.need(captured), length, interface: undefined };
  }
}
