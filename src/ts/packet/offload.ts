import { channel } from 'node:diagnostics_channel';
import { endianness } from 'node:os';
import type { SocketHandle } from '../native';
import { check, type SystemErrorContext } from '../support/errors';
import { boolean, integer, knownOptions, oneOf, optionsObject } from '../support/options';
import type { OffloadFeature, OffloadMode, PacketOffload, SendOptions } from '../support/types';

/** Bytes of the virtio header in a packet's metadata (kMaxVirtioHeader in src/native/core/io/batch.h). */
export const HEADER_BYTES = 24;

/** Where its fields are: struct virtio_net_hdr_v1_hash_tunnel (linux/virtio_net.h). */
const FLAGS = 0;
const GSO_TYPE = 1;
const HEADER_LENGTH = 2;
const GSO_SIZE = 4;
const CHECKSUM_START = 6;
const CHECKSUM_OFFSET = 8;
const OUTER_TRANSPORT_OFFSET = 20;
const INNER_NETWORK_OFFSET = 22;
const NEEDS_CHECKSUM = 1;
const CHECKSUM_VALID = 2;
const OUTER_NEEDS_CHECKSUM = 8;

const LITTLE_ENDIAN = endianness() === 'LE';

/** The virtio header at `at` of `view`. The fields of tunnels are little-endian everywhere, the others in host order. */
export function decodeOffload(view: DataView, at: number): PacketOffload {
  const flags = view.getUint8(at + FLAGS);
  return {
    needsChecksum: (flags & NEEDS_CHECKSUM) !== 0,
    checksumValid: (flags & CHECKSUM_VALID) !== 0,
    checksumStart: view.getUint16(at + CHECKSUM_START, LITTLE_ENDIAN),
    checksumOffset: view.getUint16(at + CHECKSUM_OFFSET, LITTLE_ENDIAN),
    gsoType: view.getUint8(at + GSO_TYPE),
    gsoSize: view.getUint16(at + GSO_SIZE, LITTLE_ENDIAN),
    headerLength: view.getUint16(at + HEADER_LENGTH, LITTLE_ENDIAN),
    outerNeedsChecksum: (flags & OUTER_NEEDS_CHECKSUM) !== 0,
    outerTransportOffset: view.getUint16(at + OUTER_TRANSPORT_OFFSET, true),
    innerNetworkOffset: view.getUint16(at + INNER_NETWORK_OFFSET, true),
  };
}

/** The header for `offload`, whose fields are checked; what is left out is 0 or false. */
export function encodeOffload(name: string, offload: Partial<PacketOffload>): Uint8Array {
  const given = optionsObject(name, offload);
  knownOptions(name, given, OFFLOAD_FIELDS);
  const bit = (key: keyof PacketOffload, value: number) =>
    given[key] !== undefined && boolean(`${name}.${key}`, given[key]) ? value : 0;
  const number = (key: keyof PacketOffload, max: number) =>
    given[key] === undefined ? 0 : integer(`${name}.${key}`, given[key], 0, max);
  const header = new Uint8Array(HEADER_BYTES);
  const view = new DataView(header.buffer);
  const flags =
    bit('needsChecksum', NEEDS_CHECKSUM) |
    bit('checksumValid', CHECKSUM_VALID) |
    bit('outerNeedsChecksum', OUTER_NEEDS_CHECKSUM);
  view.setUint8(FLAGS, flags);
  view.setUint8(GSO_TYPE, number('gsoType', 0xff));
  view.setUint16(HEADER_LENGTH, number('headerLength', 0xffff), LITTLE_ENDIAN);
  view.setUint16(GSO_SIZE, number('gsoSize', 0xffff), LITTLE_ENDIAN);
  view.setUint16(CHECKSUM_START, number('checksumStart', 0xffff), LITTLE_ENDIAN);
  view.setUint16(CHECKSUM_OFFSET, number('checksumOffset', 0xffff), LITTLE_ENDIAN);
  view.setUint16(OUTER_TRANSPORT_OFFSET, number('outerTransportOffset', 0xffff), true);
  view.setUint16(INNER_NETWORK_OFFSET, number('innerNetworkOffset', 0xffff), true);
  return header;
}

/** The virtio header that the options of a call ask for, if any. */
export function offloadHeader(options: SendOptions | undefined): Uint8Array | undefined {
  const given = optionsObject('options', options);
  knownOptions('options', given, ['offload']);
  return options?.offload === undefined ? undefined : encodeOffload('options.offload', options.offload);
}

const OFFLOAD_FIELDS = [
  'needsChecksum',
  'checksumValid',
  'checksumStart',
  'checksumOffset',
  'gsoType',
  'gsoSize',
  'headerLength',
  'outerNeedsChecksum',
  'outerTransportOffset',
  'innerNetworkOffset',
] as const satisfies readonly (keyof PacketOffload)[];

export function offloadMode(name: string, value: unknown): OffloadMode {
  return oneOf(name, value, ['none', 'split', 'raw']);
}

/** TUN_F_* of linux/if_tun.h. */
const FEATURES: readonly (readonly [OffloadFeature, number])[] = [
  ['csum', 0x01],
  ['tso4', 0x02],
  ['tso6', 0x04],
  ['tso-ecn', 0x08],
  ['uso4', 0x20],
  ['uso6', 0x40],
  ['udp-tunnel', 0x80],
  ['udp-tunnel-csum', 0x100],
];

/** What each mode asks the kernel for. Tunnels are not cut here, so that 'split' does without. */
const WANTED: Readonly<Record<OffloadMode, number>> = { none: 0, split: 0x6f, raw: 0x1ef };

function featuresIn(mask: number): OffloadFeature[] {
  return FEATURES.filter(([, bit]) => (mask & bit) !== 0).map(([feature]) => feature);
}

/** What the diagnostics channel 'tunsock:offload:fallback' publishes. */
export interface OffloadFallback {
  socket: object;
  /** What the kernel refused just now: superpackets of this kind are not made any more. */
  features: OffloadFeature[];
}

const fallbackChannel = channel('tunsock:offload:fallback');

/** What of offload is in force on a socket. */
export class Offload {
  /** Nothing, as of a socket without virtio headers. */
  static readonly none = new Offload('none', 0);

  readonly mode: OffloadMode;
  /** TUN_F_*; undefined where another program has settled it. */
  readonly #granted: number | undefined;
  #refused = 0;

  private constructor(mode: OffloadMode, granted: number | undefined) {
    this.mode = mode;
    this.#granted = granted;
  }

  /**
   * Switches it on, and says so to the kernel: on each attach, since what another process has said outlives it. `shared`: other sockets
   * have the same device.
   */
  static enable(
    handle: SocketHandle,
    mode: OffloadMode,
    shared: boolean,
    syscall: string,
    context: SystemErrorContext,
  ): Offload {
    const granted = check(handle.setOffload(WANTED[mode], mode === 'split', shared), syscall, context);
    return mode === 'none' || (mode === 'split' && granted === 0) ? Offload.none : new Offload(mode, granted);
  }

  /** That of a descriptor that something else opened. */
  static of(handle: SocketHandle): Offload {
    return handle.virtioHeader === 0 ? Offload.none : new Offload('raw', undefined);
  }

  get features(): readonly OffloadFeature[] | undefined {
    return this.#granted === undefined ? undefined : featuresIn(this.#granted & ~this.#refused);
  }

  /** What the kernel has refused since. */
  get refused(): OffloadFeature[] {
    return featuresIn(this.#refused & (this.#granted ?? 0));
  }

  /**
   * Takes in what the kernel has refused, and tells who wants to know, once for each: on the next tick, since whoever hears of it may use
   * the socket, which is in the middle of a call.
   */
  noteRefused(refused: number, socket: object): void {
    const news = refused & ~this.#refused;
    if (news === 0) return;
    this.#refused |= news;
    const message: OffloadFallback = { socket, features: featuresIn(news) };
    process.nextTick(() => fallbackChannel.publish(message));
  }
}
