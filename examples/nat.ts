/**
 * Network address translation (RFC 3022): hosts with private addresses share one public address; each of their connections gets a
 * port of it.
 *
 *     node nat.js
 */
import { Netns, TunSocket } from 'tunsock';
import {
  forwardHop,
  type IpPacket,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  readIcmp,
  readIp,
  readTcp,
  readUdp,
  rewriteEndpoints,
} from 'tunsock/packets';
import { ECHO_SERVER, echoClient, posted, runExample, runIn } from './stage';

const FIRST_PORT = 20_000;
const LAST_PORT = 59_999;

interface Mapping {
  protocol: number;
  address: string;
  port: number;
  publicPort: number;
}

/** Translates between a private and a public side. A real one also forgets mappings that nobody uses (RFC 4787). */
export class Nat {
  readonly #publicAddress: string;
  readonly #out = new Map<string, Mapping>();
  readonly #in = new Map<string, Mapping>();
  #nextPort = FIRST_PORT;

  constructor(publicAddress: string) {
    this.#publicAddress = publicAddress;
  }

  get mappings(): readonly Mapping[] {
    return [...this.#out.values()];
  }

  /** A packet from the private side, changed in place; false where it must not go on. */
  outbound(packet: Buffer): boolean {
    const ip = readIp(packet);
    const ports = ip === undefined ? undefined : portsOf(ip);
    if (ip === undefined || ports === undefined || !forwardHop(packet)) return false;
    const key = `${ip.protocol} ${ip.source} ${ports.source}`;
    const mapping = this.#out.get(key) ?? this.#add(key, ip, ports.source);
    return (
      mapping !== undefined &&
      rewriteEndpoints(packet, { source: this.#publicAddress, sourcePort: mapping.publicPort })
    );
  }

  /** A packet from the public side, changed in place; false where nobody asked for it. */
  inbound(packet: Buffer): boolean {
    const ip = readIp(packet);
    const ports = ip === undefined ? undefined : portsOf(ip);
    if (ip?.destination !== this.#publicAddress || ports === undefined) return false;
    const mapping = this.#in.get(`${ip.protocol} ${ports.destination}`);
    if (mapping === undefined || !forwardHop(packet)) return false;
    return rewriteEndpoints(packet, { destination: mapping.address, destinationPort: mapping.port });
  }

  #add(key: string, { protocol, source }: IpPacket, port: number): Mapping | undefined {
    if (this.#nextPort > LAST_PORT) return undefined;
    const mapping = { protocol, address: source, port, publicPort: this.#nextPort++ };
    this.#out.set(key, mapping);
    this.#in.set(`${protocol} ${mapping.publicPort}`, mapping);
    return mapping;
  }
}

/** Ports; of an ICMP echo its identifier, which does for both. Undefined for fragments, and what has neither. */
function portsOf({ version, protocol, payload, fragmentOffset, moreFragments }: IpPacket) {
  if (version !== 4 || fragmentOffset > 0 || moreFragments) return undefined;
  if (protocol === PROTOCOL_TCP || protocol === PROTOCOL_UDP) {
    const transport = protocol === PROTOCOL_TCP ? readTcp(payload) : readUdp(payload);
    return transport && { source: transport.sourcePort, destination: transport.destinationPort };
  }
  const echo = readIcmp(payload);
  if (protocol !== 1 || echo === undefined || (echo.type !== 0 && echo.type !== 8)) return undefined;
  const id = echo.rest >>> 16;
  return { source: id, destination: id };
}

async function main(): Promise<void> {
  const [home, internet] = [Netns.create(), Netns.create()];
  const inside = TunSocket.open({ netns: home, address: '192.168.1.2/24', routes: 'default' });
  const outside = TunSocket.open({ netns: internet, address: '198.51.100.1/24' });
  const nat = new Nat('198.51.100.77');
  inside.on('message', (packet) => {
    if (nat.outbound(packet)) outside.send(packet);
  });
  outside.on('message', (packet) => {
    if (nat.inbound(packet)) inside.send(packet);
  });

  const server = runIn(internet, ECHO_SERVER);
  await posted(server);
  const seen = posted(server);
  const client = runIn(home, echoClient('198.51.100.1', 'from behind the NAT'));
  const { tcp, udp } = (await posted(client)) as { tcp: string; udp: string };
  console.log(`the client hears '${tcp}' and '${udp}'`);
  console.log(`the server sees ${await seen}`);
  for (const { protocol, address, port, publicPort } of nat.mappings) {
    console.log(`  protocol ${protocol}: ${address}:${port} is 198.51.100.77:${publicPort}`);
  }
  await Promise.all([server.terminate(), client.terminate()]);
  for (const closable of [inside, outside, home, internet]) closable.close();
}

runExample(module, main);
