import type { Failure, SocketHandle } from '../native';
import { diagnosticsChannel } from '../support/builtins';
import { type SystemErrorContext, systemError } from '../support/errors';
import type { OffloadFeature, OffloadMode } from '../support/types';
import type { VhostConfig } from './options/vhost-options';

/** TUN_F_* of linux/if_tun.h. */
const FEATURES: readonly (readonly [OffloadFeature, number])[] = [
  ['csum', 0x01],
  ['tso4', 0x02],
  ['tso6', 0x04],
  ['tso-ecn', 0x08],
  ['uso4', 0x20],
  ['uso6', 0x40],
  ['udp-tunnel', 0x80],
  ['udp-tunnel-csum', 0x100],
];

/** The names of all features. */
export const offloadFeatures: readonly OffloadFeature[] = FEATURES.map(([feature]) => feature);

/** TUN_F_* of features. */
export function featureMask(features: readonly OffloadFeature[]): number {
  return FEATURES.reduce((mask, [feature, bit]) => (features.includes(feature) ? mask | bit : mask), 0);
}

/** The features with which nothing is merged. */
export const CHECKSUMS_ONLY = 0x01;

/** What each mode asks the kernel for. Tunnels are not cut here, so that 'split' does without. */
const WANTED: Readonly<Record<OffloadMode, number>> = { none: 0, split: 0x6f, raw: 0x1ef };

function featuresIn(mask: number): OffloadFeature[] {
  return FEATURES.filter(([, bit]) => (mask & bit) !== 0).map(([feature]) => feature);
}

/** What the diagnostics channel 'tunsock:offload:fallback' publishes. */
export interface OffloadFallback {
  socket: object;
  /** What the kernel refused just now: superpackets of this kind are not made any more. */
  features: OffloadFeature[];
}

const NO_VHOST =
  'load the module with modprobe vhost_net, or start the container with --device /dev/vhost-net';
const NOT_ALLOWED =
  'the file may not be opened: be in its group, which most systems call kvm (or vhost), or run as root';
const vhostHints = new Map<string, string>([
  ['open -2', NO_VHOST],
  ['open -6', NO_VHOST],
  ['open -19', NO_VHOST],
  ['open -13', NOT_ALLOWED],
  ['open -1', NOT_ALLOWED],
  ['VHOST_SET_OWNER -25', 'the file is not that of vhost-net'],
  [
    'VHOST_GET_FEATURES -95',
    "this kernel's vhost-net lacks virtio 1, merged receive buffers or the event index",
  ],
  ['TUNSETVNETHDRSZ -16', 'the other queues of the device are without vhost: open them all with vhost: true'],
  [
    'PACKET_VNET_HDR_SZ -92',
    "offload with vhost on a packet socket needs Linux 6.4; offload 'none' does not",
  ],
  ['mmap -12', 'there is no memory for rings of that size: make vhostRing smaller'],
]);

/** Why there is no data path; what opening vhost-net fails with is about its file. */
function pathError(
  { error, syscall }: Failure,
  offloadCall: string,
  context: SystemErrorContext,
  vhost: VhostConfig | undefined,
): Error {
  if (syscall === '') return systemError(error, offloadCall, context);
  const ofFile = syscall === 'open' || (syscall.startsWith('VHOST_') && syscall !== 'VHOST_NET_SET_BACKEND');
  return systemError(error, syscall, {
    ...(ofFile ? { path: vhost?.device } : context),
    hint: vhostHints.get(`${syscall} ${error}`),
  });
}

/** What of offload is in force on a socket. */
export class OffloadState {
  /** Nothing, as of a socket without virtio headers. */
  static readonly none = new OffloadState('none', 0);

  readonly mode: OffloadMode;
  /** TUN_F_*; undefined where another program has settled it. */
  readonly #granted: number | undefined;
  #refused = 0;

  private constructor(mode: OffloadMode, granted: number | undefined) {
    this.mode = mode;
    this.#granted = granted;
  }

  /**
   * Switches it on, and says so to the kernel: on each attach, since what another process has said outlives it. `shared`: other sockets
   * have the same device. `wanted`: features, where not all that the mode can do with. `vhost`: packets go
   * by vhost-net, if they do (handle.vhost()).
   */
  static enable(
    handle: SocketHandle,
    mode: OffloadMode,
    shared: boolean,
    syscall: string,
    context: SystemErrorContext,
    wanted = WANTED[mode],
    vhost?: VhostConfig,
  ): OffloadState {
    const granted = handle.openPath(
      wanted & WANTED[mode],
      mode === 'split',
      shared,
      vhost?.device,
      vhost?.ring ?? 0,
      vhost?.required ?? false,
    );
    if (typeof granted !== 'number') throw pathError(granted, syscall, context, vhost);
    return mode === 'none' || (mode === 'split' && granted === 0)
      ? OffloadState.none
      : new OffloadState(mode, granted);
  }

  /** That of a descriptor that something else opened. */
  static of(handle: SocketHandle): OffloadState {
    return OffloadState.found(handle.virtioHeader() !== 0);
  }

  /** The same where it is known whether that has any. */
  static found(on: boolean): OffloadState {
    return on ? new OffloadState('raw', undefined) : OffloadState.none;
  }

  get features(): readonly OffloadFeature[] | undefined {
    return this.#granted === undefined ? undefined : featuresIn(this.#granted & ~this.#refused);
  }

  /** What the kernel has refused since. */
  get refused(): OffloadFeature[] {
    return featuresIn(this.#refused & (this.#granted ?? this.#refused));
  }

  /**
   * Takes in what the kernel has refused, and tells who wants to know, once for each: on the next tick, since whoever hears of it may use
   * the socket, which is in the middle of a call.
   */
  noteRefused(refused: number, socket: object): void {
    const news = refused & ~this.#refused;
    if (news === 0) return;
    this.#refused |= news;
    const message: OffloadFallback = { socket, features: featuresIn(news) };
    process.nextTick(() => diagnosticsChannel().channel('tunsock:offload:fallback').publish(message));
  }
}
