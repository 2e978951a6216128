import { currentPlace, Netns } from '../host/netns';
import type { Place } from '../host/netns-place';
import { type Failure, native, type SocketHandle } from '../native';
import {
  abortError,
  invalidArgValue,
  type SystemError,
  type SystemErrorContext,
  systemError,
} from '../support/errors';
import { integer } from '../support/options';
import { assertNotOurs, assertNotWatched } from './descriptors';
import type { SocketConfig } from './options/socket-options';

/** What TunSocket and PacketSocket do alike until there is a socket. */

/**
 * Calls `open` in the namespace that the options name, unless their signal is aborted already. A namespace that is opened for it
 * is handed to `open`: it belongs to the socket, whose interface is there.
 */
export function openWhere<T>({ netns, signal }: SocketConfig, open: (owned: Netns | undefined) => T): T {
  if (signal?.aborted) throw abortError(signal);
  if (netns === undefined) return open(undefined);
  if (netns instanceof Netns) return netns.run(() => open(undefined));
  return runOwned(Netns.open(netns), open);
}

/** Its owner outside may open a namespace of unshare -Urn, and not enter it (setns(2)). */
function runOwnedOr<T>(netns: Netns, fn: (owned: Netns) => T, outside?: () => T): T {
  let inside = false;
  try {
    return runOwned(netns, (owned) => {
      inside = true;
      return fn(owned);
    });
  } catch (error) {
    if (outside === undefined || inside || (error as SystemError).code !== 'EPERM') throw error;
    return outside();
  }
}

function runOwned<T>(netns: Netns, fn: (owned: Netns) => T): T {
  try {
    return netns.run(() => fn(netns));
  } catch (error) {
    netns.close();
    throw error;
  }
}

/** Throws what opening failed with; `hints` say what to do about the usual causes, by "syscall errno". */
export function opened<T extends object>(
  result: T | Failure,
  hints: ReadonlyMap<string, string>,
  context: (syscall: string) => SystemErrorContext = () => ({}),
): T {
  if (!('syscall' in result)) return result;
  const { error, syscall } = result;
  throw systemError(error, syscall, { ...context(syscall), hint: hints.get(`${syscall} ${error}`) });
}

/**
 * Makes a socket of a descriptor that something else opened: `adopt` takes it over, `make` has its handle, in the interface's
 * namespace. Where this thread may not go there, `place` is undefined. The descriptor becomes close-on-exec. If it fails the descriptor is still
 * the caller's, and as it was.
 */
export function adopted<T>(
  fd: number,
  adopt: (fd: number) => SocketHandle,
  make: (handle: SocketHandle, owned: Netns | undefined, place: Place | undefined) => T,
): T {
  assertNotOurs(integer('fd', fd, 0, 0x7fffffff));
  const handle = adopt(fd);
  try {
    assertNotWatched(fd);
    const socket = inNamespace(
      handle.networkNamespace(),
      (owned) => make(handle, owned, currentPlace()),
      () => make(handle, undefined, undefined),
    );
    native().setCloseOnExec(fd);
    return socket;
  } catch (error) {
    handle.giveBack();
    throw error;
  }
}

/**
 * Calls `fn` in the namespace that descriptor `fd` is of, and closes `fd`. A negative one, of a kernel before 5.2 or where others
 * own the namespace, is taken to be this thread's. Where this thread may not go there, calls `outside`, if there is one.
 */
export function inNamespace<T>(fd: number, fn: (owned: Netns | undefined) => T, outside?: () => T): T {
  if (fd < 0) return fn(undefined);
  try {
    using here = Netns.current();
    const netns = Netns.open(`/proc/self/fd/${fd}`);
    // Going where this thread is already would need a privilege.
    let elsewhere = false;
    try {
      elsewhere = netns.inode !== here.inode;
    } finally {
      if (!elsewhere) netns.close();
    }
    return elsewhere ? runOwnedOr(netns, fn, outside) : fn(undefined);
  } finally {
    // Not fs.closeSync: in a Worker it warns of descriptors that fs has not opened.
    native().closeFd(fd);
  }
}

/** The interface's name. `syscall` is what finds it out. */
export function interfaceNameOf(handle: SocketHandle, syscall: string): string {
  const name = handle.name();
  if (typeof name === 'string') return name;
  throw systemError(name, syscall);
}

/** A socket is made by a factory, which has opened something. */
export function assertOpened(setup: object | undefined, name: string, factory: string): void {
  if (setup === undefined || !('handle' in setup)) {
    throw Object.assign(new TypeError(`a ${name} is made by ${factory}`), {
      code: 'ERR_ILLEGAL_CONSTRUCTOR',
    });
  }
}

/** The error for a destination on a socket whose packets have none beside their bytes. */
export function noDestination(reason: string): Error {
  return invalidArgValue('options.to', `given only with type 'dgram': ${reason}`, 'a destination');
}

/** The error for `segmentSize` on a socket that sends datagrams one by one. */
export function noSegments(): Error {
  return invalidArgValue('options.segmentSize', "given only on a socket with offload 'raw'", 'a segmentSize');
}

/** The error for `offload` on a socket without virtio headers. */
export function noOffload(): Error {
  return invalidArgValue(
    'options.offload',
    "given only on a socket with offload 'raw' or 'split'",
    'an offload',
  );
}
