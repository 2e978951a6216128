import { execFileSync, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { Link, Netns } from '../../dist';

const dist = join(__dirname, '../../dist');
const prelude = `
  const { Link, Netns } = require(${JSON.stringify(dist)});
  const fs = require('node:fs');
  const inode = () => fs.statSync('/proc/thread-self/ns/net').ino;
`;
const closed = expect.objectContaining({
  code: 'ERR_SOCKET_CLOSED',
  message: 'the network namespace is closed',
});
const notNetns = expect.objectContaining({ code: 'EINVAL', syscall: 'NS_GET_NSTYPE' });

/** The namespace that this thread is in. */
const here = () => statSync('/proc/thread-self/ns/net').ino;
const descriptors = () => readdirSync('/proc/self/fd').length;

/** Runs a program of its own, and returns what it printed, as JSON. */
function program(code: string, nodeOptions: string[] = []): unknown {
  return JSON.parse(
    execFileSync(process.execPath, [...nodeOptions, '-e', prelude + code], { encoding: 'utf8' }),
  );
}

/** What a Worker posts first; it has then ended. */
async function inWorker(code: string): Promise<unknown> {
  const worker = new Worker(`const { parentPort } = require('node:worker_threads'); ${prelude} ${code}`, {
    eval: true,
  });
  const ended = new Promise<void>((resolve) => worker.once('exit', () => resolve()));
  const message = await new Promise((resolve, reject) =>
    worker.once('message', resolve).once('error', reject),
  );
  await ended;
  return message;
}

describe('create', () => {
  it('makes a namespace with loopback up, and leaves the thread where it was', () => {
    const before = here();
    using ns = Netns.create();
    expect(here()).toBe(before);
    expect(ns.inode).not.toBe(before);
    expect(statSync(`/proc/self/fd/${ns.fd}`).ino).toBe(ns.inode);
    expect(ns.run(() => Link.list().map(({ name, isUp }) => [name, isUp]))).toEqual([['lo', true]]);
  });

  it('leaves loopback down when asked to', () => {
    using ns = Netns.create({ loopback: false });
    expect(ns.run(() => Link.get('lo').isUp)).toBe(false);
  });

  it('refuses options that it does not have', () => {
    expect(() => Netns.create({ loopback: 1 } as never)).toThrow(TypeError);
    expect(() => Netns.create({ lo: true } as never)).toThrow(TypeError);
  });

  it('gives back every descriptor, a thousand times', () => {
    const before = descriptors();
    for (let i = 0; i < 1000; i++) {
      const ns = Netns.create({ loopback: false });
      ns.run(() => ns.run(here));
      ns.close();
    }
    expect(descriptors()).toBe(before);
  });
});

describe('open', () => {
  it('takes a process id and a path', () => {
    using ns = Netns.create();
    using byPath = Netns.open(`/proc/self/fd/${ns.fd}`);
    using byPid = Netns.open(process.pid);
    expect(byPath.inode).toBe(ns.inode);
    expect(byPid.inode).toBe(here());
  });

  it('looks for a bare name in /run/netns', () => {
    expect(() => Netns.open('tunsock-test-none')).toThrow(
      expect.objectContaining({ code: 'ENOENT', syscall: 'open', path: '/run/netns/tunsock-test-none' }),
    );
  });

  it('refuses what is no network namespace, and leaves no descriptor', () => {
    const before = descriptors();
    for (const path of ['/proc/self/ns/mnt', '/dev/null', '/tmp/', __filename]) {
      expect(() => Netns.open(path)).toThrow(notNetns);
    }
    expect(() => Netns.open('/no/such/file')).toThrow(expect.objectContaining({ code: 'ENOENT' }));
    expect(() => Netns.open(2 ** 31 - 1)).toThrow(expect.objectContaining({ code: 'ENOENT' }));
    expect(descriptors()).toBe(before);
  });

  it.each([undefined, null, {}, '', '.', '..', 'a\0b'])('refuses %j', (target) =>
    expect(() => Netns.open(target as never)).toThrow(TypeError),
  );
  it.each([0, -1, 1.5, Number.NaN, 2 ** 31])('refuses process %d', (pid) =>
    expect(() => Netns.open(pid)).toThrow(RangeError),
  );
});

describe('run', () => {
  it('gives the value, and brings the thread back', () => {
    using ns = Netns.create();
    const before = here();
    expect(ns.run(here)).toBe(ns.inode);
    expect(here()).toBe(before);
    expect(ns.run(() => undefined)).toBeUndefined();
  });

  it('brings the thread back when the function throws, and lets through what it threw', () => {
    using ns = Netns.create();
    const before = here();
    const error = new Error('mine');
    expect(() =>
      ns.run(() => {
        throw error;
      }),
    ).toThrow(error);
    expect(here()).toBe(before);
    let thrown: unknown = 'nothing';
    try {
      ns.run(() => {
        throw undefined;
      });
    } catch (value) {
      thrown = value;
    }
    expect(thrown).toBeUndefined();
    expect(here()).toBe(before);
  });

  it('nests, also when the outer one is closed meanwhile', () => {
    const before = here();
    const outer = Netns.create();
    using inner = Netns.create();
    const seen = outer.run(() => {
      outer.close();
      const first = here();
      const second = inner.run(() => {
        using current = Netns.current();
        return current.inode;
      });
      return [first, second, here() === first];
    });
    expect(seen).toEqual([expect.any(Number), inner.inode, true]);
    expect(here()).toBe(before);
  });

  it('refuses functions that go on later', () => {
    using ns = Netns.create();
    const before = here();
    let called = false;
    const asynchronous = async () => {
      called = true;
    };
    const misuse = expect.objectContaining({ name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE' });
    expect(() => ns.run(asynchronous)).toThrow(misuse);
    expect(called).toBe(false);
    expect(() => ns.run(() => Promise.resolve())).toThrow(misuse);
    expect(() => ns.run('x' as never)).toThrow(TypeError);
    expect(here()).toBe(before);
  });

  it('a child process that it starts lives in the namespace', () => {
    using ns = Netns.create();
    const link = ns.run(() => execFileSync('readlink', ['/proc/self/ns/net'], { encoding: 'utf8' }));
    expect(link.trim()).toBe(`net:[${ns.inode}]`);
  });

  it('a Worker that it starts lives in the namespace', async () => {
    using ns = Netns.create();
    expect(await ns.run(() => [inWorker('parentPort.postMessage(inode())')])[0]).toBe(ns.inode);
  });

  it('ends the process when the thread cannot be brought back', () => {
    const result = spawnSync(
      process.execPath,
      [
        '-e',
        `${prelude}
        const ns = Netns.create();
        ns.run(() => {
          for (const fd of fs.readdirSync('/proc/self/fd')) {
            let target = '';
            try { target = fs.readlinkSync('/proc/self/fd/' + fd); } catch {}
            if (target.startsWith('net:[')) fs.closeSync(Number(fd));
          }
        });
        console.log('went on');`,
      ],
      { encoding: 'utf8' },
    );
    expect(result.signal).toBe('SIGABRT');
    expect(result.stdout).toBe('');
    expect(result.stderr).toContain("this thread can't be brought back to its network namespace");
  });

  it("leaves Node's own threads where they were", () => {
    // The first use of anything: the thread pool has not started when run() is called.
    const { home, inside, threads } = program(`
      const ns = Netns.create();
      const home = inode();
      ns.run(() => fs.promises.stat('/').then(() => {}) && undefined);
      fs.readFile('/dev/null', () => {
        const threads = fs.readdirSync('/proc/self/task').map((id) => fs.statSync('/proc/self/task/' + id + '/ns/net').ino);
        console.log(JSON.stringify({ home, inside: ns.inode, threads }));
      });
    `) as { home: number; inside: number; threads: number[] };
    expect(inside).not.toBe(home);
    expect(threads.length).toBeGreaterThan(8);
    expect(new Set(threads)).toEqual(new Set([home]));
  });
});

describe('enter', () => {
  it('moves a Worker for good, and no other thread', async () => {
    using ns = Netns.create();
    const before = here();
    const result = await inWorker(`
      const old = Link.get('lo');
      const home = inode();
      const mtu = old.mtu;
      const ns = Netns.open('/proc/self/fd/${ns.fd}');
      ns.enter();
      ns.close();
      const entered = Link.get('lo');
      entered.mtu = 1400;
      setImmediate(() => {
        const other = Netns.create();
        const inOther = other.run(() => [entered.mtu, old.mtu === mtu, inode() === other.inode]);
        parentPort.postMessage({ home, now: inode(), inOther, mtu: entered.mtu, oldKept: old.mtu === mtu });
      });
    `);
    expect(result).toEqual({
      home: before,
      now: ns.inode,
      inOther: [1400, true, true],
      mtu: 1400,
      oldKept: true,
    });
    expect(here()).toBe(before);
  });

  it('is refused inside run, which goes back', () => {
    using ns = Netns.create();
    expect(() => ns.run(() => ns.enter())).toThrow(expect.objectContaining({ code: 'ERR_INVALID_STATE' }));
  });
});

describe('close', () => {
  it('is idempotent, and use after it throws', () => {
    const ns = Netns.create();
    ns.close();
    ns.close();
    ns[Symbol.dispose]();
    expect(ns.fd).toBe(-1);
    expect(() => ns.run(here)).toThrow(closed);
    expect(() => ns.enter()).toThrow(closed);
    expect(() => ns.inode).toThrow(closed);
  });

  it('is done by the garbage collector for what was forgotten', () => {
    const [before, after] = program(
      `
      const count = () => fs.readdirSync('/proc/self/fd').length;
      Netns.create().close();
      const before = count();
      for (let i = 0; i < 50; i++) Netns.create();
      setImmediate(() => {
        gc();
        setImmediate(() => console.log(JSON.stringify([before, count()])));
      });
    `,
      ['--expose-gc'],
    ) as [number, number];
    // The last one may still be on the stack's conservative roots.
    expect(after - before).toBeLessThanOrEqual(1);
  });
});

describe('Workers', () => {
  it('switch at the same time, each its own thread', async () => {
    const before = here();
    const count = descriptors();
    const results = await Promise.all(
      Array.from({ length: 6 }, () =>
        inWorker(`
          const home = inode();
          let right = 0;
          for (let i = 0; i < 50; i++) {
            const ns = Netns.create();
            if (ns.run(inode) === ns.inode && inode() === home) right++;
            ns.close();
          }
          parentPort.postMessage([home, right]);
        `),
      ),
    );
    expect(results).toEqual(Array.from({ length: 6 }, () => [before, 50]));
    expect(descriptors()).toBe(count);
  });

  it('can end inside run, and in the middle of starting the pool', () => {
    const codes = program(`
      const { Worker } = require('node:worker_threads');
      const run = (body) => new Promise((resolve) => {
        const worker = new Worker(${JSON.stringify(prelude)} + body, { eval: true });
        worker.once('exit', resolve).once('message', () => worker.terminate());
      });
      (async () => {
        const codes = [];
        codes.push(await run('Netns.create().run(() => process.exit(7))'));
        codes.push(await run('Netns.create().run(() => { require("node:worker_threads").parentPort.postMessage(1); for (;;) {} })'));
        codes.push(await run('Netns.create().run(() => {})'));
        console.log(JSON.stringify(codes));
      })();
    `);
    expect(codes).toEqual([7, 1, 0]);
  });
});

// Only a process that knows another user can give up its rights: not one under `unshare -Urn`, which knows root alone.
const [, , mappedUsers] = readFileSync('/proc/self/uid_map', 'utf8').trim().split(/\s+/);
describe.runIf(process.getuid?.() === 0 && Number(mappedUsers) > 65534)('without privilege', () => {
  it('says which one is missing', () => {
    // The addon is loaded first: the other user may have no way to the folder that it is in.
    const messages = program(`
      Netns.current().close();
      process.setgroups([]);
      process.setgid(65534);
      process.setuid(65534);
      const attempt = (fn) => { try { fn(); return 'done'; } catch (error) { return [error.code, error.syscall, error.message]; } };
      console.log(JSON.stringify([
        attempt(() => Netns.create()),
        attempt(() => Netns.current().run(() => 0)),
        attempt(() => Link.get('lo').up()),
        attempt(() => Link.create({ type: 'bridge', name: 'br0' })),
      ]));
    `) as [string, string, string][];
    expect(messages.map(([code, syscall]) => [code, syscall])).toEqual([
      ['EPERM', 'unshare'],
      ['EPERM', 'setns'],
      ['EPERM', 'RTM_SETLINK'],
      ['EPERM', 'RTM_NEWLINK'],
    ]);
    for (const [, , message] of messages) expect(message).toContain('unshare -Urn');
    expect(messages[0]?.[2]).toContain('CAP_SYS_ADMIN');
    expect(messages[2]?.[2]).toContain('CAP_NET_ADMIN');
  });
});
