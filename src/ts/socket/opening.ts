import { closeSync } from 'node:fs';
import { Netns } from '../host/netns';
import type { Failure, SocketHandle } from '../native';
import { abortError, check, type SystemErrorContext, systemError } from '../support/errors';
import { integer } from '../support/options';
import type { SocketConfig } from './socket-options';

/** What TunSocket and PacketSocket do alike until there is a socket. */

/** Calls `open` in the namespace that the options name, unless their signal is aborted already. */
export function openWhere<T>({ netns, signal }: SocketConfig, open: () => T): T {
  if (signal?.aborted) throw abortError(signal);
  if (netns === undefined) return open();
  if (netns instanceof Netns) return netns.run(open);
  using opened = Netns.open(netns);
  return opened.run(open);
}

/** Throws what opening failed with; `hints` say what to do about the usual causes, by "syscall errno". */
export function opened(
  result: SocketHandle | Failure,
  hints: ReadonlyMap<string, string>,
  context: (syscall: string) => SystemErrorContext = () => ({}),
): SocketHandle {
  if (!('syscall' in result)) return result;
  const { error, syscall } = result;
  throw systemError(error, syscall, { ...context(syscall), hint: hints.get(`${syscall} ${error}`) });
}

/**
 * Makes a socket of a descriptor that something else opened: `adopt` takes it over, `make` has its handle, in the interface's
 * namespace. If that fails the descriptor is still the caller's.
 */
export function adopted<T>(
  fd: number,
  adopt: (fd: number) => SocketHandle,
  make: (handle: SocketHandle) => T,
): T {
  const handle = adopt(integer('fd', fd, 0, 0x7fffffff));
  try {
    return inNamespaceOf(handle, () => make(handle));
  } catch (error) {
    handle.release();
    throw error;
  }
}

function inNamespaceOf<T>(handle: SocketHandle, fn: () => T): T {
  const fd = handle.networkNamespace();
  // A kernel before 5.2, or a namespace of others: then it is taken to be this thread's.
  if (fd < 0) return fn();
  try {
    using netns = Netns.open(`/proc/self/fd/${fd}`);
    using here = Netns.current();
    // Going where this thread is already would need a privilege.
    return netns.inode === here.inode ? fn() : netns.run(fn);
  } finally {
    closeSync(fd);
  }
}

/** The interface's name. `syscall` is what finds it out. */
export function interfaceNameOf(handle: SocketHandle, syscall: string): string {
  const name = handle.name();
  if (typeof name === 'string') return name;
  throw systemError(name, syscall);
}

/** Makes ready to hear of an interface of the namespace that this thread is in. */
export function watchLink(handle: SocketHandle, index: number, name: string): void {
  check(handle.watchLink(index), 'RTM_GETLINK', { interface: name });
}
