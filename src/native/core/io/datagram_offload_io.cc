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
  SysResult behind = 0;  // a batch of one message has nothing behind it
  const SysResult result = inner_->ReceiveBatch(incoming_, MSG_DONTWAIT, &behind);
  if (result < 0) return result;
  DatagramMeta meta = DatagramOf(incoming_.meta[0]);
  segment_ = meta.segment_size;
  meta.segment_size = 0;
  PutDatagram(meta, &incoming_.meta[0]);
  // A message no longer than one datagram is one, an empty one too.
  if (segment_ == 0 || segment_ >= incoming_.lengths[0])
    segment_ = incoming_.lengths[0];
  else
    offload_stats_.received += 1;
  next_ = 0;
  done_ = false;
  return 1;
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
  return FillBatch(batch, behind, [&](uint8_t* slot, size_t room, uint32_t index) -> SysResult {
    const SysResult refilled = Refill();
    if (refilled < 0) return Count(&stats_.received, refilled);
    const size_t size = NextSize();
    const size_t kept = std::min({size, room, batch.SlotLength()});
    std::memcpy(slot, incoming_.slab + incoming_.offsets[0] + next_, kept);
    if (kept < size) stats_.received.truncated += 1;
    batch.flags[index] = kept < size ? MSG_TRUNC : 0;
    batch.protocols[index] = incoming_.protocols[0];
    batch.meta[index] = incoming_.meta[0];
    Took();
    return Count(&stats_.received, static_cast<SysResult>(size));
  });
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
