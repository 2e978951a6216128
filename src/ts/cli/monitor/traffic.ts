import { summarizePacket } from 'tunsock/packets';

/** Upper ends of the classes of packet sizes, in bytes; beyond the last are superpackets and jumbo frames. */
const SIZES = [128, 512, 1024, 1518] as const;
/** Flows that are told apart in one interval; packets of others count as one, so that a scan doesn't fill the memory. */
const MAX_FLOWS = 4096;
export const OTHER_FLOWS = 'other flows';

export interface Direction {
  packets: number;
  bytes: number;
}

export interface Share {
  name: string;
  packets: number;
  bytes: number;
}

/** What went through an interface in one interval. */
export interface Traffic {
  in: Direction;
  out: Direction;
  /** How many packets there were of each size. */
  sizes: { upTo: number | undefined; packets: number }[];
  protocols: Share[];
  /** By bytes, the largest first. */
  flows: Share[];
}

/** Counts packets. */
export class TrafficCounter {
  #in: Direction = { packets: 0, bytes: 0 };
  #out: Direction = { packets: 0, bytes: 0 };
  #sizes: number[] = Array.from({ length: SIZES.length + 1 }, () => 0);
  #protocols = new Map<string, Share>();
  #flows = new Map<string, Share>();

  /** One packet of `size` bytes, of which `bytes` are the first. */
  add(bytes: Uint8Array, size: number, outgoing: boolean, ethernet: boolean): void {
    const direction = outgoing ? this.#out : this.#in;
    direction.packets += 1;
    direction.bytes += size;
    const found = SIZES.findIndex((upTo) => size <= upTo);
    const at = found < 0 ? SIZES.length : found;
    this.#sizes[at] = (this.#sizes[at] as number) + 1;
    const { protocol, source, destination } = summarizePacket(bytes, { ethernet });
    count(this.#protocols, protocol, size);
    // Both directions of a conversation are one flow.
    const flow = source < destination ? `${source} ${destination}` : `${destination} ${source}`;
    const name = `${protocol} ${flow}`;
    count(this.#flows, this.#flows.has(name) || this.#flows.size < MAX_FLOWS ? name : OTHER_FLOWS, size);
  }

  /** What was counted, with `flows` flows at most; starts again from nothing. */
  take(flows: number): Traffic {
    const traffic: Traffic = {
      in: this.#in,
      out: this.#out,
      sizes: this.#sizes.map((packets, index) => ({ upTo: SIZES[index], packets })),
      protocols: byBytes(this.#protocols),
      flows: byBytes(this.#flows).slice(0, flows),
    };
    this.#in = { packets: 0, bytes: 0 };
    this.#out = { packets: 0, bytes: 0 };
    this.#sizes.fill(0);
    this.#protocols.clear();
    this.#flows.clear();
    return traffic;
  }
}

function count(shares: Map<string, Share>, name: string, size: number): void {
  const share = shares.get(name);
  if (share === undefined) {
    shares.set(name, { name, packets: 1, bytes: size });
    return;
  }
  share.packets += 1;
  share.bytes += size;
}

function byBytes(shares: Map<string, Share>): Share[] {
  return [...shares.values()].sort((a, b) => b.bytes - a.bytes);
}
