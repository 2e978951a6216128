import { net } from '../support/builtins';
import { invalidArgValue } from '../support/errors';
import { integer, knownOptions, optionsObject, string } from '../support/options';
import type { PacketDestination, PacketSendOptions } from '../support/types';
import { DATAGRAM_OPTIONS, datagramMeta, isDatagramDestination } from './datagram-meta';
import { putOffload } from './offload';
import {
  ADDRESS,
  ADDRESS_LENGTH,
  DESTINATION_PROTOCOL,
  emptyMeta,
  HAS_DESTINATION,
  INTERFACE,
  META_DESTINATION,
  META_OFFLOAD,
  putLongWord,
  putWord,
  type SendMeta,
  VIRTIO_HEADER,
} from './packet-meta';

const MAX_ADDRESS_BYTES = 8;
/** What a destination's fields are called where they stand among the options themselves. */
const DIRECT_OPTIONS = ['address', 'protocol', 'interface'] as const satisfies (keyof PacketDestination)[];
const OPTIONS = ['offload', 'to', ...DIRECT_OPTIONS, ...DATAGRAM_OPTIONS];

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
  knownOptions('options', given, OPTIONS);
  const { offload, to } = given;
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
    meta = { bytes: emptyMeta(), kinds: META_OFFLOAD };
    putOffload('options.offload', offload, meta.bytes, VIRTIO_HEADER);
  }
  if (to !== undefined || DIRECT_OPTIONS.some((key) => given[key] !== undefined)) {
    meta ??= { bytes: emptyMeta(), kinds: 0 };
    setDestination(
      meta,
      to === undefined ? fieldsOf('options', given) : hardwareDestination('options.to', to),
    );
  }
  return meta;
}

function setDestination(meta: SendMeta, { address, protocol, interface: index }: HardwareDestination): void {
  const { bytes } = meta;
  meta.kinds |= META_DESTINATION;
  bytes.set(address, ADDRESS);
  bytes[ADDRESS_LENGTH] = address.length;
  putLongWord(bytes, INTERFACE, index);
  putWord(bytes, HAS_DESTINATION, 1);
  putWord(bytes, DESTINATION_PROTOCOL, protocol);
}

/** Checks where a packet goes: a hardware address, or an interface, or both. */
export function hardwareDestination(name: string, value: unknown): HardwareDestination {
  const given = optionsObject(name, value);
  knownOptions(name, given, DIRECT_OPTIONS);
  return fieldsOf(name, given);
}

function fieldsOf(name: string, given: Record<string, unknown>): HardwareDestination {
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
