import { TP_STATUS_VLAN_TPID_VALID, TP_STATUS_VLAN_VALID } from '../support/constants';
import type { LinkLayerInfo, MessageInfo, PacketType, VlanTag } from '../support/types';
import { datagramInfo } from './datagram-meta';
import { offloadAt } from './offload';
import {
  ADDRESS,
  ADDRESS_LENGTH,
  HARDWARE_TYPE,
  INTERFACE,
  LITTLE_ENDIAN,
  META_DATAGRAM,
  META_LINK,
  META_OFFLOAD,
  PACKET_TYPE,
  STATUS,
  timestampAt,
  VIRTIO_HEADER,
  VLAN_TCI,
  VLAN_TPID,
} from './packet-meta';

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

/**
 * What is known of a received packet: a plain object, of one shape for each `kinds`. Its PacketMeta is at `at` of `meta`, which is read
 * here and not kept.
 */
export function messageInfo(
  size: number,
  bytes: number,
  flags: number,
  protocol: number,
  kinds: number,
  meta: DataView,
  at: number,
): MessageInfo {
  if (kinds === 0) return { size, bytes, flags, protocol };
  if ((kinds & META_DATAGRAM) !== 0) return datagramInfo(size, bytes, flags, protocol, meta, at);
  const offload = (kinds & META_OFFLOAD) !== 0 ? offloadAt(meta, at + VIRTIO_HEADER) : undefined;
  if ((kinds & META_LINK) === 0) return { size, bytes, flags, protocol, offload };
  const status = meta.getUint32(at + STATUS, LITTLE_ENDIAN);
  const info: MessageInfo & LinkLayerInfo = {
    size,
    bytes,
    flags,
    protocol,
    packetType: packetTypes[meta.getUint8(at + PACKET_TYPE)] ?? 'host',
    interface: meta.getUint32(at + INTERFACE, LITTLE_ENDIAN),
    hardwareType: meta.getUint16(at + HARDWARE_TYPE, LITTLE_ENDIAN),
    address: addressAt(meta, at),
    vlan: (status & TP_STATUS_VLAN_VALID) !== 0 ? vlanTag(status, meta, at) : undefined,
    timestamp: timestampAt(meta, at),
    status,
    offload,
  };
  return info;
}

function vlanTag(status: number, meta: DataView, at: number): VlanTag {
  const tag = meta.getUint16(at + VLAN_TCI, LITTLE_ENDIAN);
  const known = (status & TP_STATUS_VLAN_TPID_VALID) !== 0;
  return {
    id: tag & 0xfff,
    priority: tag >> 13,
    dropEligible: (tag & 0x1000) !== 0,
    protocol: known ? meta.getUint16(at + VLAN_TPID, LITTLE_ENDIAN) : ETH_P_8021Q,
  };
}

/** The texts of hardware addresses that were seen lately: making one costs as much as the rest of an info. */
const addressTexts = new Map<number, string>();
const MAX_ADDRESS_TEXTS = 256;
const ETHERNET_ADDRESS_BYTES = 6;

function addressAt(meta: DataView, at: number): string {
  const length = meta.getUint8(at + ADDRESS_LENGTH);
  if (length === 0) return '';
  if (length !== ETHERNET_ADDRESS_BYTES) return addressText(meta, at, length);
  const key = meta.getUint32(at + ADDRESS) * 0x10000 + meta.getUint16(at + ADDRESS + 4);
  let text = addressTexts.get(key);
  if (text === undefined) {
    text = addressText(meta, at, length);
    // Whoever sends from ever new addresses must not make this grow.
    if (addressTexts.size >= MAX_ADDRESS_TEXTS) addressTexts.clear();
    addressTexts.set(key, text);
  }
  return text;
}

function addressText(meta: DataView, at: number, length: number): string {
  const bytes = [];
  for (let index = 0; index < Math.min(length, 8); index++) {
    bytes.push(
      meta
        .getUint8(at + ADDRESS + index)
        .toString(16)
        .padStart(2, '0'),
    );
  }
  return bytes.join(':');
}
