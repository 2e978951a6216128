import { infoAt, PACKED_ROOM, type PacketBatch, packedBatch, storeOf } from '../../packet/packet-batch';
import { workerThreads } from '../../support/builtins';
import type { MessageInfo, OffloadMode } from '../../support/types';

const INBOX_PACKETS = 384;
const INBOX_BYTES = 512 * 1024;

/** The most packets of one wake-up, so that other work of the loop has its turn. */
const WAKE_UP_PACKETS = 64;

/** The same where packets are cut out of superpackets: eight of them in a crossing cost a forwarder a fifth less CPU time than one. */
const WAKE_UP_SEGMENTS = INBOX_PACKETS;

export function wakeUpLimit(offload: OffloadMode): number {
  return offload === 'split' ? WAKE_UP_SEGMENTS : WAKE_UP_PACKETS;
}

let inbox: PacketBatch | undefined;

/**
 * Where the packets of one wake-up go, before they are handed out. One for all sockets of this thread: what is not handed out before the
 * loop can fill it again is put back.
 */
export function sharedInbox(): PacketBatch {
  if (inbox === undefined || storeOf(inbox).isGone)
    inbox = packedBatch(INBOX_PACKETS, INBOX_BYTES + PACKED_ROOM);
  return inbox;
}

const AHEAD_PACKETS = 32;
const AHEAD_BYTES = 64 * 1024;

/** Where a socket reads ahead for receive(), iterators and streams. */
export function aheadInbox(): PacketBatch {
  return packedBatch(AHEAD_PACKETS, AHEAD_BYTES + PACKED_ROOM);
}

/**
 * Packets of up to so many bytes have memory of their own. That costs nothing up to 64 bytes and 300 ns beyond; a packet of 1400 bytes
 * with its own would cost 400 to 600 ns more than in shared memory, a third of what it costs altogether.
 */
const OWN_BYTES = 128;

/** Larger ones share pieces of this size at most: what keeping one packet can hold on to. */
const PIECE_BYTES = 16 * 1024;

/** Packets that have come up and are not handed out yet: those from `next` to `end` - 1 of a packed batch. */
export interface OpenBatch {
  batch: PacketBatch;
  next: number;
  end: number;
}

/** A packet that its holder owns, and what is known of it. */
export interface OwnedPacket {
  packet: Buffer;
  info: MessageInfo;
}

/** A copy of packets up to `after` of an open batch. */
interface Piece {
  open: OpenBatch;
  after: number;
  /** Where it starts in the batch's buffer. */
  start: number;
  memory: Buffer;
}

/**
 * Copies packets out of open batches, for listeners to keep. Memory that several packets share can't be transferred, as that of Buffer.from()
 * can't: a listener that tries would take the others' packets away.
 */
export class PacketOwner {
  #piece: Piece | undefined;

  /** The next packet of `open`. */
  next(open: OpenBatch): OwnedPacket {
    const index = open.next++;
    return { packet: this.#own(open, index), info: infoAt(open.batch, index) };
  }

  #own(open: OpenBatch, index: number): Buffer {
    const { buffer, offsets, lengths } = open.batch;
    const from = offsets[index] as number;
    const to = from + (lengths[index] as number);
    if (to - from <= OWN_BYTES) {
      const packet = Buffer.allocUnsafeSlow(to - from);
      buffer.copy(packet, 0, from, to);
      return packet;
    }
    let piece = this.#piece;
    if (piece === undefined || piece.open !== open || index >= piece.after) {
      piece = newPiece(open, index);
      this.#piece = piece;
    }
    const packet = piece.memory.subarray(from - piece.start, to - piece.start);
    // Nothing here keeps what listeners have let go.
    if (piece.after === open.end && index === open.end - 1) this.#piece = undefined;
    return packet;
  }
}

/** A copy of the packets from `first` on, as many as a piece may have: one copy for all of them costs less than one for each. */
function newPiece(open: OpenBatch, first: number): Piece {
  const { buffer, offsets, lengths } = open.batch;
  const endOf = (index: number) => (offsets[index] as number) + (lengths[index] as number);
  const start = offsets[first] as number;
  let after = first + 1;
  while (after < open.end && endOf(after) - start <= PIECE_BYTES) after += 1;
  const end = endOf(after - 1);
  const memory = Buffer.allocUnsafeSlow(end - start);
  if (after > first + 1) workerThreads().markAsUntransferable(memory.buffer);
  buffer.copy(memory, 0, start, end);
  return { open, after, start, memory };
}
