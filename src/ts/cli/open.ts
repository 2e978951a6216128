import { readFileSync } from 'node:fs';
import { Netns, type TunOptions, TunSocket } from 'tunsock';
import { runCommand } from './child';
import { type Arguments, type Command, CommandError, UsageError } from './command';

const MAX_QUEUES = 256;

/** LISTEN_PID is the command's own, which nobody knows before it is there: a shell that becomes the command does. */
const TRAMPOLINE = 'LISTEN_PID=$$; export LISTEN_PID; exec "$@"';

export const command: Command = {
  synopsis: 'open [options] -- <command> [arguments]',
  details:
    'The command finds the device as descriptor 3 (with --queues also those that follow), as sd_listen_fds(3) has it: LISTEN_FDS, LISTEN_PID and LISTEN_FDNAMES are set. TunSocket.fromFd(3) takes it over. With --user the command has none of the privileges that making the device takes. The exit status is that of the command.',
  options: {
    name: {
      type: 'string',
      short: 'n',
      value: 'NAME',
      help: "the interface's name; '%d' is numbered by the kernel",
    },
    mode: { type: 'string', value: 'tun|tap', help: 'IP packets or Ethernet frames (tun)' },
    address: {
      type: 'string',
      short: 'a',
      multiple: true,
      value: 'CIDR',
      help: 'an address; may be repeated',
    },
    route: {
      type: 'string',
      short: 'r',
      multiple: true,
      value: 'CIDR',
      help: 'a route through it; may be repeated',
    },
    mtu: { type: 'string', value: 'BYTES', help: '68 to 65535' },
    mac: { type: 'string', value: 'MAC', help: 'its hardware address (tap)' },
    offload: { type: 'string', value: 'MODE', help: 'none, or raw: the descriptor has virtio headers' },
    'packet-info': { type: 'boolean', help: 'each packet starts with struct tun_pi' },
    queues: { type: 'string', value: 'N', help: 'hand over N queues (1)' },
    'queue-length': { type: 'string', value: 'PACKETS', help: 'packets that wait for the command (500)' },
    netns: {
      type: 'string',
      value: 'NAME',
      help: 'make it in this network namespace: a name, path or process id',
    },
    persist: { type: 'boolean', help: 'the device stays when the command has ended' },
    down: { type: 'boolean', help: "don't bring it up" },
    user: { type: 'string', short: 'u', value: 'USER', help: 'run the command as this user: a name or id' },
    group: { type: 'string', short: 'g', value: 'GROUP', help: "and this group (the user's)" },
  },
  arguments: [1, Number.POSITIVE_INFINITY],
  run,
};

async function run(args: Arguments): Promise<number> {
  const identity = identityOf(args.text('user'), args.text('group'));
  const queues = args.number('queues', 1, MAX_QUEUES) ?? 1;
  using netns = namespaceOf(args.text('netns'));
  const sockets: TunSocket[] = [];
  try {
    const options = tunOptions(args, netns, queues > 1);
    sockets.push(TunSocket.open(options));
    const name = (sockets[0] as TunSocket).name;
    while (sockets.length < queues) sockets.push(TunSocket.open({ ...attachOptions(options), name }));
    const env: NodeJS.ProcessEnv = {
      ...process.env,
      LISTEN_FDS: String(queues),
      LISTEN_FDNAMES: sockets.map((socket) => socket.name).join(':'),
    };
    return await runCommand(
      '/bin/sh',
      ['-c', TRAMPOLINE, 'sh', ...args.positionals],
      { ...identity, env, stdio: ['inherit', 'inherit', 'inherit', ...sockets.map((socket) => socket.fd)] },
      // From now on the device is the command's alone: it goes when that lets go of it.
      () => closeAll(sockets),
    );
  } finally {
    closeAll(sockets);
  }
}

function closeAll(sockets: TunSocket[]): void {
  for (const socket of sockets.splice(0)) socket.close();
}

function tunOptions(args: Arguments, netns: Netns | undefined, multiQueue: boolean): TunOptions {
  const options: TunOptions = {
    multiQueue,
    packetInfo: args.flag('packet-info'),
    up: !args.flag('down'),
    address: args.texts('address'),
    routes: args.texts('route'),
    mode: args.choice('mode', ['tun', 'tap']) ?? 'tun',
    offload: args.choice<'none' | 'raw'>('offload', ['none', 'raw']) ?? 'none',
  };
  const name = args.text('name');
  const mac = args.text('mac');
  const mtu = args.number('mtu', 68, 65535);
  const txQueueLength = args.number('queue-length', 0, 0xffffffff);
  if (name !== undefined) options.name = name;
  if (mac !== undefined) options.mac = mac;
  if (mtu !== undefined) options.mtu = mtu;
  if (txQueueLength !== undefined) options.txQueueLength = txQueueLength;
  if (args.flag('persist')) options.persist = true;
  if (netns !== undefined) options.netns = netns;
  return options;
}

/** What of the options the further queues need: the device is configured already. */
function attachOptions({ address: _, routes: __, ...rest }: TunOptions): TunOptions {
  return rest;
}

function namespaceOf(target: string | undefined): Netns | undefined {
  if (target === undefined) return undefined;
  return Netns.open(/^\d+$/.test(target) ? Number(target) : target);
}

/** Ids for spawn(), which also lets go of all supplementary groups. */
function identityOf(user: string | undefined, group: string | undefined): { uid?: number; gid?: number } {
  if (user === undefined && group !== undefined) throw new UsageError('--group needs --user');
  if (user === undefined) return {};
  const entry = databaseEntry('/etc/passwd', user);
  const uid = entry?.[2] ?? user;
  if (!/^\d+$/.test(uid)) throw new CommandError(`there is no user '${user}'`);
  const gid = group === undefined ? (entry?.[3] ?? uid) : (databaseEntry('/etc/group', group)?.[2] ?? group);
  if (!/^\d+$/.test(gid)) throw new CommandError(`there is no group '${group}'`);
  return { uid: Number(uid), gid: Number(gid) };
}

/** The fields of an entry by its name or id (passwd(5), group(5)). */
function databaseEntry(file: string, key: string): string[] | undefined {
  const entries = readFileSync(file, 'utf8')
    .split('\n')
    .map((line) => line.split(':'));
  return entries.find((fields) => fields[0] === key) ?? entries.find((fields) => fields[2] === key);
}
