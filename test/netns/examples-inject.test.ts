import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { constants, PacketSocket } from '../../dist';
import { readIp, readTcp, TCP_ACK, TCP_SYN } from '../../dist/packets';
import {
  type Exchange,
  HOST_INTERFACE,
  inject,
  media,
  removeInterface,
  startServers,
} from '../../examples/inject';
import { enterQuietNamespace } from '../helpers/namespace';

const ETHERNET_HEADER = 14;

type Medium = keyof typeof media;
const names = Object.keys(media) as Medium[];

/** What was injected, and what arrived at the host's interface by the kernel's account. */
interface Run {
  exchanges: Exchange[];
  arrived: Buffer[];
}

const runs = new Map<Medium, Run>();

async function run(name: Medium): Promise<Run> {
  const { open, ethernet } = media[name];
  await using socket = open();
  using watcher = PacketSocket.open({
    interface: HOST_INTERFACE,
    ignoreOutgoing: true,
    receiveTimeout: 5000,
  });
  try {
    const exchanges = await inject(socket, ethernet);
    const arrived: Buffer[] = [];
    // The RST that ends it has no answer.
    while (arrived.length < exchanges.length + 1) {
      const room = Buffer.alloc(2048);
      const { bytes, protocol } = watcher.recvmsg(room);
      if (protocol !== constants.ETH_P_IPV6) arrived.push(room.subarray(0, bytes));
    }
    return { exchanges, arrived };
  } finally {
    removeInterface();
  }
}

let stop: () => void;
beforeAll(async () => {
  enterQuietNamespace();
  stop = await startServers();
  for (const name of names) runs.set(name, await run(name));
});
afterAll(() => stop());

const runOf = (name: Medium) => runs.get(name) as Run;
/** What IP makes of a run: no ARP, no Ethernet headers. */
function ipOf(name: Medium): Buffer[] {
  const { arrived } = runOf(name);
  // An interface with Ethernet headers shows them, whoever made them.
  if (name === 'tun') return arrived;
  return arrived
    .filter((frame) => frame.readUInt16BE(12) === constants.ETH_P_IP)
    .map((frame) => frame.subarray(ETHERNET_HEADER));
}

describe.each(names)('on %s', (name) => {
  it('the host gets each packet as it was sent', () => {
    const { exchanges, arrived } = runOf(name);
    const sent = exchanges.map((exchange) => exchange.sent);
    // The last that arrived is the RST.
    expect((name === 'dgram' ? ipOf(name) : arrived).slice(0, sent.length)).toEqual(sent);
  });

  it('the host answers', () => {
    const { exchanges } = runOf(name);
    const kinds = media[name].ethernet ? ['ARP', 'ICMP', 'UDP', 'TCP'] : ['ICMP', 'UDP', 'TCP'];
    expect(exchanges.map(({ what }) => what)).toEqual(kinds);
    const answer = (what: string) => {
      const packet = exchanges.find((exchange) => exchange.what === what)?.answer as Buffer;
      return media[name].ethernet ? packet.subarray(ETHERNET_HEADER) : packet;
    };
    expect(answer('ICMP').toString('latin1', 28)).toBe('ping');
    expect(answer('UDP').toString('latin1', 28)).toBe('datagram');
    const segment = readTcp(readIp(answer('TCP'))?.payload as Buffer);
    expect(segment).toMatchObject({ flags: TCP_SYN | TCP_ACK, acknowledgement: 1001 });
  });
});

describe('byte for byte', () => {
  it('a tap device and a packet socket bring the same frames', () => {
    expect(runOf('packet').arrived).toEqual(runOf('tap').arrived);
  });

  it.each(names)('the IP packets of %s are those of a tun device', (name) => {
    expect(ipOf(name)).toEqual(ipOf('tun'));
  });
});
