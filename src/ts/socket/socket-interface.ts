import type { EventEmitter } from 'node:events';
import { Link, type LinkChange } from '../host/link';
import { linkChange } from '../host/link-monitor';
import { type LinkWatcher, watchLink } from '../host/link-subscription';
import type { LinkEvent } from '../host/link-table';
import { Netns } from '../host/netns';
import { type Place, placeInode, runAt } from '../host/netns-place';
import { native, type SocketHandle } from '../native';
import { Deferred } from '../support/deferred';

export type { LinkChange } from '../host/link';

/** How long it is heard of after nobody wants that any more. */
const LINGER_MS = 1000;

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
  /** undefined: a namespace that this process may not enter, where it can hear of nothing. */
  #place: Place | undefined;
  /** The number of the namespace that it is watched in. */
  #inode = 0;
  /** Its namespace, where that was opened here: it has moved there, or who opened it has closed it. */
  #own: Netns | undefined;
  #name: string;
  #index: number;
  #wanted = false;
  /** Who calls receive() again and again wants it again at once, and a subscription costs some forty system calls. */
  readonly #leaving = new Deferred(
    (run) => setTimeout(run, LINGER_MS).unref(),
    () => {
      if (!this.#wanted) this.#unwatch();
    },
  );
  #stop: (() => void) | undefined;
  #closed = false;
  #moved: Link | undefined;

  constructor(
    handle: SocketHandle,
    { name, index, place }: { name: string; index: number; place: Place | undefined },
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
    if (!this.#closed && (this.#index !== 0 || this.#place === undefined)) {
      const name = this.#handle.name();
      if (typeof name === 'string') this.#name = name;
    }
    return this.#name;
  }

  /** The interface where it is now, once it has moved. */
  get moved(): Link | undefined {
    return this.#moved;
  }

  get place(): Place | undefined {
    return this.#place;
  }

  get index(): number {
    return this.#index;
  }

  /** Whether to hear of it; an interface that is gone is heard of no more. */
  listen(wanted: boolean): void {
    if (this.#closed || wanted === this.#wanted) return;
    this.#wanted = wanted;
    if (!wanted) this.#leaving.request();
    else if (this.#stop === undefined) this.#watch();
  }

  close(): void {
    this.#name = this.name;
    this.#unwatch();
    this.#closed = true;
    this.#own?.close();
  }

  #watch(): void {
    if (this.#index === 0) return;
    try {
      const place = this.#reopened();
      if (place === undefined) return;
      this.#inode = placeInode(place);
      this.#stop = watchLink(place, this.#index, this.#watcher);
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
    const place = this.#reopened();
    if (place !== undefined)
      this.#onChange(linkChange(told, Link.at(place, { ...event.link, index: this.#index })));
  }

  /** Goes where a tun device has gone; a packet socket stays where it is. */
  #follow(): boolean {
    const name = this.#handle.name();
    let netns: Netns | undefined;
    try {
      netns = this.#openNetns();
      if (netns !== undefined && typeof name === 'string' && netns.inode !== this.#inode) {
        this.#moved = runAt(netns.place, () => Link.get(name));
        this.#index = this.#moved.index;
        this.#goTo(netns);
        if (this.#wanted) this.#watch();
        return true;
      }
    } catch {
      // It may not be entered, or the device is gone from there too.
    }
    netns?.close();
    return false;
  }

  /** The namespace of the device, or of the socket where the device knows none. */
  #openNetns(): Netns | undefined {
    const descriptor = this.#handle.networkNamespace();
    if (descriptor < 0) return undefined;
    try {
      return Netns.open(`/proc/self/fd/${descriptor}`);
    } finally {
      native().closeFd(descriptor);
    }
  }

  /** The socket outlives the Netns that it was opened with. */
  #reopened(): Place | undefined {
    if (this.#place?.handle !== undefined && this.#place.handle.fd < 0) this.#goTo(this.#openNetns());
    return this.#place;
  }

  #goTo(netns: Netns | undefined): void {
    if (netns === undefined) return;
    this.#own?.close();
    this.#own = netns;
    this.#place = netns.place;
  }
}
