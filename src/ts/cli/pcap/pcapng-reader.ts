import { type ByteSource, FormatError } from './byte-source';
import { BIG, type CapturedPacket, type Integers, LITTLE, MAX_PACKET } from './captured-packet';

/** Block types and options of draft-ietf-opsawg-pcapng. */
const SECTION = 0x0a0d0d0a;
const INTERFACE = 1;
const OBSOLETE_PACKET = 2;
const SIMPLE_PACKET = 3;
const ENHANCED_PACKET = 6;
const BYTE_ORDER = 0x1a2b3c4d;
const OPTION_END = 0;
const IF_NAME = 2;
const IF_TSRESOL = 9;
const IF_TSOFFSET = 14;

/** A packet and the options that may come with it. */
const MAX_BLOCK = MAX_PACKET + 65_536;
const MAX_INTERFACES = 65_536;
/** Blocks that are passed over may be long (decryption secrets, name resolution): so much of one is held at a time. */
const SKIPPED_AT_ONCE = 65_536;

interface Interface {
  linkType: number;
  snapLength: number;
  name: string | undefined;
  nanoseconds(units: bigint): bigint;
}

/** Sections one after the other, of which the first one's type has been read. */
export async function* readPcapng(source: ByteSource): AsyncGenerator<CapturedPacket> {
  let integers = await readSection(source);
  let interfaces: Interface[] = [];
  for (;;) {
    const at = source.offset;
    const type = await source.take(4);
    if (type === undefined) return;
    const kind = integers.u32(type, 0);
    if (kind === SECTION) {
      integers = await readSection(source);
      interfaces = [];
      continue;
    }
    const total = integers.u32(await source.need(4), 0);
    if (total < 12 || total % 4 !== 0)
      throw new FormatError(`a block can't have a length of ${total} bytes`, at);
    const read = readers.get(kind);
    if (read === undefined) {
      await skip(source, total - 12);
    } else {
      if (total > MAX_BLOCK) throw new FormatError(`a block of ${total} bytes is more than there can be`, at);
      const packet = read(await source.need(total - 12), integers, interfaces, at);
      if (packet !== undefined) yield packet;
    }
    if (integers.u32(await source.need(4), 0) !== total) {
      throw new FormatError("a block's two lengths differ", at);
    }
  }
}

async function skip(source: ByteSource, count: number): Promise<void> {
  for (let left = count; left > 0; left -= SKIPPED_AT_ONCE)
    await source.need(Math.min(left, SKIPPED_AT_ONCE));
}

/** The rest of a section header: says how all that follows is written. */
async function readSection(source: ByteSource): Promise<Integers> {
  const at = source.offset - 4;
  const head = await source.need(8);
  const integers = [LITTLE, BIG].find(({ u32 }) => u32(head, 4) === BYTE_ORDER);
  if (integers === undefined) throw new FormatError('a section has no byte-order magic', at);
  const total = integers.u32(head, 0);
  if (total < 28 || total % 4 !== 0 || total > MAX_BLOCK) {
    throw new FormatError(`a section header can't have a length of ${total} bytes`, at);
  }
  const rest = await source.need(total - 12);
  const major = integers.u16(rest, 0);
  if (major !== 1) throw new FormatError(`pcapng version ${major} is not known`, at);
  return integers;
}

type BlockReader = (
  body: Buffer,
  integers: Integers,
  interfaces: Interface[],
  at: number,
) => CapturedPacket | undefined;

const readers = new Map<number, BlockReader>([
  [
    INTERFACE,
    (body, integers, interfaces, at) => {
      if (body.length < 8) throw new FormatError('an interface block is too short', at);
      if (interfaces.length >= MAX_INTERFACES) throw new FormatError('there are too many interfaces', at);
      interfaces.push(readInterface(body, integers, at));
      return undefined;
    },
  ],
  [
    ENHANCED_PACKET,
    (body, integers, interfaces, at) => {
      if (body.length < 20) throw new FormatError('a packet block is too short', at);
      return timedPacket(body, integers, interfaces, integers.u32(body, 0), at);
    },
  ],
  [
    OBSOLETE_PACKET,
    (body, integers, interfaces, at) => {
      if (body.length < 20) throw new FormatError('a packet block is too short', at);
      return timedPacket(body, integers, interfaces, integers.u16(body, 0), at);
    },
  ],
  [
    SIMPLE_PACKET,
    (body, integers, interfaces, at) => {
      if (body.length < 4) throw new FormatError('a packet block is too short', at);
      const { linkType, snapLength, name } = interfaceOf(interfaces, 0, at);
      const length = integers.u32(body, 0);
      const data = body.subarray(4, 4 + Math.min(length, snapLength, body.length - 4));
      return { linkType, timestamp: 0n, data, length, interface: name };
    },
  ],
]);

function timedPacket(
  body: Buffer,
  { u32 }: Integers,
  interfaces: Interface[],
  id: number,
  at: number,
): CapturedPacket {
  const { linkType, name, nanoseconds } = interfaceOf(interfaces, id, at);
  const captured = u32(body, 12);
  if (captured > MAX_PACKET || captured > body.length - 20) {
    throw new FormatError(`a packet of ${captured} bytes is longer than its block`, at);
  }
  return {
    linkType,
    timestamp: nanoseconds((BigInt(u32(body, 4)) << 32n) | BigInt(u32(body, 8))),
    data: body.subarray(20, 20 + captured),
    length: Math.max(u32(body, 16), captured),
    interface: name,
  };
}

function interfaceOf(interfaces: Interface[], id: number, at: number): Interface {
  const found = interfaces[id];
  if (found === undefined)
    throw new FormatError(`a packet is of interface ${id}, which the file doesn't have`, at);
  return found;
}

function readInterface(body: Buffer, integers: Integers, at: number): Interface {
  const options = readOptions(body.subarray(8), integers, at);
  // Microseconds, unless it says otherwise.
  const resolution = options.get(IF_TSRESOL)?.[0] ?? 6;
  const perSecond = resolution & 0x80 ? 1n << BigInt(resolution & 0x7f) : 10n ** BigInt(resolution);
  const offset = options.get(IF_TSOFFSET);
  const seconds = offset?.length === 8 ? wideInteger(offset, integers) : 0n;
  return {
    linkType: integers.u16(body, 0),
    snapLength: integers.u32(body, 4) || MAX_PACKET,
    name: options.get(IF_NAME)?.toString('utf8').replace(/\0.*$/, ''),
    nanoseconds: (units) => (units * 1_000_000_000n) / perSecond + seconds * 1_000_000_000n,
  };
}

function wideInteger(bytes: Buffer, integers: Integers): bigint {
  return integers === LITTLE ? bytes.readBigInt64LE(0) : bytes.readBigInt64BE(0);
}

/** The last of each kind. */
function readOptions(bytes: Buffer, { u16 }: Integers, at: number): Map<number, Buffer> {
  const options = new Map<number, Buffer>();
  for (let from = 0; from + 4 <= bytes.length; ) {
    const [code, length] = [u16(bytes, from), u16(bytes, from + 2)];
    if (code === OPTION_END) break;
    const end = from + 4 + length;
    if (end > bytes.length) throw new FormatError('an option is longer than its block', at);
    options.set(code, bytes.subarray(from + 4, end));
    from = (end + 3) & ~3;
  }
  return options;
}
