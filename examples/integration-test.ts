/**
 * An integration test of a network program that needs no sudo: under 'tunsock run' each test has its own network. Here a client
 * that gives up on a server that has fallen silent is tested: with a real connection, of which the cable is cut.
 *
 *     npx tunsock run -- node --test integration-test.js
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { describe, it } from 'node:test';
import { Link, Netns, TunSocket } from 'tunsock';
import { ECHO_SERVER, posted, runIn } from './stage';

/** The program that is tested: says something each 20 ms; fails when it has had no answer for `patience` ms. */
async function talk(host: string, patience: number, enough: number): Promise<number> {
  const socket = connect(7, host);
  let answers = 0;
  socket.on('data', () => {
    answers += 1;
  });
  const timer = setInterval(() => socket.write('.'), 20);
  try {
    while (answers < enough) await once(socket, 'data', { signal: AbortSignal.timeout(patience) });
    return answers;
  } catch (error) {
    if ((error as Error).name !== 'AbortError') throw error;
    throw new Error(`no answer for ${patience} ms`, { cause: error });
  } finally {
    clearInterval(timer);
    socket.destroy();
  }
}

/** A server in a namespace of its own, and a cable to it that can be cut. */
async function network() {
  const netns = Netns.create();
  const near = TunSocket.open({ name: 'near0', address: '10.0.1.1/24', routes: '10.0.2.0/24' });
  const far = TunSocket.open({ netns, address: '10.0.2.1/24', routes: '10.0.1.0/24' });
  let whole = true;
  near.on('message', (packet) => whole && far.send(packet));
  far.on('message', (packet) => whole && near.send(packet));
  const server = runIn(netns, ECHO_SERVER);
  await posted(server);
  return {
    host: '10.0.2.1',
    cut: () => {
      whole = false;
    },
    async [Symbol.asyncDispose]() {
      await server.terminate();
      for (const closable of [near, far, netns]) closable.close();
    },
  };
}

describe('a client', () => {
  it('has answers while the cable is whole', async () => {
    await using net = await network();
    assert.ok((await talk(net.host, 2000, 3)) >= 3);
  });

  it('gives up when the cable is cut', async () => {
    await using net = await network();
    setTimeout(net.cut, 100);
    await assert.rejects(talk(net.host, 300, 1000), /no answer for 300 ms/);
  });

  it('leaves no device behind', () => {
    assert.deepEqual(
      Link.list().map(({ name }) => name),
      ['lo'],
    );
  });
});
