/**
 * The two rules by which a full tunnel keeps its outer packets out of itself. All that this host sends goes into the tunnel, by a default
 * route in a table of its own; what the tunnel itself sends, by the mark of its outer socket, goes by the main table. And
 * what the main table knows better than by a default route, the networks next door, stays there, as with wg-quick(8).
 *
 *     node policy-routing.js
 */
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { Rule, type RuleOptions, TunSocket, UdpSocket } from 'tunsock';
import { readIp } from 'tunsock/packets';
import { runExample } from './stage';

/** The tunnel's table, as wg-quick numbers it. */
const TABLE = 51820;
const OUTER = '10.0.0.1';
const SERVER = '203.0.113.1';

/** The mark of the outer socket (SO_MARK) tells its packets from others. */
const MARK = 51820;

export function tunnelRules(): RuleOptions[] {
  return [
    { priority: 100, table: 'main', suppressPrefixLength: 0 },
    { priority: 101, not: true, mark: MARK, table: TABLE },
  ];
}

/** The destinations of what a device is handed until there are so many. */
async function destinations(device: TunSocket, count: number): Promise<string[]> {
  const seen: string[] = [];
  while (seen.length < count) {
    const packet = readIp(await device.receive());
    if (packet !== undefined) seen.push(packet.destination);
  }
  return seen;
}

async function send(to: string): Promise<void> {
  const socket: Socket = createSocket('udp4');
  socket.bind(0);
  await once(socket, 'listening');
  await new Promise<void>((resolve, reject) => {
    socket.send('hello', 9, to, (error) => (error ? reject(error) : resolve()));
  });
  socket.close();
}

async function main(): Promise<void> {
  // The way out of this host, which a second device stands for, and the tunnel.
  const wire = TunSocket.open({
    name: 'wire',
    address: `${OUTER}/24`,
    routes: 'default',
    addressGeneration: 'none',
  });
  const tunnel = TunSocket.open({ name: 'tunnel', address: '10.8.0.1/32', addressGeneration: 'none' });
  tunnel.link.addRoute({ destination: 'default', table: TABLE });
  const rules = tunnelRules();
  for (const rule of rules) Rule.add(rule);

  await send('198.51.100.7'); // somebody's packet, to anywhere
  await send('10.0.0.7'); // somebody's packet, to the network next door
  const outer = UdpSocket.open({ mark: MARK });
  outer.sendmsg(Buffer.from('hello'), 0, { to: { address: SERVER, port: 9 } }); // the tunnel's own
  outer.close();
  console.log('into the tunnel:', (await destinations(tunnel, 1)).join(', '));
  console.log('out of the host:', (await destinations(wire, 2)).join(', '));

  for (const rule of rules) Rule.remove(rule);
  await send('198.51.100.8');
  console.log('without the rules, out of the host:', (await destinations(wire, 1)).join(', '));
  tunnel.close();
  wire.close();
}

runExample(module, main);
