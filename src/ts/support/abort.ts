/** Calls `fn` with `target`, unless that was collected, when a signal is aborted. */
interface Entry {
  target: WeakRef<object>;
  fn: (target: object) => void;
}

/**
 * Who is to hear of each signal. A signal has one listener for all of them, and they are held weakly: signals live long, and Node warns of
 * more than ten listeners.
 */
const entries = new WeakMap<AbortSignal, Set<Entry>>();

const collected = new FinalizationRegistry<{ set: Set<Entry>; entry: Entry }>(({ set, entry }) => {
  set.delete(entry);
});

/**
 * Calls `fn(target)` once when `signal` is aborted, as long as somebody else keeps `target` alive; `fn` must not. Returns what takes that
 * back.
 */
export function onAbort<T extends object>(
  signal: AbortSignal,
  target: T,
  fn: (target: T) => void,
): () => void {
  let set = entries.get(signal);
  if (set === undefined) {
    const all = new Set<Entry>();
    set = all;
    entries.set(signal, all);
    signal.addEventListener(
      'abort',
      () => {
        for (const entry of [...all]) {
          const alive = entry.target.deref();
          if (alive !== undefined && all.delete(entry)) entry.fn(alive);
        }
      },
      { once: true },
    );
  }
  const owner = set;
  const entry: Entry = { target: new WeakRef(target), fn: fn as (target: object) => void };
  owner.add(entry);
  collected.register(target, { set: owner, entry }, entry);
  return () => {
    owner.delete(entry);
    collected.unregister(entry);
  };
}
