import { native } from '../native';
import { systemError } from '../support/errors';

interface DescriptorHolder {
  /** -1 once closed. */
  fd(): number;
}

/** The sockets and channels of this thread by their descriptors: an entry holds as long as its handle has that number. */
const handles = new Map<number, WeakRef<DescriptorHolder>>();

const EEXIST = -17;

/** Remembers that a socket or channel of this thread has the descriptor of `handle`. */
export function noteDescriptor(handle: DescriptorHolder): void {
  handles.set(handle.fd(), new WeakRef(handle));
}

/** Throws where a socket or channel of this thread has descriptor `fd`: whichever closes first would close it under the other. */
export function assertNotOurs(fd: number): void {
  if (handles.get(fd)?.deref()?.fd() !== fd) return;
  throw systemError(EEXIST, 'fromFd', {
    hint: `descriptor ${fd} is that of a socket of this thread: use that one, or have it give the descriptor up (detach() of a MessageSocket)`,
  });
}

/** Throws where the event loop watches descriptor `fd` for somebody else: it can't be watched twice. */
export function assertNotWatched(fd: number): void {
  if (native().probeFd(fd) !== EEXIST) return;
  throw systemError(EEXIST, 'fromFd', {
    hint: `descriptor ${fd} is one that Node itself watches: close what has it, or hand over a duplicate`,
  });
}
