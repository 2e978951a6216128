import type { Place } from '../host/netns';
import type { SocketHandle } from '../native';

export interface LinkChange {
  kind: string;
  link: { mtu: number };
}

/** The interface that a socket is on, as the socket knows it. @internal */
export class SocketInterface {
  readonly #handle: SocketHandle;
  #name: string;
  #index: number;
  #closed = false;

  constructor(
    handle: SocketHandle,
    { name, index }: { name: string; index: number; place: Place },
    _socket: object,
    _onChange: (change: LinkChange) => void,
  ) {
    this.#handle = handle;
    this.#name = name;
    this.#index = index;
  }

  /** Its name, also after another program has renamed it; the last one known, once closed. */
  get name(): string {
    if (!this.#closed && this.#index !== 0) {
      const name = this.#handle.name();
      if (typeof name === 'string') this.#name = name;
    }
    return this.#name;
  }

  get index(): number {
    return this.#index;
  }

  listen(_wanted: boolean): void {}

  close(): void {
    this.#name = this.name;
    this.#closed = true;
  }
}
