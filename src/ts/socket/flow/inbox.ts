import { META_BYTES, PacketInfo, withBytes } from '../../packet/message-info';
import { encodeOffload } from '../../packet/offload';
import { PacketBatch } from '../../packet/packet-batch';
import { MSG_TRUNC } from '../../support/constants';
import type { MessageInfo, OffloadMode } from '../../support/types';

/** A packet that its holder owns, and what is known of it. */
export interface OwnedPacket {
  packet: Buffer;
  info: MessageInfo;
}

const INBOX_PACKETS = 384;
const INBOX_BYTES = 512 * 1024;

/** The most packets of one wake-up, so that other work of the loop has its turn. */
const WAKE_UP_PACKETS = 64;

/** The same where packets are cut out of superpackets: eight of them in a crossing cost a forwarder a fifth less CPU time than one. */
const WAKE_UP_SEGMENTS = INBOX_PACKETS;

export function wakeUpLimit(offload: OffloadMode): number {
  return offload === 'split' ? WAKE_UP_SEGMENTS : WAKE_UP_PACKETS;
}

/** The most bytes that packets share one piece of memory in: what keeping one small packet can hold on to. */
const SHARED_BYTES = 16 * 1024;

let inbox: PacketBatch | undefined;

/**
 * Where the packets of one wake-up go, before they are handed out. One for all sockets of this thread: it is read out
 * before the loop can fill it again.
 */
export function sharedInbox(): PacketBatch {
  if (inbox === undefined || inbox.memory.byteLength === 0) {
    inbox = PacketBatch.packed(INBOX_PACKETS, INBOX_BYTES);
  }
  return inbox;
}

let direct: PacketBatch | undefined;

/** Where a packet goes that receive() takes at once: a 'batch' listener may be reading the other one meanwhile. */
export function directInbox(): PacketBatch {
  direct ??= PacketBatch.packed(1, 0);
  return direct;
}

/** Copies the packets of a packed batch out of it, several to one piece of memory. */
export function ownPackets(batch: PacketBatch): OwnedPacket[] {
  const { buffer, offsets, lengths, length } = batch;
  const meta = batch.copyMeta(0, length);
  const owned: OwnedPacket[] = new Array(length);
  for (let first = 0; first < length; ) {
    const start = offsets[first] as number;
    let end = start + (lengths[first] as number);
    let after = first + 1;
    while (
      after < length &&
      (offsets[after] as number) + (lengths[after] as number) - start <= SHARED_BYTES
    ) {
      end = (offsets[after] as number) + (lengths[after] as number);
      after += 1;
    }
    const memory = Buffer.allocUnsafeSlow(end - start);
    buffer.copy(memory, 0, start, end);
    for (let index = first; index < after; index++) {
      const at = (offsets[index] as number) - start;
      const bytes = lengths[index] as number;
      owned[index] = {
        packet: memory.subarray(at, at + bytes),
        info: batch.infoWith(index, meta, index * META_BYTES),
      };
    }
    first = after;
  }
  return owned;
}

/** Scatters an owned packet into `views` as recvmsg does. */
export function scatter(owned: OwnedPacket, views: readonly Uint8Array[], flags: number): MessageInfo {
  const { packet, info } = owned;
  let copied = 0;
  for (const view of views) {
    copied += packet.copy(view, 0, copied);
    if (copied === packet.length) break;
  }
  const cut = copied < info.size;
  return withBytes(
    info,
    (flags & MSG_TRUNC) !== 0 ? info.size : copied,
    cut ? info.flags | MSG_TRUNC : info.flags,
  );
}

/** Moves owned packets from the front of `backlog` into `batch` as recvmmsg does. */
export function refill(batch: PacketBatch, backlog: OwnedPacket[]): number {
  batch.clear();
  while (backlog.length > 0 && batch.length < batch.capacity) {
    const { packet, info } = backlog.shift() as OwnedPacket;
    const index = batch.append(
      [packet.subarray(0, batch.packetSize)],
      Math.min(packet.length, batch.packetSize),
    );
    batch.sizes[index] = info.size;
    batch.flags[index] = info.size > batch.packetSize ? info.flags | MSG_TRUNC : info.flags;
    batch.protocols[index] = info.protocol;
    if (info instanceof PacketInfo) {
      info.store(batch.memory, index * META_BYTES);
      batch.metadata |= info.kinds;
    } else if (info.offload !== undefined) {
      batch.setHeader(index, encodeOffload('info.offload', info.offload));
    }
  }
  return batch.length;
}
