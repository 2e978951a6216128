#include "core/io/datagram_offload_io.h"

#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace tunsock {
namespace {

/// UDP_MAX_SEGMENTS of include/linux/udp.h, as it was before Linux 6.9.
constexpr uint32_t kMaxSegments = 64;
/// The most that one message may have, over IPv6: 65535 less the UDP header, and the IP header, which counts
/// where the kernel cuts.
constexpr size_t kMaxRunBytes = 65535 - 8 - 40;
constexpr size_t kIncomingBytes = 128 + kBatchTail;
/// Datagrams of a message that may go where they belong at once.
constexpr uint32_t kMaxInPlace = 64;

/// Whether two datagrams go to one place, in one way.
bool SameWay(const Batch& batch, uint32_t one, uint32_t other) {
  if (!batch.has_datagrams) return true;
  const DatagramMeta a = DatagramOf(batch.meta[one]);
  const DatagramMeta b = DatagramOf(batch.meta[other]);
  if (a.has_destination != b.has_destination || a.has_traffic_class != b.has_traffic_class) return false;
  if (a.has_traffic_class != 0 && a.traffic_class != b.traffic_class) return false;
  if (a.has_destination == 0) return true;
  return std::memcmp(a.address, b.address, sizeof a.address) == 0 && a.port == b.port && a.scope == b.scope &&
         a.family == b.family && a.local_family == b.local_family && a.interface_index == b.interface_index &&
         std::memcmp(a.local_address, b.local_address, sizeof a.local_address) == 0;
}

}  // namespace

DatagramOffloadIo::DatagramOffloadIo(std::unique_ptr<PacketIo> inner)
    : inner_(std::move(inner)), memory_(kIncomingBytes / sizeof(uint64_t)), too_long_(kMaxRunBytes) {
  incoming_.Map(reinterpret_cast<uint8_t*>(memory_.data()), memory_.size() * sizeof(uint64_t), 1, 0);
}

SysResult DatagramOffloadIo::Refill() {
  if (!done_) return 0;
  const iovec view{incoming_.slab, kBatchTail};
  PacketDetails details;
  const SysResult result = inner_->Receive(&view, 1, MSG_DONTWAIT | MSG_TRUNC, &details);
  if (result < 0) return result;
  const DatagramMeta meta = DatagramOf(details.meta);
  incoming_.protocols[0] = details.protocol;
  Begin(meta, details.copied, SegmentOf(meta, details.copied));
  done_ = false;  // also of an empty datagram, which is one
  return 1;
}

size_t DatagramOffloadIo::SegmentOf(const DatagramMeta& meta, size_t length) {
  if (meta.segment_size == 0 || meta.segment_size >= length) return length;
  offload_stats_.received += 1;
  last_segment_ = meta.segment_size;
  return meta.segment_size;
}

void DatagramOffloadIo::Begin(DatagramMeta meta, size_t length, size_t segment) {
  meta.segment_size = 0;
  PutDatagram(meta, &incoming_.meta[0]);
  incoming_.offsets[0] = 0;
  incoming_.lengths[0] = static_cast<uint32_t>(length);
  segment_ = segment;
  next_ = 0;
  done_ = length == 0;
}

size_t DatagramOffloadIo::NextSize() const {
  return std::min<size_t>(segment_, incoming_.lengths[0] - next_);
}

void DatagramOffloadIo::Took() {
  next_ += NextSize();
  done_ = next_ >= incoming_.lengths[0];
}

size_t DatagramOffloadIo::Held() const {
  if (done_) return 0;
  return segment_ == 0 ? 1 : (incoming_.lengths[0] - next_ + segment_ - 1) / segment_;
}

SysResult DatagramOffloadIo::Receive(const iovec* views, int count, int flags, PacketDetails* details) {
  if (!rules().ForPacket(flags) || count > kMaxViews) return inner_->Receive(views, count, flags, details);
  *details = {};
  const SysResult refilled = Refill();
  if (refilled < 0) return Count(&stats_.received, refilled);
  const size_t size = NextSize();
  details->size = static_cast<uint32_t>(size);
  details->copied =
      static_cast<uint32_t>(CopyToViews(incoming_.slab + incoming_.offsets[0] + next_, size, views, count));
  details->flags = details->size > details->copied ? MSG_TRUNC : 0;
  details->protocol = incoming_.protocols[0];
  details->meta = incoming_.meta[0];
  if ((flags & MSG_PEEK) == 0) {
    Took();
    Count(&stats_.received, static_cast<SysResult>(size));
    if (details->flags != 0) stats_.received.truncated += 1;
  }
  return ReceivedBytes(*details, flags);
}

SysResult DatagramOffloadIo::ReceiveBatch(const Batch& batch, int flags, SysResult* behind) {
  if (!ReceiveRules::ForBatch(flags)) return -EINVAL;
  if (batch.packet_size == 0) {
    return FillBatch(batch, behind, [&](uint8_t* slot, size_t room, uint32_t index) -> SysResult {
      const SysResult refilled = Refill();
      return refilled < 0 ? Count(&stats_.received, refilled) : Take(batch, index, slot, room);
    });
  }
  uint32_t index = 0;
  while (index < batch.capacity) {
    if (done_) {
      const SysResult placed = ReceiveInPlace(batch, index);
      if (placed < 0) return EndOfBatch(index, Count(&stats_.received, placed), behind);
      index += static_cast<uint32_t>(placed);
      continue;
    }
    const size_t offset = batch.SlotOffset(index);
    const auto size = static_cast<uint32_t>(Take(batch, index, batch.slab + offset, batch.packet_size));
    batch.offsets[index] = static_cast<uint32_t>(offset);
    batch.lengths[index] = std::min(size, batch.packet_size);
    batch.sizes[index] = size;
    index += 1;
  }
  return index;
}

SysResult DatagramOffloadIo::Take(const Batch& batch, uint32_t index, uint8_t* slot, size_t room) {
  const size_t size = NextSize();
  const size_t kept = std::min({size, room, batch.SlotLength()});
  std::memcpy(slot, incoming_.slab + incoming_.offsets[0] + next_, kept);
  if (kept < size) stats_.received.truncated += 1;
  batch.flags[index] = kept < size ? MSG_TRUNC : 0;
  batch.protocols[index] = incoming_.protocols[0];
  batch.meta[index] = incoming_.meta[0];
  Took();
  return Count(&stats_.received, static_cast<SysResult>(size));
}

SysResult DatagramOffloadIo::ReceiveInPlace(const Batch& batch, uint32_t start) {
  const size_t length = last_segment_;
  if (length == 0 || length > batch.packet_size) {
    const SysResult refilled = Refill();
    return refilled < 0 ? refilled : 0;
  }
  const uint32_t slots = std::min(kMaxInPlace, batch.capacity - start);
  iovec views[kMaxInPlace + 1];
  for (uint32_t i = 0; i < slots; ++i) views[i] = {batch.slab + batch.SlotOffset(start + i), length};
  views[slots] = {incoming_.slab, kBatchTail};
  PacketDetails details;
  const SysResult received = inner_->Receive(views, static_cast<int>(slots) + 1, MSG_TRUNC, &details);
  if (received < 0) return received;
  const size_t in_slots = slots * length;
  const size_t size = details.copied;
  const size_t beyond = size > in_slots ? size - in_slots : 0;
  const DatagramMeta meta = DatagramOf(details.meta);
  const size_t segment = SegmentOf(meta, size);
  incoming_.protocols[0] = details.protocol;
  // One datagram is as good as one of several of that length, as long as it is not longer.
  if (segment == size ? size > length : segment != length) {
    std::memmove(incoming_.slab + in_slots, incoming_.slab, beyond);
    CopyFromViews(views, static_cast<int>(slots), incoming_.slab, std::min(size, in_slots));
    Begin(meta, size, segment);
    return 0;
  }
  Begin(meta, beyond, segment);
  const size_t placed = size - beyond;
  uint32_t count = 0;
  for (size_t at = 0; at < placed || count == 0; at += length, ++count) {
    const uint32_t index = start + count;
    const auto bytes = static_cast<uint32_t>(std::min(length, placed - at));
    batch.offsets[index] = static_cast<uint32_t>(batch.SlotOffset(index));
    batch.lengths[index] = bytes;
    batch.sizes[index] = bytes;
    batch.flags[index] = 0;
    batch.protocols[index] = details.protocol;
    batch.meta[index] = incoming_.meta[0];
    Count(&stats_.received, bytes);
  }
  return count;
}

SysResult DatagramOffloadIo::Send(const iovec* views, int count, int flags, const PacketMeta* meta) {
  return Count(&stats_.sent, inner_->Send(views, count, flags, meta));
}

uint32_t DatagramOffloadIo::RunEnd(const Batch& batch, uint32_t start, uint32_t end) const {
  const auto single = [&](uint32_t index) {
    return !batch.Holds(index) || batch.lengths[index] == 0 ||
           (batch.has_headers && NeedsOffload(batch.meta[index])) ||
           (batch.has_datagrams && DatagramOf(batch.meta[index]).segment_size != 0);
  };
  const uint32_t segment = batch.lengths[start];
  if (single(start) || segment >= too_long_) return start + 1;
  size_t bytes = segment;
  uint32_t stop = start + 1;
  const uint32_t limit = std::min(end, start + kMaxSegments);
  while (stop < limit && !single(stop) && batch.lengths[stop] <= segment &&
         bytes + batch.lengths[stop] <= kMaxRunBytes && SameWay(batch, start, stop)) {
    bytes += batch.lengths[stop];
    stop += 1;
    // One that is shorter is the last.
    if (batch.lengths[stop - 1] < segment) break;
  }
  return stop;
}

uint32_t DatagramOffloadIo::SinglesEnd(const Batch& batch, uint32_t start, uint32_t end) const {
  uint32_t stop = start;
  while (stop < end && RunEnd(batch, stop, end) == stop + 1) stop += 1;
  return stop;
}

SysResult DatagramOffloadIo::SendBatch(const Batch& batch, uint32_t start, uint32_t end, int flags) {
  uint32_t next = start;
  while (next < end) {
    uint32_t stop = SinglesEnd(batch, next, end);
    const bool singles = stop > next;
    if (!singles) stop = RunEnd(batch, next, end);
    const SysResult sent =
        singles ? SendSingles(batch, next, stop, flags) : SendRun(batch, next, stop, flags);
    if (sent < 0) return next != start ? static_cast<SysResult>(next - start) : sent;
    next += static_cast<uint32_t>(sent);
    if (next < stop) break;
  }
  return next - start;
}

SysResult DatagramOffloadIo::SendSingles(const Batch& batch, uint32_t start, uint32_t end, int flags) {
  const SysResult sent = inner_->SendBatch(batch, start, end, flags);
  if (sent < 0) return Count(&stats_.sent, sent);
  for (uint32_t i = 0; i < sent; ++i) Count(&stats_.sent, batch.lengths[start + i]);
  return sent;
}

SysResult DatagramOffloadIo::SendRun(const Batch& batch, uint32_t start, uint32_t end, int flags) {
  iovec views[kMaxSegments];
  const uint32_t count = end - start;
  for (uint32_t i = 0; i < count; ++i) {
    views[i] = {batch.slab + batch.offsets[start + i], batch.lengths[start + i]};
  }
  DatagramMeta together{};
  if (batch.has_datagrams) together = DatagramOf(batch.meta[start]);
  together.segment_size = static_cast<uint16_t>(batch.lengths[start]);
  PacketMeta meta;
  PutDatagram(together, &meta);
  const SysResult result = inner_->Send(views, static_cast<int>(count), flags, &meta);
  if (result >= 0) {
    offload_stats_.sent += 1;
    for (uint32_t i = 0; i < count; ++i) Count(&stats_.sent, batch.lengths[start + i]);
    return count;
  }
  // EIO: the device on the way can't do checksums; EINVAL: the segments are longer than the path's mtu.
  // __ip_append_data() and udp_send_skb() in net/ipv4.
  if (result != -EIO && result != -EINVAL && result != -EMSGSIZE) return Count(&stats_.sent, result);
  const SysResult sent = SendSingles(batch, start, end, flags);
  if (sent > 0) {
    too_long_ = result == -EIO ? 0 : std::min<size_t>(too_long_, batch.lengths[start]);
    offload_stats_.refused |= OffloadStats::kUso;
  }
  return sent;
}

const IoStats& DatagramOffloadIo::stats() {
  const IoStats& inner = inner_->stats();
  stats_.received.dropped = inner.received.dropped;
  // Each one shows there, also what the network said without being asked.
  stats_.received.errors = inner.received.errors;
  return stats_;
}

}  // namespace tunsock
