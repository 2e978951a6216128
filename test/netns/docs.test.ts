import { once } from 'node:events';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Link, Netns, PacketSocket } from '../../dist';
import { echoRequest, readIp } from '../../dist/packets';
import { compile, extract } from '../helpers/documents';

const all = extract();

beforeAll(() => {
  compile(all.folder);
}, 120_000);
afterAll(() => all[Symbol.dispose]());

/** Starts it in a namespace of its own. */
function start(ns: Netns, program: string) {
  const child = ns.spawn(process.execPath, [program], { stdio: ['ignore', 'pipe', 'pipe'] });
  const said = { out: '', error: '' };
  child.stdout?.setEncoding('utf8').on('data', (text) => {
    said.out += text;
  });
  child.stderr?.setEncoding('utf8').on('data', (text) => {
    said.error += text;
  });
  return { child, said };
}

describe('code in documents', () => {
  it.for(all.blocks.filter(({ mark }) => mark === 'runs'))('$where runs to its end', async ({ program }) => {
    using ns = Netns.create();
    const { child, said } = start(ns, program);
    const [status] = await once(child, 'close', { signal: AbortSignal.timeout(20_000) });
    expect(said.error).toBe('');
    expect(status).toBe(0);
  });

  it.for(all.blocks.filter(({ mark }) => mark === 'answers'))(
    '$where answers pings, and goes on when the link was down',
    async ({ program }) => {
      using ns = Netns.create();
      const { child, said } = start(ns, program);
      try {
        const link = await tunnel(ns, child);
        for (const [from, to] of [
          ['10.0.0.1', '10.0.0.2'],
          ['fd00::1', 'fd00::2'],
        ] as const) {
          expect(await answered(ns, from, to)).toBe(true);
        }
        link.down();
        link.up();
        expect(await answered(ns, '10.0.0.1', '10.0.0.2')).toBe(true);
        expect(said.error).toBe('');
      } finally {
        const closed = once(child, 'close');
        child.kill();
        await closed;
      }
    },
  );
});

/** The program's device, once it is up. */
async function tunnel(ns: Netns, child: { exitCode: number | null }) {
  for (let tries = 0; tries < 200; tries++) {
    const link = ns.run(() => Link.list().find(({ name, isUp }) => name === 'tun0' && isUp));
    if (link !== undefined && link.addresses().length >= 2) return link;
    if (child.exitCode !== null) break;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error('the program has made no device');
}

/** Pings on the host's side of the device: the request is given to the device, as a route would. */
async function answered(ns: Netns, from: string, to: string): Promise<boolean> {
  using socket = PacketSocket.open({ interface: 'tun0', netns: ns, ignoreOutgoing: true });
  const signal = AbortSignal.timeout(5000);
  socket.send(echoRequest(from, to, { id: 1, sequence: 1 }, Buffer.from('how are you?')));
  for (;;) {
    const ip = readIp(await socket.receive({ signal }));
    if (ip !== undefined && ip.source === to && ip.destination === from) return true;
  }
}
