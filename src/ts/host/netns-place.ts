import { type Failure, type NetnsHandle, native } from '../native';
import { closedError, systemError } from '../support/errors';

/**
 * A namespace as this thread goes in and out of it. `handle` is absent only for the one where the thread is while no
 * `run` is under way: whatever takes the thread out of there opens it first, so that there is a way back.
 */
export interface Place {
  handle: NetnsHandle | undefined;
}

let here: Place = { handle: undefined };

/** Where this thread is. */
export function currentPlace(): Place {
  return here;
}

/**
 * From here on the thread lives where it has moved to; `back` is where it was, for those who still refer to that place.
 *
 * @internal
 */
export function settle(back: NetnsHandle): void {
  here.handle = back;
  // Not the place of the Netns that it entered: close() must not take the way back to where the thread lives.
  here = { handle: undefined };
}

/** Calls `fn` in `place`; moves the thread only if it is elsewhere. @internal */
export function runAt<T>(place: Place, fn: () => T): T {
  if (place === here) return fn();
  const handle = openHandle(place);
  const previous = here;
  const opened = previous.handle === undefined;
  previous.handle ??= taken(native().NetnsHandle.current());
  let value: T | undefined;
  try {
    const failure = handle.run(() => {
      here = place;
      value = fn();
    });
    if (failure !== undefined) throw netnsError(failure);
    return value as T;
  } finally {
    here = previous;
    if (opened) {
      previous.handle.close();
      previous.handle = undefined;
    }
  }
}

/** @internal */
export function isSamePlace(a: Place, b: Place): boolean {
  return a === b || placeInode(a) === placeInode(b);
}

/** The number that tells its namespace from all others. @internal */
export function placeInode(place: Place): number {
  if (place.handle !== undefined) return openHandle(place).inode;
  const handle = taken(native().NetnsHandle.current());
  const inode = handle.inode;
  handle.close();
  return inode;
}

/** @internal */
export function openHandle(place: Place): NetnsHandle {
  if (place.handle === undefined || place.handle.fd < 0) throw closedError('the network namespace');
  return place.handle;
}

/** What native code opened, or the error of what it met instead. @internal */
export function taken(result: NetnsHandle | Failure, path?: string): NetnsHandle {
  if ('error' in result) throw netnsError(result, path);
  return result;
}

/** @internal */
export function netnsError({ error, syscall }: Failure, path?: string): Error {
  return systemError(error, syscall, {
    path,
    hint: hints.get(`${syscall} ${error}`) ?? hints.get(`${error}`),
  });
}

const hints = new Map([
  ['-1', 'this needs CAP_SYS_ADMIN: run as root, or start under unshare -Urn'],
  ['open -2', 'no such process, namespace or file; a bare name is looked for in /run/netns'],
  ['open -17', 'there is a network namespace of that name already'],
  ['mount -1', 'a name is a mount, and needs CAP_SYS_ADMIN: run as root, or start under unshare -Urnm'],
  ['umount2 -1', 'a name is a mount, and needs CAP_SYS_ADMIN: run as root'],
  ['umount2 -2', 'there is no network namespace of that name'],
  ['if_nametoindex -19', 'the zone of an address is an interface of the network namespace'],
  ['open -13', "another user's process: run as root"],
  ['NS_GET_NSTYPE -22', 'this is no network namespace'],
]);
