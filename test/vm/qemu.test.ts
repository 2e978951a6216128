import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type LinkCounters, type OffloadMode, TunSocket } from '../../dist';
import { HOST, PEER } from '../helpers/device';
import { enterQuietNamespace } from '../helpers/namespace';
import { BUSYBOX, baseSystem, fetchedKernels, type Kernel, missingForGuests, runGuest } from './guest';

const missing = missingForGuests();
const BOUND_SECONDS = 120;
const MTU = 1500;
const DOWNLOAD = 7;
const UPLOAD = 8;
const READY = 9;
const TFTP = 69;

const data = randomBytes(2 ** 20);
/** What goes by TFTP. */
const FILE = data.subarray(0, 2 ** 16);
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

/** What the guest does with its network; each result is a line of its output. */
const JOB = `
out() { echo "$@" > /dev/ttyS1; }
modprobe -a virtio_pci virtio_net
ip address add ${PEER}/24 dev eth0
ip link set eth0 up
out queues $(ls /sys/class/net/eth0/queues | tr '\\n' ' ')
out pings $(ping -c 3 ${HOST} | grep -c 'bytes from')
nc ${HOST} ${DOWNLOAD} < /dev/null > /download
out download $(sha256sum < /download)
# From each processor, so that each has a flow in its own queue; by cat(1), whose pieces are large enough for superpackets of any length.
for mask in 1 2; do taskset $mask nc ${HOST} ${UPLOAD} -e cat /download; done
tftp -g -r file -l /tftp ${HOST} ${TFTP}
out tftp $(sha256sum < /tftp)
# Waits for an answer, before which it is pinged.
nc ${HOST} ${READY} < /dev/null
out interrupts $(grep -E 'virtio0-input' /proc/interrupts | awk '{ print $2 + $3 }')
`;

beforeAll(enterQuietNamespace);

/** The Node program on the other side of the cable: ordinary servers at HOST. */
class Host {
  /** The hash of each upload. */
  readonly uploads: string[] = [];
  /** Answers that the guest gave to pings. */
  answers = 0;
  readonly #servers: (Server | UdpSocket)[] = [];

  /** `uploaded` is called behind each upload. */
  async start(uploaded: () => void): Promise<void> {
    await this.#listen(DOWNLOAD, (socket) => socket.end(data));
    await this.#listen(UPLOAD, (socket) => {
      const hash = createHash('sha256');
      socket.on('data', (chunk) => hash.update(chunk));
      socket.on('end', () => {
        this.uploads.push(hash.digest('hex'));
        uploaded();
        socket.end();
      });
    });
    await this.#listen(READY, async (socket) => {
      this.answers = await ping();
      socket.end();
    });
    await this.#serveTftp();
  }

  stop(): void {
    for (const server of this.#servers) server.close();
  }

  async #listen(port: number, serve: (socket: Socket) => void): Promise<void> {
    const server = createServer({ allowHalfOpen: true }, serve).listen(port, HOST);
    this.#servers.push(server);
    await once(server, 'listening');
  }

  /** A file of 128 blocks by TFTP, which is UDP (RFC 1350): each block is sent when the one before it is acknowledged. */
  async #serveTftp(): Promise<void> {
    const [READ, DATA, ACKNOWLEDGE, BLOCK] = [1, 3, 4, 512];
    const udp = createSocket('udp4').bind(TFTP, HOST);
    this.#servers.push(udp);
    await once(udp, 'listening');
    udp.on('message', (message, from) => {
      const code = message.readUInt16BE(0);
      if (code !== READ && code !== ACKNOWLEDGE) return;
      const last = code === READ ? 0 : message.readUInt16BE(2);
      const header = Buffer.alloc(4);
      header.writeUInt16BE(DATA, 0);
      header.writeUInt16BE(last + 1, 2);
      if (last * BLOCK > FILE.length) return;
      const block = FILE.subarray(last * BLOCK, (last + 1) * BLOCK);
      udp.send(Buffer.concat([header, block]), from.port, from.address);
    });
  }
}

/** Pings the guest three times; returns how many answers came. */
async function ping(): Promise<number> {
  const child = spawn(BUSYBOX, ['ping', '-c', '3', PEER], { stdio: ['ignore', 'pipe', 'inherit'] });
  let printed = '';
  child.stdout.on('data', (text) => {
    printed += text;
  });
  await once(child, 'close');
  return printed.split('\n').filter((line) => line.includes('bytes from')).length;
}

const forms: { offload: OffloadMode; queues: number }[] = [
  { offload: 'none', queues: 1 },
  { offload: 'raw', queues: 1 },
  { offload: 'none', queues: 2 },
  { offload: 'raw', queues: 2 },
];

if (missing !== undefined) console.log(`skipped: QEMU on a tap, because ${missing}`);

describe.skipIf(missing !== undefined)(
  'a guest of QEMU on a tap that was opened here and handed over',
  () => {
    let host: Host;
    beforeEach(() => {
      host = new Host();
    });
    afterEach(() => host.stop());

    it.each(forms)(
      'speaks ICMP, TCP and UDP: offload $offload, $queues queue(s)',
      async ({ offload, queues }) => {
        const multiQueue = queues > 1;
        const name = 'handed';
        const sockets = Array.from({ length: queues }, (_, index) =>
          TunSocket.open({
            mode: 'tap',
            name,
            offload,
            multiQueue,
            ...(index === 0 ? { address: `${HOST}/24` } : {}),
          }),
        );
        const { link } = sockets[0] as TunSocket;
        let counters: LinkCounters | undefined;
        await host.start(() => {
          counters = link.counters();
        });
        const numbers = sockets.map((_, index) => index + 3);
        const [kernel] = fetchedKernels().slice(-1) as [Kernel];
        const running = runGuest({
          kernel,
          system: baseSystem(kernel, JOB),
          seconds: BOUND_SECONDS,
          memory: 512,
          threads: 'single',
          devices: multiQueue
            ? [
                ...['-netdev', `tap,id=net,fds=${numbers.join(':')}`],
                ...['-device', 'virtio-net-pci,netdev=net,mq=on,vectors=6'],
              ]
            : ['-netdev', 'tap,id=net,fd=3', '-device', 'virtio-net-pci,netdev=net'],
          descriptors: sockets.map(({ fd }) => fd),
        });
        // QEMU has them now, and the device lives for it alone.
        for (const socket of sockets) socket.close();
        const { output, log, hung } = await running;
        expect(hung, log).toBe(false);
        const lines = new Map(
          output
            .toString()
            .trim()
            .split('\n')
            .map((line) => [line.split(' ')[0], line.split(' ').slice(1)]),
        );
        expect(lines.get('queues'), log).toHaveLength(2 * queues);
        expect(lines.get('pings')).toEqual(['3']);
        expect(host.answers).toBe(3);
        expect(lines.get('download')?.[0]).toBe(sha256(data));
        expect(host.uploads).toEqual([sha256(data), sha256(data)]);
        expect(lines.get('tftp')?.[0]).toBe(sha256(FILE));
        // With headers the guest hands superpackets over.
        const { rxBytes, rxPackets } = counters as LinkCounters;
        const mean = rxBytes / rxPackets;
        if (offload === 'raw') expect(mean, `${rxBytes} bytes in ${rxPackets} packets`).toBeGreaterThan(MTU);
        else expect(mean).toBeLessThan(MTU + 14);
        const interrupts = lines.get('interrupts')?.map(Number) ?? [];
        expect(interrupts).toHaveLength(queues);
        for (const count of interrupts) expect(count).toBeGreaterThan(0);
      },
      2 * BOUND_SECONDS * 1000,
    );
  },
);
