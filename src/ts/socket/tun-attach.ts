import type { Link } from '../host/link';
import type { SocketHandle } from '../native';
import { check, invalidArgValue } from '../support/errors';
import type { TunConfig } from './options/tun-socket-options';
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

/** A second queue's wish for packet info or a virtio header is ignored by the kernel: the first queue has decided. */
export function checkSharedFraming(handle: SocketHandle, link: Link, config: TunConfig): void {
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
}

/**
 * Brings the interface to what the options say. What is so already is left alone, so that a user without privilege can
 * attach to a persistent device that root has configured.
 */
export function configure(handle: SocketHandle, link: Link, config: TunConfig, undo: Undo): void {
  setByteOrder(handle, config, link.name);
  if (config.virtioHeaderSize !== undefined) {
    control(handle, 'TUNSETVNETHDRSZ', config.virtioHeaderSize, link.name);
  }
  if (config.filter !== undefined) {
    setTapFilter(handle, config.filter, link.name);
    undo.push(() => void handle.setFilter(new Uint32Array()));
  }
  const type = link.hardwareType;
  if (config.linkType !== undefined && config.linkType !== type) {
    control(handle, 'TUNSETLINK', config.linkType, link.name);
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
}

/** What is about the device itself and can be undone only where it was set before: last, so that nothing fails after it. */
export function configureOwnership(handle: SocketHandle, link: Link, config: TunConfig, undo: Undo): void {
  const { name } = link;
  const before = link.tun;
  const set = (request: string, value: number | undefined, former: number | undefined) => {
    if (value === undefined || value === former) return;
    control(handle, request, value, name);
    // The kernel knows no way back to none.
    if (former !== undefined) undo.push(() => void handle.control(request, former));
  };
  control(handle, 'TUNSETDEBUG', config.debug, name);
  set('TUNSETOWNER', config.owner, before?.owner);
  set('TUNSETGROUP', config.group, before?.group);
  control(handle, 'TUNSETPERSIST', config.persist === undefined ? undefined : Number(config.persist), name);
}

/** The order of bytes in virtio headers, with the reason where the kernel has only one. */
function setByteOrder(handle: SocketHandle, config: TunConfig, name: string): void {
  if (config.byteOrder === 'native') return;
  const request = config.byteOrder === 'little' ? 'TUNSETVNETLE' : 'TUNSETVNETBE';
  check(handle.control(request, 1), request, {
    interface: name,
    hint: "another order than the machine's own needs a kernel with CONFIG_TUN_VNET_CROSS_LE",
  });
}

/** Sends a program to the driver: classic BPF of a tap. */
export function setTapFilter(handle: SocketHandle, program: Uint32Array, name: string): void {
  check(handle.setFilter(program), program.length === 0 ? 'TUNDETACHFILTER' : 'TUNATTACHFILTER', {
    interface: name,
    hint: "filters are for mode 'tap', and a program ends in a return and jumps forward only",
  });
}

export function control(
  handle: SocketHandle,
  request: string,
  value: number | undefined,
  name: string,
): void {
  if (value !== undefined) check(handle.control(request, value), request, { interface: name });
}
