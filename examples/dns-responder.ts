/**
 * A DNS server without a socket of the host: queries that the host sends to 10.0.0.53 arrive on a tun device, and the answers are
 * packets (RFC 1035).
 *
 *     node dns-responder.js
 */
import { Resolver } from 'node:dns/promises';
import { TunSocket } from 'tunsock';
import { ipBytes, readIp, readUdp, udpPacket } from 'tunsock/packets';
import { runExample } from './stage';

const SERVER = '10.0.0.53';
const PORT = 53;
const TTL_SECONDS = 60;
const TYPES = new Map([
  [1, 'A'],
  [28, 'AAAA'],
]);
const NO_ERROR = 0;
const NO_SUCH_NAME = 3;
const NOT_IMPLEMENTED = 4;

/** Addresses of a name; an empty list where there are none of that type. */
export type Zone = ReadonlyMap<string, readonly string[]>;

interface Question {
  name: string;
  type: number;
  /** Where it ends. */
  end: number;
}

/** The first question of a query; undefined where that is none, or damaged. A question has no compressed names. */
function readQuestion(query: Buffer): Question | undefined {
  const isQuery = query.length > 12 && (query.readUInt8(2) & 0x80) === 0;
  if (!isQuery || query.readUInt16BE(4) !== 1) return undefined;
  const labels: string[] = [];
  let at = 12;
  for (let length = query[at]; length !== 0; length = query[at]) {
    if (length === undefined || length > 63 || at + length >= query.length) return undefined;
    labels.push(query.toString('latin1', at + 1, at + 1 + length));
    at += 1 + length;
  }
  if (at + 5 > query.length) return undefined;
  return { name: labels.join('.').toLowerCase(), type: query.readUInt16BE(at + 1), end: at + 5 };
}

/** The answer to a query; undefined where that is none. */
export function answer(query: Buffer, zone: Zone): Buffer | undefined {
  const question = readQuestion(query);
  if (question === undefined) return undefined;
  const { name, type, end } = question;
  const all = zone.get(name);
  const known = TYPES.has(type);
  const records = known ? (all ?? []).filter((address) => address.includes(':') === (type === 28)) : [];
  const header = Buffer.alloc(12);
  query.copy(header, 0, 0, 2);
  const opcode = query.readUInt8(2) & 0x78;
  const code = opcode !== 0 ? NOT_IMPLEMENTED : all === undefined ? NO_SUCH_NAME : NO_ERROR;
  // A response, authoritative; recursion desired as in the query.
  header.writeUInt8(0x84 | opcode | (query.readUInt8(2) & 1), 2);
  header.writeUInt8(code, 3);
  header.writeUInt16BE(1, 4);
  header.writeUInt16BE(records.length, 6);
  const answers = records.map((address) => {
    const data = ipBytes(address);
    const head = Buffer.alloc(12);
    // The name is that of the question, at byte 12.
    head.writeUInt16BE(0xc00c, 0);
    head.writeUInt16BE(type, 2);
    head.writeUInt16BE(1, 4);
    head.writeUInt32BE(TTL_SECONDS, 6);
    head.writeUInt16BE(data.length, 10);
    return Buffer.concat([head, data]);
  });
  return Buffer.concat([header, query.subarray(12, end), ...answers]);
}

/** Answers what comes to the server's address and port. */
export function serve(tun: TunSocket, zone: Zone): void {
  tun.on('message', (packet) => {
    const ip = readIp(packet);
    const udp = ip?.destination === SERVER && ip.protocol === 17 ? readUdp(ip.payload) : undefined;
    const response = udp?.destinationPort === PORT ? answer(udp.payload, zone) : undefined;
    if (ip === undefined || udp === undefined || response === undefined) return;
    const to = { address: ip.source, port: udp.sourcePort };
    tun.send(udpPacket({ address: SERVER, port: PORT }, to, response));
  });
}

async function main(): Promise<void> {
  const tun = TunSocket.open({ address: '10.0.0.1/24' });
  serve(tun, new Map([['gate.example', ['192.0.2.1', '192.0.2.2', '2001:db8::1']]]));
  const resolver = new Resolver({ timeout: 2000, tries: 2 });
  resolver.setServers([SERVER]);
  console.log('A    gate.example', (await resolver.resolve4('gate.example')).join(' '));
  console.log('AAAA gate.example', (await resolver.resolve6('gate.example')).join(' '));
  const error = await resolver.resolve4('nowhere.example').catch(({ code }) => code);
  console.log('A    nowhere.example', error);
  tun.close();
}

runExample(module, main);
