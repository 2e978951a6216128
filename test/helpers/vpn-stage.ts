import type { Netns } from '../../dist';
import { UdpSocket } from '../../dist';
import { generateKeyPair } from '../../examples/vpn/noise';
import { Tunnel, type TunnelOptions } from '../../examples/vpn/tunnel';
import { type Pair, vethPair } from './pair';

export const NEAR = '10.3.0.1';
export const FAR = '10.3.0.2';
export const NEAR_INNER = '10.8.0.1';
export const FAR_INNER = '10.8.0.2';

/** What is done to a datagram on its way: what to pass on, in its stead. */
export type Way = (datagram: Buffer, toFar: boolean) => Buffer[];

/** Both ends of a tunnel, each in its namespace, and by whom their datagrams go. */
export interface VpnStage extends AsyncDisposable {
  pair: Pair;
  near: Tunnel;
  far: Tunnel;
  way: Way;
  /** All datagrams that went by. */
  seen: Buffer[];
  restart(side: 'near' | 'far'): void;
  /** From here on what goes by is sent to `far` from another port, as behind a NAT that has forgotten. */
  move(): void;
  /** Sends from another address to `far`, as a stranger would. */
  toFar(datagram: Buffer): void;
}

const TIMING = { keepalive: 200, retryAfter: 200, report: 100 };

/** Tunnels between two namespaces; with `middle` every datagram passes this process, which may do to it what it likes. */
export function vpnStage(options: Partial<TunnelOptions> = {}, middle = false): VpnStage {
  const pair = vethPair();
  pair.near.run(() => pair.nearLink.addAddress(`${NEAR}/24`));
  pair.far.run(() => pair.farLink.addAddress(`${FAR}/24`));
  const keys = { near: generateKeyPair(), far: generateKeyPair() };
  // Ours, one in each namespace: what comes to the one from a tunnel goes to the other tunnel from the other.
  const open = (netns: Netns, address: string, port = 7000) => UdpSocket.open({ netns, address, port });
  const beside = { near: open(pair.near, NEAR), far: open(pair.far, FAR) };
  const start = (side: 'near' | 'far') => {
    const near = side === 'near';
    const endpoint = { address: near !== middle ? FAR : NEAR, port: middle ? 7000 : near ? 5002 : 5001 };
    return new Tunnel({
      name: 'vpn0',
      address: `${near ? NEAR_INNER : FAR_INNER}/24`,
      key: keys[side],
      peer: keys[near ? 'far' : 'near'].publicKey,
      listen: { address: near ? NEAR : FAR, port: near ? 5001 : 5002 },
      endpoint,
      inner: near ? pair.near : pair.far,
      outer: near ? pair.near : pair.far,
      ...options,
      timing: { ...TIMING, ...options.timing },
    });
  };
  const stage: VpnStage = {
    pair,
    far: start('far'),
    near: start('near'),
    way: (datagram) => [datagram],
    seen: [],
    restart(side) {
      stage[side].close();
      stage[side] = start(side);
    },
    move() {
      beside.far.close();
      beside.far = open(pair.far, FAR, 7001);
      pass('far', 'near', { address: NEAR, port: 5001 });
    },
    toFar: (datagram) => void beside.far.sendmsg(datagram, 0, { to: { address: FAR, port: 5002 } }),
    async [Symbol.asyncDispose]() {
      stage.near.close();
      stage.far.close();
      for (const socket of [beside.near, beside.far]) await socket[Symbol.asyncDispose]();
      pair.close();
    },
  };
  const pass = (from: 'near' | 'far', to: 'near' | 'far', destination: { address: string; port: number }) => {
    beside[from].on('message', (datagram) => {
      stage.seen.push(datagram);
      for (const one of stage.way(datagram, to === 'far')) beside[to].sendmsg(one, 0, { to: destination });
    });
  };
  pass('near', 'far', { address: FAR, port: 5002 });
  pass('far', 'near', { address: NEAR, port: 5001 });
  return stage;
}
