import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { Netns, type SystemError } from 'tunsock';

/** What the examples share: where they run, and programs with ordinary sockets in other namespaces. */

/**
 * Moves this process into a new network namespace, so that nothing it does touches the host's network. Without
 * privilege it starts the program again under unshare -Urn, which needs none, and ends as that does.
 */
function enterOwnNamespace(): void {
  try {
    Netns.create().enter();
  } catch (error) {
    if ((error as SystemError).code !== 'EPERM' || process.env.TUNSOCK_UNSHARED !== undefined) throw error;
    const { status, error: failure } = spawnSync(
      'unshare',
      ['-Urn', process.execPath, ...process.argv.slice(1)],
      { stdio: 'inherit', env: { ...process.env, TUNSOCK_UNSHARED: '1' } },
    );
    if (failure !== undefined) throw failure;
    if (status !== 0) console.error('Where unprivileged user namespaces are switched off, run this as root.');
    process.exit(status ?? 1);
  }
}

/** Runs an example where its file was started, and not where a test imports it. */
export function runExample(file: NodeModule, main: () => Promise<void>): void {
  if (require.main !== file) return;
  enterOwnNamespace();
  main().catch((error) => {
    console.error(error);
    process.exitCode = 1;
  });
}

/** Runs a program (CommonJS, as text) in a namespace: a thread stays in the one that it was started in. */
export function runIn(netns: Netns, program: string): Worker {
  return netns.run(() => new Worker(program, { eval: true }));
}

/** What a program posts next; throws what it throws. */
export async function posted(worker: Worker): Promise<unknown> {
  return (await once(worker, 'message', { signal: AbortSignal.timeout(10_000) }))[0];
}

/** Echoes over TCP and UDP on port 7; posts 'ready', then who connected. */
export const ECHO_SERVER = `
  const { parentPort } = require('node:worker_threads');
  const tcp = require('node:net').createServer((connection) => {
    parentPort.postMessage(connection.remoteAddress);
    connection.pipe(connection);
  });
  const udp = require('node:dgram').createSocket('udp4');
  udp.on('message', (message, from) => udp.send(message, from.port, from.address));
  const { once } = require('node:events');
  Promise.all([once(tcp.listen(7, '0.0.0.0'), 'listening'), once(udp.bind(7), 'listening')]).then(() => parentPort.postMessage('ready'));
`;

/** Says something over TCP and UDP; posts { tcp, udp, peer }: what came back, and who sent it. */
export const echoClient = (server: string, text: string): string => `
  const { parentPort } = require('node:worker_threads');
  const { once } = require('node:events');
  async function main() {
    const tcp = require('node:net').connect(7, '${server}');
    tcp.end(${JSON.stringify(text)});
    const echoed = [];
    for await (const chunk of tcp) echoed.push(chunk);
    const udp = require('node:dgram').createSocket('udp4');
    udp.send(${JSON.stringify(text.slice(0, 1000))}, 7, '${server}');
    const [message, from] = await once(udp, 'message');
    udp.close();
    parentPort.postMessage({ tcp: String(Buffer.concat(echoed)), udp: String(message), peer: from.address });
  }
  main();
`;
