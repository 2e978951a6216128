import type { OwnedPacket } from './inbox';

/** What an iterator needs of its socket. */
export interface PacketIteratorSocket {
  /** The next packet, if one is there already. */
  take(): OwnedPacket | undefined;
  next(): Promise<OwnedPacket>;
  /** Why there are no more packets: an error, or null where the socket was closed; undefined while there are. */
  ended(): Error | null | undefined;
}

/** Packets one by one: ends when the socket is closed, throws when it failed. An object of its own is cheaper than a generator. */
export class PacketIterator<Item> implements AsyncIterableIterator<Item, undefined> {
  readonly #socket: PacketIteratorSocket;
  readonly #item: (owned: OwnedPacket) => Item;
  #done = false;

  constructor(socket: PacketIteratorSocket, item: (owned: OwnedPacket) => Item) {
    this.#socket = socket;
    this.#item = item;
  }

  next(): Promise<IteratorResult<Item, undefined>> {
    if (this.#done) return Promise.resolve({ value: undefined, done: true });
    const ended = this.#socket.ended();
    if (ended !== undefined) return this.#end(ended);
    const owned = this.#socket.take();
    if (owned !== undefined) return Promise.resolve({ value: this.#item(owned), done: false });
    return this.#socket.next().then(
      (packet) => ({ value: this.#item(packet), done: false }),
      (error: Error & { code?: string }) => this.#end(error.code === 'ERR_SOCKET_CLOSED' ? null : error),
    );
  }

  return(): Promise<IteratorResult<Item, undefined>> {
    return this.#end(null);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #end(error: Error | null): Promise<IteratorResult<Item, undefined>> {
    this.#done = true;
    return error === null ? Promise.resolve({ value: undefined, done: true }) : Promise.reject(error);
  }
}
