import { net } from '../support/builtins';
import { invalidArgValue } from '../support/errors';
import { integer, knownOptions, optionsObject, string } from '../support/options';
import type { PacketDestination, PacketSendOptions } from '../support/types';
import { DATAGRAM_OPTIONS, datagramMeta, isDatagramDestination } from './datagram-meta';
import { offloadHeader } from './offload';
import {
  ADDRESS,
  ADDRESS_LENGTH,
  DESTINATION_PROTOCOL,
  HAS_DESTINATION,
  INTERFACE,
  LITTLE_ENDIAN,
  META_BYTES,
  META_DESTINATION,
  META_OFFLOAD,
  type SendMeta,
  VIRTIO_HEADER,
} from './packet-meta';

const MAX_ADDRESS_BYTES = 8;

/** PacketDestination, checked. */
export interface HardwareDestination {
  address: Uint8Array;
  /** EtherType; 0: the socket's, or the packet's own. */
  protocol: number;
  /** Index; 0: the socket's. */
  interface: number;
}

/** What the options of a send call say of the packet; `undefined` where that is nothing. */
export function sendMeta(options: PacketSendOptions | undefined): SendMeta | undefined {
  if (options === undefined) return undefined;
  const given = optionsObject('options', options);
  knownOptions('options', given, ['offload', 'to', 'address', 'protocol', 'interface', ...DATAGRAM_OPTIONS]);
  const { offload, to, ...direct } = given;
  if (isDatagramDestination(to) || DATAGRAM_OPTIONS.some((key) => given[key] !== undefined)) {
    for (const key of ['offload', 'address', 'protocol']) {
      if (given[key] !== undefined) {
        throw invalidArgValue(`options.${key}`, 'left out for a datagram: it is of packets', given[key]);
      }
    }
    return datagramMeta(to, given);
  }
  let meta: SendMeta | undefined;
  if (offload !== undefined) {
    meta = { bytes: new Uint8Array(META_BYTES), kinds: META_OFFLOAD };
    meta.bytes.set(offloadHeader('options.offload', offload as object), VIRTIO_HEADER);
  }
  if (to !== undefined || Object.values(direct).some((value) => value !== undefined)) {
    meta ??= { bytes: new Uint8Array(META_BYTES), kinds: 0 };
    setDestination(
      meta,
      to === undefined ? hardwareDestination('options', direct) : hardwareDestination('options.to', to),
    );
  }
  return meta;
}

function setDestination(meta: SendMeta, { address, protocol, interface: index }: HardwareDestination): void {
  const view = new DataView(meta.bytes.buffer);
  meta.kinds |= META_DESTINATION;
  meta.bytes.set(address, ADDRESS);
  view.setUint8(ADDRESS_LENGTH, address.length);
  view.setUint32(INTERFACE, index, LITTLE_ENDIAN);
  view.setUint16(HAS_DESTINATION, 1, LITTLE_ENDIAN);
  view.setUint16(DESTINATION_PROTOCOL, protocol, LITTLE_ENDIAN);
}

/** Checks where a packet goes: a hardware address, or an interface, or both. */
export function hardwareDestination(name: string, value: unknown): HardwareDestination {
  const given = optionsObject(name, value);
  knownOptions(name, given, ['address', 'protocol', 'interface'] satisfies (keyof PacketDestination)[]);
  const number = (key: 'protocol' | 'interface', min: number, max: number) =>
    given[key] === undefined ? 0 : integer(`${name}.${key}`, given[key], min, max);
  const destination = {
    address: new Uint8Array(),
    protocol: number('protocol', 0, 0xffff),
    interface: number('interface', 1, 0x7fffffff),
  };
  if (given.address === undefined && destination.interface !== 0) return destination;
  return { ...destination, address: hardwareAddress(`${name}.address`, given.address) };
}

/** The bytes of a hardware address. */
export function hardwareAddress(name: string, value: unknown): Uint8Array {
  const text = string(name, value);
  if (net().isIP(text) !== 0) {
    throw invalidArgValue(name, 'a hardware address; where a datagram goes has a port too', text);
  }
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2})*$/i.test(text) || (text.length + 1) / 3 > MAX_ADDRESS_BYTES) {
    throw invalidArgValue(name, "a hardware address such as '02:00:00:00:00:01'", text);
  }
  return Uint8Array.from(text.split(':'), (byte) => Number.parseInt(byte, 16));
}
