import { afterEach, beforeEach, expect, it } from 'vitest';
import { Link } from '../../dist';
import { Host, Router } from '../../examples/router';
import { ECHO_SERVER, echoClient, posted } from '../../examples/stage';

let router: Router;
let alice: Host;
let bob: Host;
beforeEach(() => {
  router = new Router();
  alice = new Host(router, '10.0.1.2');
  bob = new Host(router, '10.0.2.2');
});
afterEach(async () => {
  await Promise.all([alice.close(), bob.close()]);
});

it('two hosts talk by net and dgram sockets through the router', async () => {
  expect(await posted(bob.run(ECHO_SERVER))).toBe('ready');
  const text = 'a word '.repeat(20_000);
  expect(await posted(alice.run(echoClient('10.0.2.2', text)))).toEqual({
    tcp: text,
    udp: text.slice(0, 1000),
    peer: '10.0.2.2',
  });
  // 140000 bytes each way, in packets of 1500.
  expect(router.forwarded).toBeGreaterThan(200);
});

it('each host sees its own interfaces only', () => {
  const names = (host: Host) => host.netns.run(() => Link.list().map(({ name }) => name));
  expect([names(alice), names(bob)]).toEqual([
    ['lo', 'eth0'],
    ['lo', 'eth0'],
  ]);
});

it('the router drops what is for nobody', async () => {
  const program = `
    require('node:dgram').createSocket('udp4').send('x', 7, '10.0.3.2', () => {
      require('node:worker_threads').parentPort.postMessage('sent');
    });`;
  const before = router.dropped;
  expect(await posted(alice.run(program))).toBe('sent');
  while (router.dropped === before) await new Promise(setImmediate);
  expect(router.forwarded).toBe(0);
});
