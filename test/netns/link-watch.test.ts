import { once } from 'node:events';
import { readdirSync, readlinkSync } from 'node:fs';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { Link, type LinkChange, Netns, PacketSocket, TunSocket } from '../../dist';

/** More reports than the receive buffer of the subscription holds, which is two megabytes. */
const FLOOD = 4000;

let ns: Netns;
let tun: TunSocket;
let link: Link;
let changes: LinkChange[];
beforeEach(async () => {
  ns = Netns.create();
  tun = TunSocket.open({ netns: ns, name: 'tun0' });
  link = ns.run(() => Link.get('tun0'));
  changes = [];
  tun.on('link', (change) => changes.push(change));
  await once(tun, 'listening');
  await pollPhase();
  changes.length = 0; // its carrier may have come a moment after it came up
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
async function told(kind: string): Promise<LinkChange> {
  for (;;) {
    const found = changes.find((change) => change.kind === kind);
    if (found !== undefined) return found;
    await once(tun, 'link');
  }
}
/** What a descriptor refers to; nothing for the one that reads the folder. */
function linkOf(fd: string): string | undefined {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return undefined;
  }
}
const kinds = () => changes.map(({ kind }) => kind);

/** All in one tick, so that none of the reports is read until this is done. */
function flood(): void {
  for (let i = 0; i < FLOOD; i++) link.mtu = 1400 + (i % 2);
}

it('hears that its link goes down and up: no error', async () => {
  link.down();
  const down = await told('down');
  expect([down.link.name, down.before?.up, down.after?.up]).toEqual(['tun0', true, false]);
  link.up();
  await told('up');
  expect(tun.closed).toBe(false);
});

it('hears that its link went down after more reports than can be queued', async () => {
  flood();
  link.down();
  await told('down');
  expect(kinds().length).toBeLessThan(FLOOD);
  expect(tun.closed).toBe(false);
});

it('hears that its link was deleted after more reports than can be queued', async () => {
  const failed = once(tun, 'error');
  const closed = new Promise<void>((resolve) => tun.on('close', resolve));
  flood();
  link.delete();
  expect(await failed).toMatchObject([{ code: 'EBADFD' }]);
  await closed;
});

it('goes on after more reports than can be queued about a link that stays up', async () => {
  flood();
  await pollPhase();
  link.down();
  await told('down');
  expect((await told('mtu')).before?.mtu).toBe(1500);
});

it('follows a rename', async () => {
  link.rename('other');
  const renamed = await told('renamed');
  expect([renamed.before?.name, renamed.after?.name, tun.name]).toEqual(['tun0', 'other', 'other']);
});

it.each([false, true])(
  'follows a device to another namespace, lost reports %j; a stranger with its index is nothing to it',
  async (lost) => {
    using there = Netns.create();
    const { index } = link;
    if (lost) flood();
    link.moveTo(there);
    ns.run(() => {
      // The index is free again, and a new device asks for it by moving in with it.
      Link.create({ type: 'veth', name: 'stranger', peer: { name: 'peer' } });
    });
    const moved = await told('moved');
    expect([moved.indexInNetns, moved.link.index, tun.index]).toEqual([link.index, link.index, link.index]);
    expect(index).toBeGreaterThan(0);
    changes.length = 0;
    link.up();
    await told('up');
    link.down();
    const down = await told('down');
    expect(down.link.isUp).toBe(false);
    expect(tun.closed).toBe(false);
  },
);

it('hears of it also when the Netns that it was opened with is closed', async () => {
  const other = Netns.open(`/proc/self/fd/${ns.fd}`);
  using packet = PacketSocket.open({ netns: other, interface: 'tun0', type: 'dgram' });
  other.close();
  const heard = once(packet, 'link') as Promise<[LinkChange]>;
  await pollPhase();
  link.down();
  const [{ kind, link: of }] = await heard;
  expect([kind, of.isUp]).toEqual(['down', false]);
});

it('costs one subscription for all sockets of a namespace, and none when nobody listens', async () => {
  const descriptors = () => readdirSync('/proc/self/fd').length;
  const before = descriptors();
  const sockets = Array.from({ length: 5 }, () =>
    PacketSocket.open({ netns: ns, interface: 'tun0', type: 'dgram' }),
  );
  for (const socket of sockets) socket.on('link', () => {});
  await pollPhase();
  expect(descriptors()).toBe(before + 5);
  for (const socket of sockets) socket.close();
  tun.removeAllListeners('link');
  // A subscription that nobody wants any more lingers for a second.
  await vi.waitFor(() => expect(descriptors()).toBe(before - 2), 10_000);
});

it('is the same subscription as long as receive() is called again and again', async () => {
  using socket = PacketSocket.open({ netns: ns, interface: 'tun0', type: 'dgram' });
  /** What is open, by number: a socket that is made anew has another inode. */
  const open = () => readdirSync('/proc/self/fd').map((fd) => [fd, linkOf(fd)]);
  tun.removeAllListeners('link');
  const seen: unknown[] = [];
  for (let count = 0; count < 3; count++) {
    const received = socket.receive();
    await pollPhase();
    seen.push(open());
    link.down();
    link.up();
    tun.send(Buffer.from('4500001c00000000400166df0a0000020a0000010800f7ff00000000', 'hex'));
    await received;
    await pollPhase();
    seen.push(open());
  }
  for (const descriptors of seen) expect(descriptors).toEqual(seen[0]);
});

it('hears of a device that moved just after nobody wanted to hear of it any more', async () => {
  using other = Netns.create();
  tun.removeAllListeners('link');
  await pollPhase();
  link.moveTo(other);
  await pollPhase(); // within the second for which it is heard of still
  tun.on('link', (change) => changes.push(change));
  await pollPhase();
  other.run(() => Link.get('tun0').up());
  expect((await told('up')).link.name).toBe('tun0');
});
