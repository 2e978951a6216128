import type { BindOptions, Socket as DatagramSocket } from 'node:dgram';
import { chmodSync, unlinkSync } from 'node:fs';
import type { ListenOptions, NetConnectOpts, Server, Socket, SocketConstructorOpts } from 'node:net';
import { native, type SocketRequest } from '../native';
import { cluster, dgram, net } from '../support/builtins';
import { invalidArgType, invalidArgValue, invalidState } from '../support/errors';
import { integer, string } from '../support/options';
import { netnsError, type Place, runAt } from './netns-place';

/**
 * Sockets of Node that are in another network namespace. Each is made natively while the thread is there, and Node takes its
 * descriptor over: what Node would open itself it opens on a later tick, when the thread is back.
 */

/** As server.listen() takes them. */
export type ListenArguments =
  | [callback?: () => void]
  | [port: number | string, callback?: () => void]
  | [port: number | string, host: string, callback?: () => void]
  | [port: number | string, backlog: number, callback?: () => void]
  | [port: number | string, host: string, backlog: number, callback?: () => void]
  | [path: string, backlog: number, callback?: () => void]
  | [options: ListenOptions, callback?: () => void];

/** As net.connect() takes them. */
export type ConnectArguments =
  | [port: number | string, callback?: () => void]
  | [port: number | string, host: string, callback?: () => void]
  | [path: string, callback?: () => void]
  | [options: NetConnectOpts, callback?: () => void];

/** Options of {@link Netns.bind}: those of dgram's bind(), and those of its createSocket() that matter before it. */
export interface NetnsBindOptions extends BindOptions {
  /** SO_REUSEADDR. Default false. */
  reuseAddr?: boolean | undefined;
  /** SO_REUSEPORT. Default false. */
  reusePort?: boolean | undefined;
  /** IPV6_V6ONLY. Default false. */
  ipv6Only?: boolean | undefined;
}

/** As the bind() of dgram takes them. */
export type BindArguments =
  | [callback?: () => void]
  | [port: number, callback?: () => void]
  | [port: number, address: string, callback?: () => void]
  | [options: NetnsBindOptions, callback?: () => void];

type Callback = () => void;

/** Arguments by name, whichever of their forms they had. */
interface Target {
  options: Record<string, unknown>;
  callback: Callback | undefined;
}

const MAX_PORT = 65535;
/** As Node has it (lib/net.js). */
const DEFAULT_BACKLOG = 511;
const EACCES = -13;
const EADDRINUSE = -98;

/** Makes a server listen; resolves when it does. @internal */
export async function listenAt<S extends Server>(
  place: Place,
  server: S,
  args: readonly unknown[],
): Promise<S> {
  if (!(server instanceof net().Server)) throw invalidArgType('server', 'a net.Server', server);
  if (cluster().isWorker)
    throw invalidState('a worker of a cluster listens in the namespace of its primary process');
  const { options, callback } = target(args);
  for (const key of ['fd', '_handle']) {
    if (options[key] !== undefined)
      throw invalidArgValue(`options.${key}`, 'absent: it is in its namespace already', options[key]);
  }
  const path = options.path === undefined ? undefined : socketPath('path', options.path);
  const fd = path === undefined ? openListener(place, options) : openUnixListener(place, path, options);
  const file = path === undefined || path.startsWith('\0') ? undefined : path;
  const { backlog = DEFAULT_BACKLOG, signal } = options as ListenOptions;
  try {
    await listening(server, callback, fd, () =>
      server.listen({ fd, backlog, ...(signal === undefined ? {} : { signal }) }),
    );
  } catch (error) {
    if (file !== undefined) unlinkQuietly(file);
    throw error;
  }
  if (path !== undefined) {
    // Node says in address(), and removes, only what it bound itself.
    (server as { _pipeName?: string })._pipeName = path;
    if (file !== undefined) server.once('close', () => unlinkQuietly(file));
  }
  return server;
}

/** Connects a new socket. @internal */
export function connectAt(place: Place, args: readonly unknown[]): Socket {
  const { options, callback } = target(args);
  const path = options.path === undefined ? undefined : socketPath('path', options.path);
  if (path?.startsWith('\0')) return connectAbstract(place, path, options, callback);
  const host = path === undefined ? hostAddress('host', options.host ?? 'localhost') : undefined;
  if (host !== undefined) portNumber('port', options.port);
  const fd = openAt(place, {
    family: host === undefined ? 0 : host.family,
    datagram: false,
    interface: host?.zone,
  });
  const socket = taking(
    fd,
    // There is nothing to read before it is connected.
    () => new (net().Socket)({ ...whole(options, fd), manualStart: true } as SocketConstructorOpts),
  );
  if (typeof options.timeout === 'number') socket.setTimeout(options.timeout);
  // More than one address would be tried on descriptors that Node opens.
  const where = host === undefined ? { path } : { host: host.address, autoSelectFamily: false };
  try {
    return socket.connect({ ...options, ...where } as NetConnectOpts, callback);
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

/** Done here and not by Node, whose older versions fill an abstract name up with NULs, which makes it another. */
function connectAbstract(
  place: Place,
  address: string,
  options: Record<string, unknown>,
  callback: Callback | undefined,
): Socket {
  const fd = runAt(place, () => native().openSocket({ family: 0, datagram: false, connect: true, address }));
  const socket =
    typeof fd === 'number' ? taking(fd, () => new (net().Socket)(whole(options, fd))) : new (net().Socket)();
  if (callback !== undefined) socket.once('connect', callback);
  if (typeof options.timeout === 'number') socket.setTimeout(options.timeout);
  process.nextTick(() => {
    if (typeof fd !== 'number') socket.destroy(Object.assign(netnsError(fd), { address }));
    else if (!socket.destroyed) {
      socket.emit('connect');
      socket.emit('ready');
    }
  });
  return socket;
}

/** Options of a socket that reads and writes on `fd`. */
function whole(options: Record<string, unknown>, fd: number): SocketConstructorOpts {
  return { ...options, fd, readable: true, writable: true };
}

/** Binds a datagram socket; resolves when it listens. @internal */
export async function bindAt(
  place: Place,
  socket: DatagramSocket,
  args: readonly unknown[],
): Promise<DatagramSocket> {
  if (!(socket instanceof dgram().Socket)) throw invalidArgType('socket', 'a dgram.Socket', socket);
  const { options, callback } = target(args, 'address');
  if (options.fd !== undefined)
    throw invalidArgValue('options.fd', 'absent: it is in its namespace already', options.fd);
  const family = (socket as unknown as { type: string }).type === 'udp6' ? 6 : 4;
  const host = hostAddress('address', options.address ?? (family === 6 ? '::' : '0.0.0.0'));
  if (host.family !== family)
    throw invalidArgValue('address', `an IPv${family} address, as the socket is`, host.address);
  const fd = openAt(place, {
    family,
    datagram: true,
    interface: host.zone,
    address: host.address,
    port: portNumber('port', options.port ?? 0),
    reuseAddress: options.reuseAddr === true,
    reusePort: options.reusePort === true,
    ipv6Only: options.ipv6Only === true,
  });
  await listening(socket, callback, fd, () => socket.bind({ fd, exclusive: true }));
  return socket;
}

/** Calls `start`, which gives `fd` to Node; settles with the first 'listening' or 'error'. */
function listening(
  emitter: Server | DatagramSocket,
  callback: Callback | undefined,
  fd: number,
  start: () => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const settled = (error?: Error) => {
      emitter.off('error', settled);
      emitter.off('listening', done);
      if (error === undefined) resolve();
      else reject(error);
    };
    const done = () => settled();
    emitter.on('error', settled);
    emitter.on('listening', done);
    if (callback !== undefined) emitter.once('listening', callback);
    try {
      taking(fd, start);
    } catch (error) {
      if (callback !== undefined) emitter.off('listening', callback);
      settled(error as Error);
    }
  });
}

/** What `take` makes of a descriptor, which is closed if it throws. */
function taking<T>(fd: number, take: () => T): T {
  try {
    return take();
  } catch (error) {
    native().closeFd(fd);
    throw error;
  }
}

function openListener(place: Place, options: Record<string, unknown>): number {
  const listener = (name: string): SocketRequest => {
    const host = hostAddress('host', name);
    return {
      family: host.family,
      datagram: false,
      interface: host.zone,
      address: host.address,
      port: portNumber('port', options.port ?? 0),
      reuseAddress: true, // as libuv does for each server
      reusePort: options.reusePort === true,
      ipv6Only: host.family === 6 && options.ipv6Only === true,
    };
  };
  if (options.host !== undefined) return openAt(place, listener(string('host', options.host)));
  // Both families, or IPv4 alone where there is no other.
  const all = runAt(place, () => native().openSocket(listener('::')));
  if (typeof all === 'number') return all;
  if (all.error === EADDRINUSE || all.error === EACCES) throw netnsError(all);
  return openAt(place, listener('0.0.0.0'));
}

function openUnixListener(place: Place, path: string, options: Record<string, unknown>): number {
  const fd = openAt(place, { family: 0, datagram: false, address: path });
  const { readableAll, writableAll } = options;
  if (path.startsWith('\0') || (readableAll !== true && writableAll !== true)) return fd;
  return taking(fd, () => {
    try {
      chmodSync(path, 0o700 | (readableAll === true ? 0o044 : 0) | (writableAll === true ? 0o022 : 0));
      return fd;
    } catch (error) {
      unlinkQuietly(path);
      throw error;
    }
  });
}

function openAt(place: Place, request: SocketRequest): number {
  const fd = runAt(place, () => native().openSocket(request));
  if (typeof fd === 'number') return fd;
  const { family, address, port } = request;
  if (family === 0) throw netnsError(fd, address);
  throw Object.assign(netnsError(fd), { address, port });
}

/** By name: of options, of a path, or of a port with what follows it. */
function target(args: readonly unknown[], host = 'host'): Target {
  const last = args[args.length - 1];
  const callback = typeof last === 'function' ? (last as Callback) : undefined;
  const [first, ...rest] = callback === undefined ? args : args.slice(0, -1);
  const backlog = rest.find((value) => typeof value === 'number');
  if (typeof first === 'object' && first !== null) return { options: { ...first }, callback };
  if (typeof first === 'string' && !/^\d+$/.test(first))
    return { options: { path: first, backlog }, callback };
  const name = rest.find((value) => value !== undefined && value !== null && typeof value !== 'number');
  return { options: { port: first ?? undefined, [host]: name, backlog }, callback };
}

function portNumber(name: string, value: unknown): number {
  return integer(name, typeof value === 'string' && value !== '' ? Number(value) : value, 0, MAX_PORT);
}

function socketPath(name: string, value: unknown): string {
  const text = string(name, value);
  if (text === '' || text.indexOf('\0', 1) > 0)
    throw invalidArgValue(name, 'a path, or NUL and an abstract name', text);
  return text;
}

/** 'localhost' is 127.0.0.1 without being asked for (RFC 6761, section 6.3). */
function hostAddress(name: string, value: unknown): { family: 4 | 6; address: string; zone?: string } {
  const text = string(name, value) === 'localhost' ? '127.0.0.1' : (value as string);
  const [address = '', zone] = text.split('%');
  const family = net().isIP(address);
  if (family === 0 || (zone !== undefined && family !== 6)) {
    throw invalidArgValue(
      name,
      "an IP address or 'localhost': other names would be looked up outside of the network namespace",
      text,
    );
  }
  return zone === undefined
    ? { family: family as 4 | 6, address }
    : { family: family as 4 | 6, address, zone };
}

function unlinkQuietly(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // Somebody else has removed it.
  }
}
