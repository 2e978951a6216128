import { spawnSync } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { constants, Link, type TapOptions, TunSocket } from '../../dist';

/** Whether tc(8), of iproute2, is there for {@link slowLink}. */
export const HAS_TC = spawnSync('tc', ['-V']).error === undefined;
if (!HAS_TC) console.log('skipped: what needs tc(8), of the package iproute2');

export interface SlowLink extends Disposable {
  tap: TunSocket;
  release(): void;
}

/**
 * A tap device behind a bridge whose other port sends a packet in a few seconds: what is sent on the device stays in
 * the kernel, and counts against its send buffer, until release().
 */
export function slowLink(options: Partial<TapOptions> = {}): SlowLink {
  filterNothing();
  const bridge = Link.create({ type: 'bridge', name: 'slow', up: true });
  const port = Link.create({ type: 'veth', name: 'port', peer: { name: 'far' }, up: true });
  Link.get('far').up();
  port.setMaster(bridge);
  tc('add', 'tbf', 'rate', '1kbit', 'burst', '1600', 'limit', '1000000');
  const tap = TunSocket.open({ mode: 'tap', name: 'fast', ...options });
  tap.link.setMaster(bridge);
  // Not less: POLLOUT wants half of it free, and a frame counts with its overhead (sock_writeable()).
  tap.setSendBufferSize(16384);
  // The burst passes at once; from the next packet on they wait.
  tap.sendmsg(FRAME);
  return {
    tap,
    release() {
      tc('change', 'tbf', 'rate', '1gbit', 'burst', '100000', 'limit', '1000000');
    },
    [Symbol.dispose]() {
      tap[Symbol.dispose]();
      port.delete();
      bridge.delete();
    },
  };
}

/** A frame to nobody that the bridge knows, of a protocol for experiments: it leaves by the other port, and is not copied. */
export const FRAME = Buffer.concat([
  Buffer.from([2, 0, 0, 0, 0, 8, 2, 0, 0, 0, 0, 9, 0x88, 0xb5]),
  Buffer.alloc(1400),
]);

/** Where the kernel lets netfilter see what a bridge forwards, IP packets no longer count against their sender from there on. */
function filterNothing(): void {
  for (const family of ['iptables', 'ip6tables']) {
    const setting = `/proc/sys/net/bridge/bridge-nf-call-${family}`;
    if (existsSync(setting)) writeFileSync(setting, '0');
  }
}

function tc(action: string, ...qdisc: string[]): void {
  const { status, stderr } = spawnSync('tc', ['qdisc', action, 'dev', 'port', 'root', ...qdisc], {
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`tc: ${stderr}`);
}

/** Sends until the kernel has no room, which throws EAGAIN. */
export function fill(tap: TunSocket): void {
  for (let sends = 0; sends < 1000; sends++) tap.sendmsg(FRAME, constants.MSG_DONTWAIT);
}
