import { isIP } from 'node:net';
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
}

/** What the options of a send call say of the packet; `undefined` where that is nothing. */
export function sendMeta(options: PacketSendOptions | undefined): SendMeta | undefined {
  if (options === undefined) return undefined;
  const given = optionsObject('options', options);
  knownOptions('options', given, ['offload', 'to', 'address', 'protocol', ...DATAGRAM_OPTIONS]);
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
  if (to !== undefined || direct.address !== undefined || direct.protocol !== undefined) {
    meta ??= { bytes: new Uint8Array(META_BYTES), kinds: 0 };
    setDestination(
      meta,
      to === undefined ? hardwareDestination('options', direct) : hardwareDestination('options.to', to),
    );
  }
  return meta;
}

function setDestination(meta: SendMeta, { address, protocol }: HardwareDestination): void {
  const view = new DataView(meta.bytes.buffer);
  meta.kinds |= META_DESTINATION;
  meta.bytes.set(address, ADDRESS);
  view.setUint8(ADDRESS_LENGTH, address.length);
  view.setUint16(HAS_DESTINATION, 1, LITTLE_ENDIAN);
  view.setUint16(DESTINATION_PROTOCOL, protocol, LITTLE_ENDIAN);
}

/** Checks where a packet without a link header goes. */
export function hardwareDestination(name: string, value: unknown): HardwareDestination {
  const given = optionsObject(name, value);
  knownOptions(name, given, ['address', 'protocol'] satisfies (keyof PacketDestination)[]);
  const text = string(`${name}.address`, given.address);
  if (isIP(text) !== 0) {
    throw invalidArgValue(`${name}.port`, 'given where a datagram goes: 1 to 65535', undefined);
  }
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2})*$/i.test(text) || (text.length + 1) / 3 > MAX_ADDRESS_BYTES) {
    throw invalidArgValue(`${name}.address`, "a hardware address such as '02:00:00:00:00:01'", text);
  }
  const address = Uint8Array.from(text.split(':'), (byte) => Number.parseInt(byte, 16));
  const protocol = given.protocol === undefined ? 0 : integer(`${name}.protocol`, given.protocol, 0, 0xffff);
  return { address, protocol };
}
