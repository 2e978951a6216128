import { once } from 'node:events';
import { connect, createServer } from 'node:net';

/**
 * TCP from this host to itself, by way of a device: the client connects to `peer`, whom the host routes to the device, and whoever
 * reads the device sends each packet back with its addresses exchanged (turnRound()). Either end so takes the other for `peer`. Returns
 * what arrived at the server, which is `host`.
 */
export async function tcpRound(host: string, peer: string, data: Buffer): Promise<Buffer> {
  const server = createServer().listen(0, host);
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  const connection = once(server, 'connection');
  const client = connect(port, peer);
  client.end(data);
  const [served] = await connection;
  const received: Buffer[] = [];
  for await (const chunk of served) received.push(chunk);
  await Promise.all([once(client, 'close'), once(server.close(), 'close')]);
  return Buffer.concat(received);
}
