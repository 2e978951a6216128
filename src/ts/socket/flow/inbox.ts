import { markAsUntransferable } from 'node:worker_threads';
import { infoAt, PACKED_ROOM, type PacketBatch, packedBatch, storeOf } from '../../packet/packet-batch';
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

/** Larger ones share pieces of this size: what keeping one packet can hold on to. */
const PIECE_BYTES = 16 * 1024;

/**
 * Copies packets out of a batch, for listeners to keep. Memory that several packets share can't be transferred, as that of Buffer.from()
 * can't: a listener that tries would take the others' packets away.
 */
export class PacketOwner {
  #piece: Buffer | undefined;
  #used = 0;

  /** Packet `index` of `batch`. */
  own(batch: PacketBatch, index: number): Buffer {
    const start = batch.offsets[index] as number;
    const length = batch.lengths[index] as number;
    if (length <= OWN_BYTES) return copied(Buffer.allocUnsafeSlow(length), batch.buffer, start);
    if (length > PIECE_BYTES / 2) return copied(Buffer.allocUnsafeSlow(length), batch.buffer, start);
    if (this.#piece === undefined || this.#used + length > PIECE_BYTES) {
      this.#piece = Buffer.allocUnsafeSlow(PIECE_BYTES);
      markAsUntransferable(this.#piece.buffer);
      this.#used = 0;
    }
    const at = this.#used;
    // The next one starts on a multiple of 8, as typed arrays over it need.
    this.#used = (at + length + 7) & ~7;
    return copied(this.#piece.subarray(at, at + length), batch.buffer, start);
  }
}

function copied(packet: Buffer, from: Buffer, start: number): Buffer {
  from.copy(packet, 0, start, start + packet.length);
  return packet;
}

/** A packet that its holder owns, and what is known of it. */
export interface OwnedPacket {
  packet: Buffer;
  info: MessageInfo;
}

export function ownedPacket(owner: PacketOwner, batch: PacketBatch, index: number): OwnedPacket {
  return { packet: owner.own(batch, index), info: infoAt(batch, index) };
}
