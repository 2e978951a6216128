/** Work that is done once for any number of requests, when its turn comes: on the next tick, the next turn of the loop, or after a time. */
export class Deferred {
  readonly #defer: (run: () => void) => void;
  readonly #run: () => void;
  #requested = false;

  /** @param defer - process.nextTick, setImmediate, or what calls a function in some other way, once and later */
  constructor(defer: (run: () => void) => void, work: () => void) {
    this.#defer = defer;
    this.#run = () => {
      this.#requested = false;
      work();
    };
  }

  request(): void {
    if (this.#requested) return;
    this.#requested = true;
    this.#defer(this.#run);
  }
}
