import { once } from 'node:events';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Link, Netns, TunSocket } from '../../dist';

/** More reports than the receive buffer of a netlink socket holds (net.core.rmem_default). */
const FLOOD = 400;

let ns: Netns;
let tun: TunSocket;
let link: Link;
beforeEach(async () => {
  ns = Netns.create();
  tun = TunSocket.open({ netns: ns, name: 'tun0' });
  link = ns.run(() => Link.get('tun0'));
  tun.on('message', () => {});
  await once(tun, 'listening');
  await pollPhase(); // in which the socket hears that its link came up
});
afterEach(() => {
  tun[Symbol.dispose]();
  ns.close();
});

/** Waits for one whole turn of the event loop: between two immediates it has polled. */
async function pollPhase(): Promise<void> {
  await new Promise(setImmediate);
  await new Promise(setImmediate);
}

/** All in one tick, so that the socket reads none of the reports until this is done. */
function flood(): void {
  for (let i = 0; i < FLOOD; i++) link.mtu = 1400 + (i % 2);
}

it('hears that its link went down after more reports than can be queued', async () => {
  flood();
  link.down();
  const [error] = await once(tun, 'error');
  expect(error).toMatchObject({ code: 'ENETDOWN', interface: 'tun0' });
  expect(tun.closed).toBe(false);
});

it('hears that its link was deleted after more reports than can be queued', async () => {
  const closed = new Promise<void>((resolve) => tun.on('close', resolve));
  flood();
  link.delete();
  const [error] = await once(tun, 'error');
  expect(error).toMatchObject({ code: 'EBADFD' });
  await closed;
});

it('goes on after more reports than can be queued about a link that stays up', async () => {
  flood();
  await pollPhase();
  expect(tun.closed).toBe(false);
  link.down();
  const [error] = await once(tun, 'error');
  expect(error).toMatchObject({ code: 'ENETDOWN' });
});
