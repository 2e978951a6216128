#include "core/io/offload_io.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <new>
#include <numeric>
#include <utility>
#include <vector>

namespace tunsock {
namespace {

/// TP_STATUS_CSUMNOTREADY and TP_STATUS_GSO_TCP of linux/if_packet.h.
constexpr uint32_t kUnfinished = 0x8 | 0x100;

/// Packets that make no sense which one call drops before it gives up.
constexpr int kMaxDrops = 64;
/// A batch of one packet, however long. What is never touched costs no memory.
constexpr size_t kIncomingBytes = 128 + kPackedRoom;

/// Refusals that may speak of the superpacket rather than of the device's state. ENOMEM is what a packet
/// socket gets when the kernel can't cut it (validate_xmit_skb() in net/core/dev.c).
bool MayBeTheSuperpacket(SysResult error) {
  return error == -EINVAL || error == -EMSGSIZE || error == -EOPNOTSUPP || error == -ENOMEM;
}

template <typename Value>
void Reorder(Value* values, const std::vector<uint32_t>& order) {
  std::vector<Value> moved;
  moved.reserve(order.size());
  for (const uint32_t index : order) moved.push_back(values[index]);
  std::copy(moved.begin(), moved.end(), values);
}

/// Puts the packets of `batch` from `start` on, `count` of them, in an order in which those that were sent
/// come first.
void MoveSentFirst(const Batch& batch, uint32_t start, uint32_t count, const bool* sent) {
  std::vector<uint32_t> order(count);
  std::iota(order.begin(), order.end(), 0);
  std::stable_partition(order.begin(), order.end(), [&](uint32_t index) { return sent[index]; });
  for (uint32_t* column : {batch.offsets, batch.lengths, batch.sizes, batch.flags, batch.protocols}) {
    Reorder(column + start, order);
  }
  Reorder(batch.meta + start, order);
}

}  // namespace

OffloadIo::OffloadIo(std::unique_ptr<PacketIo> inner, const GroOptions& merge)
    : inner_(std::move(inner)),
      memory_(new (std::nothrow) uint64_t[kIncomingBytes / sizeof(uint64_t)]),
      table_(merge) {
  incoming_.Map(reinterpret_cast<uint8_t*>(memory_.get()), kIncomingBytes, 1, 0);
}

SysResult OffloadIo::Refill() {
  if (!splitter_.done()) return 0;
  for (int drops = 0; drops < kMaxDrops; ++drops) {
    SysResult behind = 0;  // a batch of one packet has nothing behind it
    const SysResult result = inner_->ReceiveBatch(incoming_, MSG_DONTWAIT, &behind);
    if (result < 0) return result;
    uint8_t* packet = incoming_.slab + incoming_.offsets[0];
    const VirtioNetHdr header = VirtioNetHdr::Decode(incoming_.meta[0].virtio_header);
    // What the segments have in common is the rest of the metadata, without what is true of the superpacket
    // only.
    std::fill_n(incoming_.meta[0].virtio_header, kMaxVirtioHeader, uint8_t{0});
    incoming_.meta[0].status &= ~kUnfinished;
    if (splitter_.Begin(packet, incoming_.lengths[0], header, table_.options().framing) == 0) {
      if (splitter_.remaining() > 1) offload_stats_.received += 1;
      return 1;
    }
    stats_.received.errors += 1;
  }
  return -EAGAIN;
}

SysResult OffloadIo::Receive(const iovec* views, int count, int flags, PacketDetails* details) {
  const bool peek = (flags & MSG_PEEK) != 0;
  if (!rules().ForPacket(flags) || count > kMaxViews) return inner_->Receive(views, count, flags, details);
  const size_t room = TotalLength(views, count);
  *details = {};
  const SysResult before = rules().BeforePacket(room);
  if (before <= 0) return before;
  const SysResult refilled = Refill();
  if (refilled < 0) return Count(&stats_.received, refilled);

  GsoSplitter peeked = splitter_;
  const size_t size = (peek ? peeked : splitter_).Next(views, count);
  details->size = static_cast<uint32_t>(size);
  details->copied = static_cast<uint32_t>(std::min(room, size));
  details->flags = details->size > details->copied ? MSG_TRUNC : 0;
  details->protocol = incoming_.protocols[0];
  details->meta = incoming_.meta[0];
  if (!peek) {
    Count(&stats_.received, static_cast<SysResult>(size));
    if (details->flags != 0) stats_.received.truncated += 1;
  }
  return ReceivedBytes(*details, flags);
}

SysResult OffloadIo::ReceiveBatch(const Batch& batch, int flags, SysResult* behind) {
  if (!ReceiveRules::ForBatch(flags)) return -EINVAL;
  return FillBatch(batch, behind, [&](uint8_t* slot, size_t room, uint32_t index) -> SysResult {
    const SysResult refilled = Refill();
    if (refilled < 0) return Count(&stats_.received, refilled);
    // A superpacket that does not fit any more is left for the next batch.
    if (refilled > 0 && index != 0 && splitter_.remaining() > batch.capacity - index) return -EAGAIN;
    const size_t kept = std::min(room, batch.SlotLength());
    const size_t size = splitter_.Next(slot, kept);
    const bool cut = size > kept;
    if (cut) stats_.received.truncated += 1;
    batch.flags[index] = cut ? MSG_TRUNC : 0;
    batch.protocols[index] = incoming_.protocols[0];
    batch.meta[index] = incoming_.meta[0];
    return Count(&stats_.received, static_cast<SysResult>(size));
  });
}

SysResult OffloadIo::Send(const iovec* views, int count, int flags, const PacketMeta* meta) {
  return Count(&stats_.sent, inner_->Send(views, count, flags, meta));
}

bool OffloadIo::MayMerge(const Batch& batch, uint32_t index) const {
  return batch.Holds(index) && !(batch.has_headers && NeedsOffload(batch.meta[index]));
}

SysResult OffloadIo::SendBatch(const Batch& batch, uint32_t start, uint32_t end, int flags) {
  uint32_t next = start;
  while (next < end) {
    const uint32_t limit = std::min(end, next + static_cast<uint32_t>(GroTable::kMaxPackets));
    uint32_t stop = next;
    while (stop < limit && MayMerge(batch, stop)) ++stop;
    stop = std::max(stop, next + 1);
    const SysResult sent =
        stop - next == 1 ? SendSingle(batch, next, flags) : SendRun(batch, next, stop, flags);
    if (sent < 0) return next != start ? static_cast<SysResult>(next - start) : sent;
    next += static_cast<uint32_t>(sent);
    if (next < stop) break;
  }
  return next - start;
}

SysResult OffloadIo::SendSingle(const Batch& batch, uint32_t index, int flags) {
  const SysResult result = inner_->SendBatch(batch, index, index + 1, flags);
  Count(&stats_.sent, result < 0 ? result : batch.lengths[index]);
  return result;
}

SysResult OffloadIo::SendRun(const Batch& batch, uint32_t start, uint32_t end, int flags) {
  for (uint32_t index = start; index < end; ++index) {
    table_.Add(batch.slab + batch.offsets[index], batch.lengths[index]);
  }
  Flush flush;
  for (size_t group = 0; group < table_.group_count() && flush.error == 0; ++group) {
    SendGroup(batch, start, group, flags, &flush);
  }
  table_.Clear();
  if (flush.error == 0) return flush.count;
  if (flush.count == 0) return flush.error;
  MoveSentFirst(batch, start, end - start, flush.sent.data());
  return flush.count;
}

void OffloadIo::SendGroup(const Batch& batch, uint32_t start, size_t index, int flags, Flush* flush) {
  iovec views[GroTable::kMaxIovecs];
  const GroGroup group = table_.Gather(index, views);
  if (group.member_count == 1) return SendMembers(batch, start, group, flags, flush);
  PacketMeta meta{};
  group.header.Encode(meta.virtio_header, sizeof meta.virtio_header);
  const SysResult result = inner_->Send(views, group.iov_count, flags, &meta);
  if (result >= 0) {
    offload_stats_.sent += 1;
    for (size_t i = 0; i < group.member_count; ++i) {
      const uint16_t member = group.members[i];
      flush->sent[member] = true;
      Count(&stats_.sent, batch.lengths[start + member]);
    }
    flush->count += static_cast<uint32_t>(group.member_count);
  } else if (MayBeTheSuperpacket(result)) {
    SendMembers(batch, start, group, flags, flush);
    if (flush->sent[group.members[0]]) StopMerging(group.header);
  } else {
    flush->error = Count(&stats_.sent, result);
  }
}

/// One by one, until one fails.
void OffloadIo::SendMembers(const Batch& batch, uint32_t start, const GroGroup& group, int flags,
                            Flush* flush) {
  for (size_t i = 0; i < group.member_count; ++i) {
    const SysResult result = SendSingle(batch, start + group.members[i], flags);
    if (result < 0) {
      flush->error = result;
      return;
    }
    flush->sent[group.members[i]] = true;
    flush->count += 1;
  }
}

void OffloadIo::StopMerging(const VirtioNetHdr& header) {
  GroOptions merge = table_.options();
  switch (header.gso_type) {
    case kVnetGsoTcp4:
      merge.tso4 = false;
      offload_stats_.refused |= OffloadStats::kTso4;
      break;
    case kVnetGsoTcp6:
      merge.tso6 = false;
      offload_stats_.refused |= OffloadStats::kTso6;
      break;
    default:
      merge.uso = false;
      offload_stats_.refused |= OffloadStats::kUso;
  }
  table_.SetOptions(merge);
}

void OffloadIo::SetMtu(size_t bytes) {
  GroOptions merge = table_.options();
  merge.max_ip_packet = bytes;
  table_.SetOptions(merge);
}

const IoStats& OffloadIo::stats() {
  const IoStats& inner = inner_->stats();
  stats_.received.dropped = inner.received.dropped;
  stats_.received.arrived = inner.received.arrived;
  return stats_;
}

}  // namespace tunsock
