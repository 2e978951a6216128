import { integer } from '../support/options';
import type { VlanTag } from '../support/types';
import { asBuffer, ipBytes, ipText, macBytes, macText } from './address';

/** EtherTypes (IEEE 802 numbers, IANA). */
export const ETHERTYPE_IPV4 = 0x0800;
export const ETHERTYPE_ARP = 0x0806;
export const ETHERTYPE_VLAN = 0x8100;
export const ETHERTYPE_IPV6 = 0x86dd;
/** A service tag (IEEE 802.1ad). */
export const ETHERTYPE_QINQ = 0x88a8;

export const BROADCAST_MAC = 'ff:ff:ff:ff:ff:ff';

const HEADER = 14;
const TAG = 4;

/** An Ethernet frame without its check sequence, as tap devices and packet sockets have it. */
export interface EthernetFrame {
  destination: string;
  source: string;
  /** The EtherType of the payload, behind all tags; below 1536 it is a length (IEEE 802.3). */
  type: number;
  /** Outermost first; empty without tags. */
  tags: VlanTag[];
  /** A view of what follows the header. */
  payload: Buffer;
}

/** Reads a frame; undefined where it is too short for its header. The payload is a view, not a copy. */
export function readEthernet(frame: Uint8Array): EthernetFrame | undefined {
  const bytes = asBuffer(frame);
  if (bytes.length < HEADER) return undefined;
  const tags: VlanTag[] = [];
  let at = 12;
  let type = bytes.readUInt16BE(at);
  while (type === ETHERTYPE_VLAN || type === ETHERTYPE_QINQ) {
    if (bytes.length < at + TAG + 2) return undefined;
    tags.push(vlanTag(type, bytes.readUInt16BE(at + 2)));
    at += TAG;
    type = bytes.readUInt16BE(at);
  }
  return {
    destination: macText(bytes.subarray(0, 6)),
    source: macText(bytes.subarray(6, 12)),
    type,
    tags,
    payload: bytes.subarray(at + 2),
  };
}

/** What ethernetFrame() puts before a payload. */
export interface EthernetHeader {
  destination: string;
  source: string;
  /** The payload's EtherType. Default: by the IP version of the payload's first byte. */
  type?: number | undefined;
  /** Outermost first. Default none; a tag's priority is 0 and its protocol 0x8100 unless it says otherwise. */
  tags?: readonly (Partial<VlanTag> & { id: number })[] | undefined;
}

/**
 * A frame around `payload`, which is copied. It isn't padded to 60 bytes: the kernel does that.
 *
 * @throws TypeError, RangeError for what does not fit its field.
 */
export function ethernetFrame(header: EthernetHeader, payload: Uint8Array): Buffer {
  const guess = (payload[0] ?? 0) >> 4 === 6 ? ETHERTYPE_IPV6 : ETHERTYPE_IPV4;
  const tags = header.tags ?? [];
  const bytes = Buffer.allocUnsafe(HEADER + tags.length * TAG);
  macBytes(header.destination).copy(bytes, 0);
  macBytes(header.source).copy(bytes, 6);
  let at = 12;
  for (const { id, priority = 0, dropEligible = false, protocol = ETHERTYPE_VLAN } of tags) {
    const control =
      (integer('priority', priority, 0, 7) << 13) | (dropEligible ? 0x1000 : 0) | integer('id', id, 0, 4095);
    at = bytes.writeUInt16BE(protocol, at);
    at = bytes.writeUInt16BE(control, at);
  }
  bytes.writeUInt16BE(integer('type', header.type ?? guess, 0, 0xffff), at);
  return Buffer.concat([bytes, payload]);
}

function vlanTag(protocol: number, control: number): VlanTag {
  return {
    id: control & 0x0fff,
    priority: control >> 13,
    dropEligible: (control & 0x1000) !== 0,
    protocol,
  };
}

/** ARP for IPv4 over Ethernet (RFC 826). */
export interface Arp {
  operation: 'request' | 'reply';
  senderMac: string;
  senderAddress: string;
  /** Of a request: '00:00:00:00:00:00', since it is what is asked for. */
  targetMac: string;
  targetAddress: string;
}

const ARP_BYTES = 28;
/** Hardware Ethernet (1), protocol IPv4 (0x0800), address lengths 6 and 4. */
const ARP_HEAD = Buffer.from([0, 1, 8, 0, 6, 4]);

/** Reads what an ARP frame carries; undefined where it is no request or reply for IPv4 over Ethernet. */
export function readArp(payload: Uint8Array): Arp | undefined {
  const bytes = asBuffer(payload);
  if (bytes.length < ARP_BYTES || !bytes.subarray(0, 6).equals(ARP_HEAD)) return undefined;
  const operation = bytes.readUInt16BE(6);
  if (operation !== 1 && operation !== 2) return undefined;
  return {
    operation: operation === 1 ? 'request' : 'reply',
    senderMac: macText(bytes.subarray(8, 14)),
    senderAddress: ipText(bytes.subarray(14, 18)),
    targetMac: macText(bytes.subarray(18, 24)),
    targetAddress: ipText(bytes.subarray(24, 28)),
  };
}

/** The payload of an ARP frame: 28 bytes. @throws TypeError for what is no address. */
export function arpMessage({ operation, senderMac, senderAddress, targetMac, targetAddress }: Arp): Buffer {
  return Buffer.concat(
    [
      ARP_HEAD,
      Buffer.from([0, operation === 'request' ? 1 : 2]),
      macBytes(senderMac),
      ipBytes(senderAddress),
      macBytes(targetMac),
      ipBytes(targetAddress),
    ],
    ARP_BYTES,
  );
}

/** A broadcast frame that asks who has `target`. */
export function arpRequest(sender: { mac: string; address: string }, target: string): Buffer {
  const message = arpMessage({
    operation: 'request',
    senderMac: sender.mac,
    senderAddress: sender.address,
    targetMac: '00:00:00:00:00:00',
    targetAddress: target,
  });
  return ethernetFrame({ destination: BROADCAST_MAC, source: sender.mac, type: ETHERTYPE_ARP }, message);
}

/** The frame that answers a request: `mac` has the address. */
export function arpReply(request: Arp, mac: string): Buffer {
  const message = arpMessage({
    operation: 'reply',
    senderMac: mac,
    senderAddress: request.targetAddress,
    targetMac: request.senderMac,
    targetAddress: request.senderAddress,
  });
  return ethernetFrame({ destination: request.senderMac, source: mac, type: ETHERTYPE_ARP }, message);
}
