import { Link } from '../host/link';
import { native, type SocketHandle } from '../native';
import { LITTLE_ENDIAN } from '../packet/packet-meta';
import { check, invalidArgValue, type SystemError, systemError } from '../support/errors';
import { EINVAL } from '../support/io-errors';
import type { ByteOrder, TunConfig } from './options/tun-socket-options';
import {
  IFF_MULTI_QUEUE,
  IFF_NAPI,
  IFF_NAPI_FRAGS,
  IFF_NO_CARRIER,
  IFF_NO_PI,
  IFF_TAP,
  IFF_TUN,
  IFF_TUN_EXCL,
  IFF_VNET_HDR,
} from './tun-info';

/** Flag of a link with a carrier (linux/if.h). */
const IFF_LOWER_UP = 0x10000;

/** What opening a socket has changed, and how to undo it should a later step fail. */
export type Undo = (() => void)[];

export function attachFlags(config: TunConfig): number {
  return (
    (config.tap ? IFF_TAP : IFF_TUN) |
    (config.packetInfo ? 0 : IFF_NO_PI) |
    (config.offload === 'none' ? 0 : IFF_VNET_HDR) |
    (config.multiQueue ? IFF_MULTI_QUEUE : 0) |
    (config.exclusive ? IFF_TUN_EXCL : 0) |
    (config.napi !== false ? IFF_NAPI : 0) |
    (config.napi === 'frags' ? IFF_NAPI_FRAGS : 0) |
    (config.noCarrier ? IFF_NO_CARRIER : 0)
  );
}

const NO_DRIVER = 'load the tun module with modprobe tun, or start the container with --device /dev/net/tun';
export const openHints = new Map<string, string>([
  ['open -2', NO_DRIVER],
  ['open -6', NO_DRIVER],
  ['open -19', NO_DRIVER],
  ['open -13', 'the file may not be opened: chmod 0666 it, as most systems have it, or run as root'],
  [
    'TUNSETIFF -1',
    'this needs CAP_NET_ADMIN: run as root, grant it with setcap, start under unshare -Urn, or let root make a persistent device with this user as its owner',
  ],
  [
    'TUNSETIFF -16',
    'the device is in use: open it with multiQueue: true everywhere to share it, close the other user, or choose another name; with exclusive: true it must not exist',
  ],
  [
    'TUNSETIFF -22',
    'an interface of that name is of another kind: not a tun device, of the other mode, or with another multiQueue',
  ],
  ['TUNSETIFINDEX -22', 'the number of an interface is 1 to 2147483647'],
  ['TUNGETIFF -88', 'the descriptor is no tun device'],
]);

/** For the character device of a macvtap or ipvtap, whose driver is another one. */
const tapHints = new Map([
  ...openHints,
  [
    'TUNSETIFF -22',
    "a macvtap or ipvtap takes mode: 'tap', and neither packetInfo, napi, noCarrier nor exclusive",
  ],
  ['TUNSETIFINDEX -22', 'a macvtap or ipvtap has the number that it was made with'],
]);

/** What to do about it when the device behind `path` can't be opened. */
export function openHintsOf(path: string): ReadonlyMap<string, string> {
  const features = native().tunFeatures(path);
  return 'flags' in features && (features.flags & IFF_TUN) === 0 ? tapHints : openHints;
}

/** What the driver of macvtap and ipvtap has as well (drivers/net/tap.c). */
const TAP_REQUESTS = new Set([
  'TUNSETSNDBUF',
  'TUNSETQUEUE',
  'TUNSETVNETHDRSZ',
  'TUNSETVNETLE',
  'TUNSETVNETBE',
]);

/** Returns what a request gave; throws its error, with the reason where the device is of a kind that has no such request. */
export function checkRequest(
  result: number,
  request: string,
  link: Link | undefined,
  name: string,
  hint?: string,
): number {
  if (result >= 0) return result;
  const other = result === EINVAL && !TAP_REQUESTS.has(request) ? tapDriverType(link) : undefined;
  throw systemError(result, request, {
    interface: name,
    hint: other === undefined ? hint : `a ${other} has no such request: it is one of devices of /dev/net/tun`,
  });
}

/** The type of a link with a character device of its own, 'macvtap' or 'ipvtap'; undefined for other devices, and for one that is gone. */
export function tapDriverType(link: Link | undefined): string | undefined {
  try {
    return link?.device === undefined ? undefined : link.type;
  } catch (error) {
    if ((error as SystemError).code === 'ENODEV') return undefined;
    throw error;
  }
}

/** The interface of a descriptor whose namespace is this thread's as far as the kernel tells: what is no tun device is another's name. */
export function linkHere(name: string): Link | undefined {
  try {
    const link = Link.get(name);
    return link.tun !== undefined || link.device !== undefined ? link : undefined;
  } catch (error) {
    if ((error as SystemError).code === 'ENODEV') return undefined;
    throw error;
  }
}

/**
 * What a queue's packets start with is decided for all queues of a device: a second queue's wish for packet info or a virtio header is
 * ignored by the kernel, and one for another size or order of it would take hold of the others too.
 */
export function checkSharedFraming(
  handle: SocketHandle,
  link: Link,
  config: TunConfig,
  shared: boolean,
): void {
  const size = handle.virtioHeader();
  const has = size !== 0;
  if (has !== (config.offload !== 'none')) {
    throw invalidArgValue(
      'options.offload',
      `${has ? "'raw' or 'split'" : "'none'"}, as it is for the other queues of ${link.name}`,
      config.offload,
    );
  }
  const granted = link.tun?.packetInfo;
  if (granted !== undefined && granted !== config.packetInfo) {
    throw invalidArgValue(
      'options.packetInfo',
      `${granted}, as it is for the other queues of ${link.name}`,
      config.packetInfo,
    );
  }
  if (!shared) return;
  if (config.virtioHeaderSize !== undefined && config.virtioHeaderSize !== size) {
    throw invalidArgValue(
      'options.virtioHeaderSize',
      `${size}, as it is for the other queues of ${link.name}`,
      config.virtioHeaderSize,
    );
  }
  const order = byteOrderOf(handle);
  if (config.byteOrder !== undefined && inEffect(config.byteOrder) !== inEffect(order)) {
    throw invalidArgValue(
      'options.byteOrder',
      `${order}, as it is for the other queues of ${link.name}`,
      config.byteOrder,
    );
  }
}

/**
 * Brings the interface to what the options say. What is so already is left alone, so that a user without privilege can
 * attach to a persistent device that root has configured.
 */
export function configure(
  handle: SocketHandle,
  link: Link,
  config: TunConfig,
  shared: boolean,
  undo: Undo,
): void {
  if (config.offload !== 'none' && !shared) configureHeaders(handle, config, link, undo);
  if (config.filter !== undefined) {
    setTapFilter(handle, config.filter, link, link.name);
    undo.push(() => void handle.setFilter(new Uint32Array()));
  }
  const type = link.hardwareType;
  if (config.linkType !== undefined && config.linkType !== type) {
    control(handle, 'TUNSETLINK', config.linkType, link);
    undo.push(() => void handle.control('TUNSETLINK', type));
  }
  const set = <K extends 'mtu' | 'mac' | 'txQueueLength' | 'addressGeneration'>(
    key: K,
    value: Link[K] | undefined,
  ) => {
    if (value === undefined) return;
    const before = link[key];
    if (value === before) return;
    link[key] = value;
    undo.push(() => {
      link[key] = before;
    });
  };
  set('mtu', config.mtu);
  set('txQueueLength', config.txQueueLength);
  set('mac', config.mac);
  set('addressGeneration', config.addressGeneration);

  const ensured = (takeBack: (() => void) | undefined) => {
    if (takeBack !== undefined) undo.push(takeBack);
  };
  for (const address of config.addresses) ensured(link.ensureAddress(address));
  if (config.up && !link.isUp) {
    link.up();
    undo.push(() => link.down());
  }
  for (const route of config.routes) ensured(link.ensureRoute(route));
  if (config.noCarrier && shared) {
    // IFF_NO_CARRIER is heeded where the first queue has it.
    if ((link.flags & IFF_LOWER_UP) !== 0) undo.push(() => void handle.control('TUNSETCARRIER', 1));
    control(handle, 'TUNSETCARRIER', 0, link);
  }
}

/** What is about the device itself and can be undone only where it was set before: last, so that nothing fails after it. */
export function configureOwnership(handle: SocketHandle, link: Link, config: TunConfig, undo: Undo): void {
  const before = link.tun;
  const set = (request: string, value: number | undefined, former: number | undefined) => {
    if (value === undefined || value === former) return;
    control(handle, request, value, link);
    // The kernel knows no way back to none.
    if (former !== undefined) undo.push(() => void handle.control(request, former));
  };
  set('TUNSETOWNER', config.owner, before?.owner);
  set('TUNSETGROUP', config.group, before?.group);
  // What it was can't be asked for; the last step never fails.
  control(handle, 'TUNSETDEBUG', config.debug, link);
  control(handle, 'TUNSETPERSIST', config.persist === undefined ? undefined : Number(config.persist), link);
}

/** Size and order of virtio headers. Both outlive a socket, and opening the data path changes the size too. */
function configureHeaders(handle: SocketHandle, config: TunConfig, link: Link, undo: Undo): void {
  const { name } = link;
  const size = handle.virtioHeader();
  const order = byteOrderOf(handle);
  undo.push(
    () => void handle.control('TUNSETVNETHDRSZ', size),
    () => setByteOrder(handle, order, name),
  );
  setByteOrder(handle, config.byteOrder ?? 'native', name);
  control(handle, 'TUNSETVNETHDRSZ', config.virtioHeaderSize, link);
}

/** What the device is set to; a kernel that knows no other order says 'native'. */
function byteOrderOf(handle: SocketHandle): ByteOrder {
  if (handle.control('TUNGETVNETLE', 0) > 0) return 'little';
  return handle.control('TUNGETVNETBE', 0) > 0 ? 'big' : 'native';
}

function inEffect(order: ByteOrder): ByteOrder {
  if (order !== 'native') return order;
  return LITTLE_ENDIAN ? 'little' : 'big';
}

function setByteOrder(handle: SocketHandle, order: ByteOrder, name: string): void {
  const before = byteOrderOf(handle);
  if (order === before) return;
  const set = (request: string, on: boolean) =>
    check(handle.control(request, on ? 1 : 0), request, {
      interface: name,
      hint: "another order than the machine's own needs a kernel with CONFIG_TUN_VNET_CROSS_LE",
    });
  // The kernel heeds 'big' only where 'little' is off.
  if (order === 'big' || before === 'big') set('TUNSETVNETBE', order === 'big');
  if (order === 'little' || before === 'little') set('TUNSETVNETLE', order === 'little');
}

/** Sends a program to the driver: classic BPF of a tap. */
export function setTapFilter(
  handle: SocketHandle,
  program: Uint32Array,
  link: Link | undefined,
  name: string,
): void {
  const request = program.length === 0 ? 'TUNDETACHFILTER' : 'TUNATTACHFILTER';
  const hint = "filters are for mode 'tap', and a program ends in a return and jumps forward only";
  checkRequest(handle.setFilter(program), request, link, name, hint);
}

function control(handle: SocketHandle, request: string, value: number | undefined, link: Link): void {
  if (value !== undefined) checkRequest(handle.control(request, value), request, link, link.name);
}
