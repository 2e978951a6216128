import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { IS_REAL_ROOT } from '../helpers/kernel';
import { HAS_SETPRIV, POWERLESS } from '../helpers/powerless';

/**
 * A device whose network namespace the process that has its descriptor may not enter: setns(2) wants CAP_SYS_ADMIN in the process's own user
 * namespace.
 */

const dist = join(__dirname, '../../dist');
/** Makes the device in namespaces of its own, hands it over, and does there what it is told to. */
const INSIDE = `
  const { DescriptorChannel, Link, TunSocket } = require(${JSON.stringify(dist)});
  const channel = DescriptorChannel.fromFd(3);
  const tun = TunSocket.open({ name: 'inner0', address: '10.0.0.1/24', addressGeneration: 'none', multiQueue: true, persist: true });
  channel.send(tun);
  tun.close();
  const host = require('node:dgram').createSocket('udp4');
  const orders = {
    ping: () => new Promise((resolve) => {
      host.once('message', (message) => resolve(String(message)));
      host.send('ping', 7, '10.0.0.2');
    }),
    rename: () => { const link = Link.get('inner0'); link.down(); link.rename('other0'); },
    delete: () => Link.get('other0').delete(),
  };
  (async () => {
    for await (const { data } of channel) channel.send([], Buffer.from(String(await orders[data]() ?? 'done')));
    process.exit(0);
  })();`;

/** What `work` leaves in `result`, of a process that got the device as `tun`; `ask(order)` has the program inside do something. */
function run(command: string[], work: string, before = ''): Record<string, unknown> {
  const script = `
    const { DescriptorChannel, Link, TunSocket } = require(${JSON.stringify(dist)});
    const { rewriteEndpoints } = require(${JSON.stringify(join(dist, 'packets'))});
    const { once } = require('node:events');
    const code = (fn) => { try { fn(); } catch (error) { return error.code; } };
    const [ours, theirs] = DescriptorChannel.pair();
    require('node:child_process').spawn('unshare', ['-Urn', process.execPath, '-e', ${JSON.stringify(INSIDE)}], {
      stdio: ['ignore', 'inherit', 'inherit', theirs.fd],
    });
    theirs.close();
    const ask = async (order) => {
      ours.send([], Buffer.from(order));
      return String((await ours.receive()).data);
    };
    const answer = (packet) => {
      rewriteEndpoints(packet, {
        source: '10.0.0.2', destination: '10.0.0.1', sourcePort: 7, destinationPort: packet.readUInt16BE(20),
      });
      return packet;
    };
    (async () => {
      ${before}
      const { sockets, descriptors } = await ours.receive();
      const [tun] = sockets;
      const result = { descriptors: descriptors.length };
      ${work}
      console.log(JSON.stringify(result));
      process.exit(0);
    })();`;
  const words = [...command, process.execPath, '-e', script];
  const { stdout, stderr } = spawnSync(words[0] as string, words.slice(1), {
    encoding: 'utf8',
    timeout: 30_000,
  });
  expect(stderr).toBe('');
  return JSON.parse(stdout);
}

/** What holds wherever there is no link. */
const WITHOUT_LINK = `
  result.name = tun.name;
  result.index = tun.index;
  result.link = code(() => tun.link);
  result.openQueue = code(() => tun.openQueue());
  const { mode, multiQueue, persist, owner, queues, linkType } = tun.info();
  result.info = [mode, multiQueue, persist, owner ?? null, queues ?? null, linkType ?? null];`;
const SEEN = {
  descriptors: 0,
  name: 'inner0',
  index: 0,
  link: 'ERR_INVALID_STATE',
  openQueue: 'ERR_INVALID_STATE',
  info: ['tun', true, true, null, null, null],
};

describe.runIf(HAS_SETPRIV)('a device in a namespace that its owner may not enter', () => {
  it('carries packets by every call, and says that there is no link', () => {
    const work = `
      ${WITHOUT_LINK}
      result.listener = [];
      const reply = (packet) => tun.send(answer(packet));
      tun.on('message', reply);
      tun.on('link', ({ kind }) => result.listener.push(kind));
      result.listener.push(await ask('ping'));
      tun.off('message', reply);
      const asked = ask('ping');
      tun.sendmsg(answer(await tun.receive()));
      result.receive = await asked;
      const fd = tun.detach();
      const again = TunSocket.fromFd(fd);
      const third = ask('ping');
      again.sendmsg(answer(await again.receive()));
      result.again = [again.fd === fd, await third];
      again.setSendBufferSize(100000);
      result.controls = [again.getSendBufferSize(), again.queueAttached, code(() => again.link)];`;
    expect(run(POWERLESS, work)).toEqual({
      ...SEEN,
      listener: ['ping'],
      receive: 'ping',
      again: [true, 'ping'],
      controls: [100_000, true, 'ERR_INVALID_STATE'],
    });
  });

  it('has its name followed, is told as down by EIO, and as gone by EBADFD', () => {
    const work = `
      await ask('rename');
      result.name = tun.name;
      result.down = code(() => tun.sendmsg(Buffer.concat([Buffer.from([0x45]), Buffer.alloc(39)])));
      const gone = once(tun, 'error');
      const closed = new Promise((resolve) => tun.once('close', resolve));
      tun.on('message', () => {});
      await ask('delete');
      result.error = (await gone)[0].code;
      await closed;
      result.closed = tun.closed;`;
    expect(run(POWERLESS, work)).toEqual({
      descriptors: 0,
      name: 'other0',
      down: 'EIO',
      error: 'EBADFD',
      closed: true,
    });
  });
});

describe.runIf(IS_REAL_ROOT)('a device in a namespace of which the kernel does not tell another user', () => {
  // TUNGETDEVNETNS wants CAP_NET_ADMIN there.
  const drop = 'process.setgroups([]); process.setgid(65534); process.setuid(65534);';

  it('is no interface of this namespace with the same name', () => {
    const before = `
      require(${JSON.stringify(dist)}).Netns.create().enter();
      Link.create({ type: 'bridge', name: 'inner0' });
      ${drop}`;
    expect(run([], WITHOUT_LINK, before)).toEqual(SEEN);
  });

  it('carries packets', () => {
    const work = `
      ${WITHOUT_LINK}
      tun.on('message', (packet) => tun.send(answer(packet)));
      result.ping = await ask('ping');`;
    expect(run([], work, drop)).toEqual({ ...SEEN, ping: 'ping' });
  });
});

describe.runIf(IS_REAL_ROOT)('a device in a namespace of which this process is root', () => {
  it('has its link', () => {
    const work = `
      result.link = [tun.index === tun.link.index, tun.link.addresses().length];
      const queue = tun.openQueue();
      result.queues = tun.info().queues;
      queue.close();`;
    expect(run([], work)).toEqual({ descriptors: 0, link: [true, 1], queues: 2 });
  });
});
