import type { EventEmitter } from 'node:events';
import { closeSync } from 'node:fs';
import { Link, type LinkChange } from '../host/link';
import { linkChange } from '../host/link-monitor';
import { type LinkWatcher, watchLink } from '../host/link-subscription';
import type { LinkEvent } from '../host/link-table';
import { Netns } from '../host/netns';
import { isSamePlace, type Place, runAt } from '../host/netns-place';
import type { SocketHandle } from '../native';

export type { LinkChange } from '../host/link';

/** The interface that a socket is on, as the socket knows it: it hears of it, and follows it to another namespace. @internal */
export class SocketInterface {
  readonly #handle: SocketHandle;
  readonly #socket: EventEmitter;
  readonly #onChange: (change: LinkChange) => void;
  /** Referred to weakly by the subscription, so that a socket which nobody uses can be collected. */
  readonly #watcher: LinkWatcher = {
    linkChanged: (event) => this.#changed(event),
    linkWatchFailed: (error) => {
      this.#stop = undefined;
      this.#socket.emit('error', error);
    },
  };
  #place: Place;
  /** Where it has moved to. */
  #followed: Netns | undefined;
  #name: string;
  #index: number;
  #wanted = false;
  #stop: (() => void) | undefined;
  #closed = false;

  constructor(
    handle: SocketHandle,
    { name, index, place }: { name: string; index: number; place: Place },
    socket: EventEmitter,
    onChange: (change: LinkChange) => void,
  ) {
    this.#handle = handle;
    this.#socket = socket;
    this.#onChange = onChange;
    this.#name = name;
    this.#index = index;
    this.#place = place;
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

  /** Whether to hear of it; an interface that is gone is heard of no more. */
  listen(wanted: boolean): void {
    if (this.#closed || wanted === this.#wanted) return;
    this.#wanted = wanted;
    if (wanted) this.#watch();
    else this.#unwatch();
  }

  close(): void {
    this.#name = this.name;
    this.#unwatch();
    this.#closed = true;
    this.#followed?.close();
  }

  #watch(): void {
    if (this.#index === 0) return;
    try {
      this.#stop = watchLink(this.#place, this.#index, this.#watcher);
    } catch (error) {
      process.nextTick(() => this.#socket.emit('error', error));
    }
  }

  #unwatch(): void {
    this.#stop?.();
    this.#stop = undefined;
  }

  #changed(event: LinkEvent): void {
    let told = event;
    if (event.kind === 'removed' || event.kind === 'moved') {
      this.#stop = undefined;
      // After lost messages a link that has moved looks like one that was removed.
      if (this.#follow()) told = { ...event, kind: 'moved', indexInNetns: this.#index };
    }
    this.#onChange(linkChange(told, Link.at(this.#place, { ...event.link, index: this.#index })));
  }

  /** Goes where a tun device has gone; a packet socket stays where it is. */
  #follow(): boolean {
    const descriptor = this.#handle.networkNamespace();
    const name = this.#handle.name();
    if (descriptor < 0) return false;
    try {
      const netns = Netns.open(`/proc/self/fd/${descriptor}`);
      if (typeof name !== 'string' || isSamePlace(netns.place, this.#place)) {
        netns.close();
        return false;
      }
      this.#index = runAt(netns.place, () => Link.get(name)).index;
      this.#followed?.close();
      this.#followed = netns;
      this.#place = netns.place;
    } catch {
      return false; // it may not be entered, or is gone from there too
    } finally {
      closeSync(descriptor);
    }
    if (this.#wanted) this.#watch();
    return true;
  }
}
