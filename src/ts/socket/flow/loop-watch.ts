import { NativeEvent, READABLE, type SocketHandle, WRITABLE } from '../../native';
import type { PacketBatch } from '../../packet/packet-batch';
import { storeOf } from '../../packet/packet-batch';
import { EINVAL } from '../../support/io-errors';
import { sharedInbox } from './inbox';

/** What the loop has to say. */
export interface LoopWatchOwner {
  /** `count` packets are in the shared inbox; or with 0 there is something to receive. */
  onReadable(count: number): void;
  onWritable(): void;
  /** A receive failed, and the descriptor is watched on; or the watch has stopped: then 0 says that the error is past. */
  onError(errno: number, stopped: boolean): void;
  /** Something has come that no poll shows. */
  onAgain(): void;
}

/** A socket's place in the event loop. */
export class LoopWatch {
  readonly #handle: SocketHandle;
  readonly #owner: LoopWatchOwner;
  /** The handle holds it weakly while it watches nothing, lest it keep a socket alive that nobody uses. */
  readonly #listener = (kind: NativeEvent, value: number) => this.#onEvent(kind, value);
  #inbox: PacketBatch | undefined;
  #events = 0;
  #limit = 0;

  constructor(handle: SocketHandle, owner: LoopWatchOwner) {
    this.#handle = handle;
    this.#owner = owner;
    this.#listen();
  }

  /** Says what to wait for: packets, of which a wake-up reads `limit` at most, and room to send. Returns 0, or a negative errno. */
  update(reading: boolean, limit: number, writing: boolean): number {
    const events = (reading ? READABLE : 0) | (writing ? WRITABLE : 0);
    if (events === this.#events && limit === this.#limit) return 0;
    const result = this.#handle.watch(events, limit);
    if (result < 0) return result;
    this.#events = events;
    this.#limit = limit;
    if (result > 0) this.#owner.onAgain();
    return 0;
  }

  setRef(ref: boolean): void {
    this.#handle.setRef(ref);
  }

  /** Where packets go; returns whether that is another place than before, whose memory was transferred away. */
  #listen(): boolean {
    const inbox = sharedInbox();
    if (inbox === this.#inbox) return false;
    this.#inbox = inbox;
    const { memory, capacity } = storeOf(inbox);
    this.#handle.listen(this.#listener, memory, capacity);
    return true;
  }

  #onEvent(kind: NativeEvent, value: number): void {
    switch (kind) {
      case NativeEvent.Readable:
        if (value >= 0) this.#owner.onReadable(value);
        else if (value !== EINVAL || !this.#listen()) this.#owner.onError(value, false);
        break;
      case NativeEvent.Writable:
        this.#owner.onWritable();
        break;
      case NativeEvent.Error:
        this.#events = 0;
        this.#owner.onError(value, true);
        break;
      case NativeEvent.Again:
        this.#owner.onAgain();
        break;
    }
  }
}
