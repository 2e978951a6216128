import { endianness } from 'node:os';
import { TP_STATUS_VLAN_TPID_VALID, TP_STATUS_VLAN_VALID } from '../support/constants';
import type { LinkLayerInfo, MessageInfo, PacketOffload, PacketType, VlanTag } from '../support/types';
import { decodeOffload } from './offload';

/** Bytes of struct PacketMeta (src/native/core/io/batch.h), and where its fields are, all in host order. */
export const META_BYTES = 64;
const VIRTIO_HEADER = 0;
const INTERFACE = 24;
const HARDWARE_TYPE = 28;
const PACKET_TYPE = 30;
const ADDRESS_LENGTH = 31;
const ADDRESS = 32;
const STATUS = 40;
const VLAN_TCI = 44;
const VLAN_TPID = 46;
const SECONDS = 48;
const NANOSECONDS = 56;

/** What of the metadata means anything: what the link layer knows, and the virtio header. */
export const META_LINK = 1;
export const META_OFFLOAD = 2;

/** A copy of the metadata of several packets. */
export interface Metadata {
  view: DataView;
  /** META_LINK, META_OFFLOAD. */
  kinds: number;
}

const LITTLE_ENDIAN = endianness() === 'LE';
const ETH_P_8021Q = 0x8100;

/** By the number of PACKET_* (linux/if_packet.h). */
const packetTypes: readonly PacketType[] = [
  'host',
  'broadcast',
  'multicast',
  'otherhost',
  'outgoing',
  'loopback',
  'user',
  'kernel',
];

/** What a packet socket knows of a packet. What the kernel said is decoded when it is asked for. */
export class PacketInfo implements MessageInfo, LinkLayerInfo {
  size: number;
  bytes: number;
  flags: number;
  protocol: number;
  readonly #meta: DataView;
  readonly #kinds: number;
  readonly #at: number;

  /** @param meta - with this packet's PacketMeta at `at` */
  constructor(size: number, bytes: number, flags: number, protocol: number, meta: Metadata, at: number) {
    this.size = size;
    this.bytes = bytes;
    this.flags = flags;
    this.protocol = protocol;
    this.#meta = meta.view;
    this.#kinds = meta.kinds;
    this.#at = at;
  }

  get packetType(): PacketType {
    return packetTypes[this.#meta.getUint8(this.#at + PACKET_TYPE)] ?? 'host';
  }

  get interface(): number {
    return this.#meta.getUint32(this.#at + INTERFACE, LITTLE_ENDIAN);
  }

  get hardwareType(): number {
    return this.#meta.getUint16(this.#at + HARDWARE_TYPE, LITTLE_ENDIAN);
  }

  get address(): string {
    const bytes = [];
    const length = this.#meta.getUint8(this.#at + ADDRESS_LENGTH);
    for (let index = 0; index < length; index++) bytes.push(this.#meta.getUint8(this.#at + ADDRESS + index));
    return bytes.map((byte) => byte.toString(16).padStart(2, '0')).join(':');
  }

  get vlan(): VlanTag | undefined {
    const status = this.status;
    if ((status & TP_STATUS_VLAN_VALID) === 0) return undefined;
    const tag = this.#meta.getUint16(this.#at + VLAN_TCI, LITTLE_ENDIAN);
    const known = (status & TP_STATUS_VLAN_TPID_VALID) !== 0;
    return {
      id: tag & 0xfff,
      priority: tag >> 13,
      dropEligible: (tag & 0x1000) !== 0,
      protocol: known ? this.#meta.getUint16(this.#at + VLAN_TPID, LITTLE_ENDIAN) : ETH_P_8021Q,
    };
  }

  get timestamp(): bigint | undefined {
    const seconds = this.#meta.getBigUint64(this.#at + SECONDS, LITTLE_ENDIAN);
    const nanoseconds = this.#meta.getUint32(this.#at + NANOSECONDS, LITTLE_ENDIAN);
    return seconds === 0n && nanoseconds === 0 ? undefined : seconds * 1_000_000_000n + BigInt(nanoseconds);
  }

  get status(): number {
    return this.#meta.getUint32(this.#at + STATUS, LITTLE_ENDIAN);
  }

  get offload(): PacketOffload | undefined {
    return (this.#kinds & META_OFFLOAD) === 0
      ? undefined
      : decodeOffload(this.#meta, this.#at + VIRTIO_HEADER);
  }

  /** @internal META_LINK, and META_OFFLOAD where the packet has a virtio header. */
  get kinds(): number {
    return this.#kinds;
  }

  /** @internal The same packet, of which other bytes were copied. */
  with(bytes: number, flags: number): PacketInfo {
    const meta = { view: this.#meta, kinds: this.#kinds };
    return new PacketInfo(this.size, bytes, flags, this.protocol, meta, this.#at);
  }

  /** @internal Writes what the kernel said to `memory`, for a batch to have. */
  store(memory: ArrayBuffer, at: number): void {
    const { buffer, byteOffset } = this.#meta;
    new Uint8Array(memory, at, META_BYTES).set(new Uint8Array(buffer, byteOffset + this.#at, META_BYTES));
  }
}

/** What is known of a packet; `meta` is given where there is any. */
export function messageInfo(
  size: number,
  bytes: number,
  flags: number,
  protocol: number,
  meta: Metadata | undefined,
  at: number,
): MessageInfo {
  if (meta === undefined) return { size, bytes, flags, protocol };
  if ((meta.kinds & META_LINK) !== 0) return new PacketInfo(size, bytes, flags, protocol, meta, at);
  return { size, bytes, flags, protocol, offload: decodeOffload(meta.view, at + VIRTIO_HEADER) };
}

/** `info` of the same packet, of which other bytes were copied. */
export function withBytes(info: MessageInfo, bytes: number, flags: number): MessageInfo {
  return info instanceof PacketInfo ? info.with(bytes, flags) : { ...info, bytes, flags };
}
