import { endianness } from 'node:os';
import { TP_STATUS_VLAN_TPID_VALID, TP_STATUS_VLAN_VALID } from '../support/constants';
import type { LinkLayerInfo, MessageInfo, PacketType, VlanTag } from '../support/types';

/** Bytes of struct PacketMeta (src/native/core/io/batch.h), and where its fields are, all in host order. */
export const META_BYTES = 64;
const INTERFACE = 12;
const HARDWARE_TYPE = 16;
const PACKET_TYPE = 18;
const ADDRESS_LENGTH = 19;
const ADDRESS = 20;
const STATUS = 28;
const VLAN_TCI = 32;
const VLAN_TPID = 34;
const SECONDS = 40;
const NANOSECONDS = 48;

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
  readonly #at: number;

  /** @param meta - a copy, with this packet's PacketMeta at `at` */
  constructor(size: number, bytes: number, flags: number, protocol: number, meta: DataView, at: number) {
    this.size = size;
    this.bytes = bytes;
    this.flags = flags;
    this.protocol = protocol;
    this.#meta = meta;
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

  /** @internal The same packet, of which other bytes were copied. */
  with(bytes: number, flags: number): PacketInfo {
    return new PacketInfo(this.size, bytes, flags, this.protocol, this.#meta, this.#at);
  }

  /** @internal Writes what the kernel said to `memory`, for a batch to have. */
  store(memory: ArrayBuffer, at: number): void {
    const { buffer, byteOffset } = this.#meta;
    new Uint8Array(memory, at, META_BYTES).set(new Uint8Array(buffer, byteOffset + this.#at, META_BYTES));
  }
}

/** What is known of a packet; `meta` is given for packet sockets only. */
export function messageInfo(
  size: number,
  bytes: number,
  flags: number,
  protocol: number,
  meta: DataView | undefined,
  at: number,
): MessageInfo {
  return meta === undefined
    ? { size, bytes, flags, protocol }
    : new PacketInfo(size, bytes, flags, protocol, meta, at);
}

/** `info` of the same packet, of which other bytes were copied. */
export function withBytes(info: MessageInfo, bytes: number, flags: number): MessageInfo {
  return info instanceof PacketInfo ? info.with(bytes, flags) : { ...info, bytes, flags };
}
