import type { Link } from '../host/link';

/** Flags of TUNSETIFF (include/uapi/linux/if_tun.h). */
export const IFF_TUN = 0x0001;
export const IFF_TAP = 0x0002;
export const IFF_NAPI = 0x0010;
export const IFF_NAPI_FRAGS = 0x0020;
export const IFF_NO_CARRIER = 0x0040;
export const IFF_MULTI_QUEUE = 0x0100;
export const IFF_ATTACH_QUEUE = 0x0200;
export const IFF_DETACH_QUEUE = 0x0400;
const IFF_PERSIST = 0x0800;
export const IFF_NO_PI = 0x1000;
export const IFF_VNET_HDR = 0x4000;
export const IFF_TUN_EXCL = 0x8000;

/** What the driver behind a device file has: TunSocket.features(). */
export interface TunFeatures {
  /** IFF_* as TUNGETFEATURES tells. */
  flags: number;
  /** `mode: 'tun'`; false for macvtap and ipvtap. */
  tun: boolean;
  /** `mode: 'tap'`. */
  tap: boolean;
  /** `packetInfo`. */
  packetInfo: boolean;
  /** `offload` other than 'none'. */
  virtioHeader: boolean;
  multiQueue: boolean;
  /** `napi`, since Linux 4.15. */
  napi: boolean;
  /** `napi: 'frags'`, since Linux 4.15. */
  napiFrags: boolean;
  /** `noCarrier`, since Linux 6.1. */
  noCarrier: boolean;
}

/** What the kernel tells of a device: TunSocket.info(). */
export interface TunInfo {
  /** The user id that may attach without CAP_NET_ADMIN, as this process's user namespace numbers it; undefined for none. */
  owner: number | undefined;
  group: number | undefined;
  /** Whether the device stays when its last socket is closed. */
  persist: boolean;
  /** Sockets whose queue is in service; undefined where the kernel does not tell: of a macvtap, and where there is no `link`. */
  queues: number | undefined;
  /** Sockets whose queue is detached; undefined where `queues` is. */
  disabledQueues: number | undefined;
  /** IFF_* of this socket, as TUNGETIFF tells; what stands for IFF_NO_PI there (IFF_NOFILTER) means no packet info or no filter. */
  flags: number;
  mode: 'tun' | 'tap';
  packetInfo: boolean;
  multiQueue: boolean;
  /** Bytes of virtio header before each packet; 0 for none. */
  virtioHeaderSize: number;
  /** ARPHRD_* of linux/if_arp.h; undefined where there is no `link`. */
  linkType: number | undefined;
}

export function tunFeatures(flags: number): TunFeatures {
  const has = (bit: number) => (flags & bit) !== 0;
  return {
    flags,
    tun: has(IFF_TUN),
    tap: has(IFF_TAP),
    // macvtap and ipvtap name IFF_NO_PI because they insist on it.
    packetInfo: has(IFF_NO_PI) && has(IFF_TUN),
    virtioHeader: has(IFF_VNET_HDR),
    multiQueue: has(IFF_MULTI_QUEUE),
    napi: has(IFF_NAPI),
    napiFrags: has(IFF_NAPI_FRAGS),
    noCarrier: has(IFF_NO_CARRIER),
  };
}

export function tunInfo(link: Link | undefined, flags: number, virtioHeaderSize: number): TunInfo {
  const tun = link?.tun;
  return {
    owner: tun?.owner,
    group: tun?.group,
    persist: (flags & IFF_PERSIST) !== 0,
    queues: tun?.queues,
    disabledQueues: tun?.disabledQueues,
    flags,
    mode: (flags & IFF_TAP) !== 0 ? 'tap' : 'tun',
    packetInfo: tun?.packetInfo ?? false,
    multiQueue: (flags & IFF_MULTI_QUEUE) !== 0,
    virtioHeaderSize,
    linkType: link?.hardwareType,
  };
}
