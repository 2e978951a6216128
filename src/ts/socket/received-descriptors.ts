import { native } from '../native';
import type { MessageSocket } from './message-socket';
import { socketFromFd } from './socket-from-fd';

/** Descriptors that this program got from another, by what they are. */
export interface SortedDescriptors {
  sockets: MessageSocket[];
  descriptors: number[];
}

/** Makes sockets of those that socketFromFd() takes; the others stay numbers. */
export function sortDescriptors(numbers: readonly number[]): SortedDescriptors {
  const sorted: SortedDescriptors = { sockets: [], descriptors: [] };
  for (const fd of numbers) {
    try {
      sorted.sockets.push(socketFromFd(fd));
    } catch {
      // Still ours, and nothing that has packets: its receiver may know what it is.
      sorted.descriptors.push(fd);
    }
  }
  return sorted;
}

/** Closes descriptors that nobody takes. */
export function closeDescriptors(numbers: readonly number[]): void {
  // Not fs.closeSync: in a Worker it warns of descriptors that fs has not opened.
  for (const fd of numbers) native().closeFd(fd);
}
