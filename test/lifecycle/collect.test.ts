import { spawnSync } from 'node:child_process';
import { expect, it } from 'vitest';

/** Runs a script with a collector at hand, in a network namespace of its own; what it prints as JSON. */
function run(script: string): { status: number | null; stderr: string; result: Record<string, number> } {
  const program = `
    const { TunSocket } = require('./dist');
    const { readdirSync } = require('node:fs');
    const open = () => readdirSync('/proc/self/fd').length;
    const settle = async () => {
      for (let turns = 0; turns < 20; turns++) {
        gc();
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    };
    (async () => { ${script} })();`;
  const command = [process.execPath, '--expose-gc', '-e', program];
  const { status, stdout, stderr } = spawnSync('unshare', ['-n', ...command], {
    encoding: 'utf8',
    timeout: 60_000,
  });
  return { status, stderr, result: JSON.parse(stdout || '{}') };
}

it("sockets that are dropped are collected, also those with an 'error' and a 'close' listener", () => {
  const { status, stderr, result } = run(`
    TunSocket.open().close();
    await settle();
    const before = open();
    for (let count = 0; count < 20; count++) {
      const tun = TunSocket.open();
      tun.on('error', () => {});
      tun.on('close', () => {});
    }
    await settle();
    console.log(JSON.stringify({ left: open() - before }));`);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  // The subscription to changes of links is one for all.
  expect(result.left).toBeLessThanOrEqual(3);
});

it('sockets with a signal that lives long are collected, and cause no warning', () => {
  const { status, stderr, result } = run(`
    const { signal } = new AbortController();
    TunSocket.open({ signal }).close();
    await settle();
    const before = open();
    for (let count = 0; count < 30; count++) TunSocket.open({ signal });
    await settle();
    console.log(JSON.stringify({ left: open() - before }));`);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  expect(result.left).toBeLessThanOrEqual(3);
});

it('a signal closes all its sockets', () => {
  const { status, result } = run(`
    const control = new AbortController();
    const sockets = Array.from({ length: 15 }, () => TunSocket.open({ signal: control.signal }));
    control.abort();
    console.log(JSON.stringify({ closed: sockets.filter((socket) => socket.closed).length }));`);
  expect(status).toBe(0);
  expect(result.closed).toBe(15);
});

it('a flood of receive() calls that are aborted leaves nothing waiting', () => {
  const { status, stderr, result } = run(`
    // Down, since the host greets its neighbours otherwise.
    const tun = TunSocket.open({ up: false });
    const control = new AbortController();
    const codes = [];
    const waiting = Array.from({ length: 100 }, () => tun.receive({ signal: control.signal }).catch((error) => codes.push(error.code)));
    control.abort();
    await Promise.all(waiting);
    console.log(JSON.stringify({ aborted: codes.filter((code) => code === 'ABORT_ERR').length }));`);
  // It ends by itself: nobody waits for packets any more.
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  expect(result.aborted).toBe(100);
});
