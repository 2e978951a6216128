/** Who carries packets in `npm run bench -- --vpn`: the example, OpenVPN and wireguard-go, each between the same two namespaces. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { Link, type Netns } from 'tunsock';

export const SIDES = ['near', 'far'] as const;
export type Side = (typeof SIDES)[number];

export const ROOT = join(__dirname, '..', '..', '..');

/** The outer leg: a cable. */
export const OUTER = { near: '10.19.0.1', far: '10.19.0.2' } as const;

export interface VpnContender {
  name: string;
  /** The third byte of its inner addresses, and what its ports end in. */
  number: number;
  start(side: Side): [command: string, args: string[]];
  /** What is to be done once it runs, for one that only makes a device. */
  configure?(side: Side, netns: Netns): Promise<void>;
}

export const other = (side: Side): Side => (side === 'near' ? 'far' : 'near');
export const inner = (side: Side, number: number) => `10.20.${number}.${side === 'near' ? 1 : 2}`;

type Keys = Record<Side, { privateKey: string; publicKey: string }>;

const EXAMPLE = join(ROOT, 'build', 'examples', 'vpn', 'main.js');

/** Pairs of keys of X25519, in base64. */
function keyPairs(): Keys {
  const pairs = SIDES.map((side) => {
    const text = execFileSync(process.execPath, [EXAMPLE, 'genkey'], { encoding: 'utf8' });
    const [, privateKey, publicKey] = /private (\S+)\npublic {2}(\S+)/.exec(text) as unknown as string[];
    return [side, { privateKey, publicKey }];
  });
  return Object.fromEntries(pairs) as Keys;
}

/** The example, which is compiled as its README says. */
export function tunsock(
  mode: 'packet' | 'superpacket' | 'auto',
  number: number,
  folder: string,
): VpnContender {
  const keys = keyPairs();
  const port = 5200 + number;
  return {
    name: `tunsock, ${mode}`,
    number,
    start(side) {
      const file = join(folder, `${mode}-${side}.json`);
      const config = {
        name: `vpn${number}`,
        mode,
        privateKey: keys[side].privateKey,
        peerKey: keys[other(side)].publicKey,
        address: `${inner(side, number)}/24`,
        listen: { address: OUTER[side], port },
        endpoint: { address: OUTER[other(side)], port },
      };
      writeFileSync(file, JSON.stringify(config));
      return [process.execPath, [EXAMPLE, 'up', file]];
    },
  };
}

/** TLS with certificates that each side knows by their fingerprints; what carries packets is as in the example. */
export function openvpn(number: number, folder: string): VpnContender {
  const file = (side: Side, end: string) => join(folder, `openvpn-${side}.${end}`);
  const fingerprint = (side: Side) => {
    const certificate = ['-in', file(side, 'crt'), '-noout', '-fingerprint', '-sha256'];
    const text = execFileSync('openssl', ['x509', ...certificate], { encoding: 'utf8' });
    return text.trim().split('=')[1] as string;
  };
  for (const side of SIDES) {
    const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:secp384r1', '-nodes', '-sha256'];
    const files = ['-keyout', file(side, 'key'), '-out', file(side, 'crt')];
    const subject = ['-days', '30', '-subj', `/CN=${side}`];
    execFileSync('openssl', ['req', '-x509', ...curve, ...files, ...subject], { stdio: 'ignore' });
  }
  const port = String(5200 + number);
  return {
    name: 'OpenVPN',
    number,
    start(side) {
      const device = ['--dev', `vpn${number}`, '--dev-type', 'tun', '--disable-dco'];
      const addresses = ['--ifconfig', inner(side, number), inner(other(side), number)];
      const outer = [
        '--proto',
        'udp',
        '--local',
        OUTER[side],
        '--port',
        port,
        '--remote',
        OUTER[other(side)],
        port,
      ];
      const role = side === 'near' ? ['--tls-server', '--dh', 'none'] : ['--tls-client'];
      const certificates = ['--cert', file(side, 'crt'), '--key', file(side, 'key')];
      const peer = ['--peer-fingerprint', fingerprint(other(side))];
      const ciphers = ['--data-ciphers', 'CHACHA20-POLY1305', '--cipher', 'CHACHA20-POLY1305'];
      const args = [device, addresses, outer, role, certificates, peer, ciphers, ['--verb', '1']];
      return ['openvpn', args.flat()];
    },
  };
}

/** WireGuard's protocol in a process, as the example; its keys and ChaCha20-Poly1305 too. */
export function wireguardGo(number: number): VpnContender {
  const keys = keyPairs();
  const port = 5200 + number;
  // Both have a socket of that name in one folder.
  const device = (side: Side) => `wg${number}${side}`;
  const control = (side: Side) => `/var/run/wireguard/${device(side)}.sock`;
  const hex = (base64: string) => Buffer.from(base64, 'base64').toString('hex');
  return {
    name: 'wireguard-go',
    number,
    start(side) {
      rmSync(control(side), { force: true });
      // It would rather be in the kernel, and says so at length.
      return ['env', ['WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD=1', 'wireguard-go', '-f', device(side)]];
    },
    async configure(side, netns) {
      await ask(control(side), [
        'set=1',
        `private_key=${hex(keys[side].privateKey)}`,
        `listen_port=${port}`,
        `public_key=${hex(keys[other(side)].publicKey)}`,
        `endpoint=${OUTER[other(side)]}:${port}`,
        `allowed_ip=${inner(other(side), number)}/32`,
      ]);
      netns.run(() => {
        const link = Link.get(device(side));
        link.addAddress(`${inner(side, number)}/24`);
        link.up();
      });
    },
  };
}

/** A request of WireGuard's configuration protocol (https://www.wireguard.com/xplatform/), which has no privilege of its own to be asked for. */
async function ask(path: string, lines: string[]): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!existsSync(path)) {
    if (performance.now() > deadline) throw new Error(`wireguard-go does not come up: no ${path}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const socket = connect(path);
  socket.setEncoding('utf8');
  socket.write(`${lines.join('\n')}\n\n`);
  const [answer] = await once(socket, 'data');
  socket.destroy();
  if (!String(answer).startsWith('errno=0\n')) throw new Error(`wireguard-go refuses: ${answer}`);
}
