#include "core/io/datagram_offload_io.h"

#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace tunsock {
namespace {

constexpr size_t kIncomingBytes = 128 + kBatchTail;

/// Room for any message, a multiple of 64: where one of several lies in a batch.
constexpr uint32_t kMessageRoom = 65536;
/// The most datagrams that the kernel makes one message of: UDP_MAX_SEGMENTS of include/linux/udp.h since
/// Linux 6.9, which is what a sender on this host may have sent; UDP_GRO_CNT_MAX is less.
constexpr uint32_t kMostSegments = 128;
/// Messages in one call.
constexpr uint32_t kMostMessages = 64;
/// Runs in one call, and the datagrams that they have together.
constexpr uint32_t kMostRuns = 32;
constexpr uint32_t kMaxViewsTogether = 1024;

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

DatagramOffloadIo::DatagramOffloadIo(std::unique_ptr<SegmentFallbackIo> inner)
    : inner_(std::move(inner)), memory_(kIncomingBytes / sizeof(uint64_t)) {
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
  last_count_ = static_cast<uint32_t>((length + last_segment_ - 1) / last_segment_);
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
  uint32_t index = 0;
  while (index < batch.capacity && batch.slab_bytes >= batch.SlotOffset(index) + batch.RoomForOne()) {
    if (done_ && last_count_ > 1 && RoomForMessages(batch, index) > 1) {
      bool ended = false;
      const SysResult placed = ReceiveSeveral(batch, index, &ended, behind);
      if (placed < 0) return EndOfBatch(index, Count(&stats_.received, placed), behind);
      index += static_cast<uint32_t>(placed);
      if (ended) break;
    } else if (done_) {
      // Behind others, a message that has no room is left for the next batch: it would be copied twice.
      if (index != 0 && last_count_ > batch.capacity - index) break;
      const SysResult placed = ReceiveInPlace(batch, index);
      if (placed < 0) return EndOfBatch(index, Count(&stats_.received, placed), behind);
      index += static_cast<uint32_t>(placed);
    } else {
      Take(batch, index);
      index += 1;
    }
  }
  return index;
}

void DatagramOffloadIo::Take(const Batch& batch, uint32_t index) {
  const size_t size = NextSize();
  const size_t offset = batch.SlotOffset(index);
  const size_t kept = std::min(size, batch.SlotLength());
  std::memcpy(batch.slab + offset, incoming_.slab + incoming_.offsets[0] + next_, kept);
  if (kept < size) stats_.received.truncated += 1;
  batch.offsets[index] = static_cast<uint32_t>(offset);
  batch.lengths[index] = static_cast<uint32_t>(kept);
  batch.sizes[index] = static_cast<uint32_t>(size);
  batch.flags[index] = kept < size ? MSG_TRUNC : 0;
  batch.protocols[index] = incoming_.protocols[0];
  batch.meta[index] = incoming_.meta[0];
  Took();
  Count(&stats_.received, static_cast<SysResult>(size));
}

SysResult DatagramOffloadIo::ReceiveInPlace(const Batch& batch, uint32_t start) {
  const uint32_t slots = batch.capacity - start;
  uint8_t* at = batch.slab + batch.SlotOffset(start);
  const bool known = last_segment_ != 0 && last_segment_ <= batch.SlotLength();
  const size_t ahead = known ? std::min(slots * last_segment_, kBatchTail) : kBatchTail;
  const iovec views[] = {{at, ahead}, {incoming_.slab, kBatchTail - ahead}};
  PacketDetails details;
  const SysResult received = inner_->Receive(views, 2, MSG_TRUNC, &details);
  if (received < 0) return received;
  const size_t size = details.copied;
  const DatagramMeta meta = DatagramOf(details.meta);
  const size_t segment = SegmentOf(meta, size);
  const bool fits = segment <= batch.SlotLength();
  const size_t count = segment == 0 ? 1 : (size + segment - 1) / segment;
  const auto placed = fits ? static_cast<uint32_t>(std::min<size_t>(count, slots)) : 0;
  const size_t bytes = std::min(size, placed * segment);
  // What is in the slab and stays there ends where the rest starts.
  const size_t there = std::min(size, ahead);
  if (bytes > there) {
    std::memcpy(at + there, incoming_.slab, bytes - there);
    std::memmove(incoming_.slab, incoming_.slab + bytes - there, size - bytes);
  } else if (bytes < there) {
    std::memmove(incoming_.slab + there - bytes, incoming_.slab, size - there);
    std::memcpy(incoming_.slab, at + bytes, there - bytes);
  }
  incoming_.protocols[0] = details.protocol;
  Begin(meta, size - bytes, segment);
  if (placed != 0) {
    Describe(batch, start, batch.SlotOffset(start), bytes, details.protocol, incoming_.meta[0], segment);
  }
  return placed;
}

uint32_t DatagramOffloadIo::RoomForMessages(const Batch& batch, uint32_t start) const {
  if (batch.packet_size == 0) return 0;
  const uint32_t slots = batch.capacity - start;
  const size_t bytes = size_t{slots} * batch.packet_size;
  return std::min({slots / kMostSegments, static_cast<uint32_t>(bytes / kMessageRoom), kMostMessages});
}

uint32_t DatagramOffloadIo::Describe(const Batch& batch, uint32_t index, size_t offset, size_t size,
                                     uint32_t protocol, const PacketMeta& meta, size_t segment) {
  // No kernel makes a message of more (kMostSegments); memory does not depend on it.
  const size_t count =
      std::min<size_t>(segment == 0 ? 1 : (size + segment - 1) / segment, batch.capacity - index);
  for (size_t i = 0; i < count; ++i) {
    const size_t at = index + i;
    const size_t length = std::min(segment, size - i * segment);
    const size_t kept = std::min(length, batch.SlotLength());
    batch.offsets[at] = static_cast<uint32_t>(offset + i * segment);
    batch.lengths[at] = static_cast<uint32_t>(kept);
    batch.sizes[at] = static_cast<uint32_t>(length);
    batch.flags[at] = kept < length ? MSG_TRUNC : 0;
    batch.protocols[at] = protocol;
    batch.meta[at] = meta;
    if (kept < length) stats_.received.truncated += 1;
  }
  stats_.received.packets += count;
  stats_.received.bytes += size;
  return static_cast<uint32_t>(count);
}

SysResult DatagramOffloadIo::ReceiveSeveral(const Batch& batch, uint32_t start, bool* ended,
                                            SysResult* behind) {
  if (columns_.empty()) columns_.resize(kMostMessages * Batch::kBytesForEach / sizeof(uint64_t));
  const uint32_t wanted = RoomForMessages(batch, start);
  const size_t first = batch.SlotOffset(start);
  Batch messages;
  messages.MapColumns(reinterpret_cast<uint8_t*>(columns_.data()), wanted);
  messages.slab = batch.slab + first;
  messages.slab_bytes = batch.slab_bytes - first;
  messages.packet_size = kMessageRoom;
  const SysResult received = inner_->ReceiveBatch(messages, 0, behind);
  if (received < 0) return received;
  uint32_t index = start;
  for (uint32_t i = 0; i < received; ++i) {
    DatagramMeta meta = DatagramOf(messages.meta[i]);
    const size_t segment = SegmentOf(meta, messages.lengths[i]);
    meta.segment_size = 0;
    PutDatagram(meta, &messages.meta[i]);
    index += Describe(batch, index, first + messages.offsets[i], messages.lengths[i], messages.protocols[i],
                      messages.meta[i], segment);
  }
  // What comes next must not lie where these do.
  *ended = static_cast<uint32_t>(received) < wanted ||
           batch.SlotOffset(index) < first + size_t{wanted} * kMessageRoom;
  return index - start;
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
  if (single(start) || !inner_->Takes(segment)) return start + 1;
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
    SysResult sent = singles ? SendSingles(batch, next, stop, flags) : 0;
    if (!singles && stop < end) {
      sent = SendRuns(batch, next, end, flags);
      if (sent > 0) {
        next += static_cast<uint32_t>(sent);
        continue;
      }
    }
    if (!singles && sent == 0) sent = SendRun(batch, next, stop, flags);
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

void DatagramOffloadIo::CountSent(const Batch& batch, uint32_t start, uint32_t count) {
  offload_stats_.sent = inner_->offload_stats()->sent;
  offload_stats_.refused = inner_->offload_stats()->refused;
  for (uint32_t i = 0; i < count; ++i) Count(&stats_.sent, batch.lengths[start + i]);
}

SysResult DatagramOffloadIo::SendRuns(const Batch& batch, uint32_t start, uint32_t end, int flags) {
  iovec views[kMaxViewsTogether];
  PacketMeta metas[kMostRuns];
  Message messages[kMostRuns];
  uint32_t ends[kMostRuns];
  uint32_t count = 0;
  uint32_t used = 0;
  for (uint32_t next = start; next < end && count < kMostRuns;) {
    const uint32_t stop = RunEnd(batch, next, end);
    if (stop == next + 1 || used + (stop - next) > kMaxViewsTogether) break;
    messages[count] = Gather(batch, next, stop, views + used, &metas[count]);
    used += stop - next;
    ends[count++] = next = stop;
  }
  const SysResult sent = inner_->SendMessages(messages, count, flags);
  if (sent < 0) return Count(&stats_.sent, sent);
  if (sent == 0) return 0;
  const uint32_t datagrams = ends[sent - 1] - start;
  CountSent(batch, start, datagrams);
  return static_cast<SysResult>(datagrams);
}

Message DatagramOffloadIo::Gather(const Batch& batch, uint32_t start, uint32_t end, iovec* views,
                                  PacketMeta* meta) {
  for (uint32_t index = start; index < end; ++index) {
    views[index - start] = {batch.slab + batch.offsets[index], batch.lengths[index]};
  }
  DatagramMeta together{};
  if (batch.has_datagrams) together = DatagramOf(batch.meta[start]);
  together.segment_size = static_cast<uint16_t>(batch.lengths[start]);
  PutDatagram(together, meta);
  return {views, static_cast<int>(end - start), meta};
}

SysResult DatagramOffloadIo::SendRun(const Batch& batch, uint32_t start, uint32_t end, int flags) {
  iovec views[kMaxSegments];
  PacketMeta meta;
  const Message message = Gather(batch, start, end, views, &meta);
  const SysResult bytes = inner_->Send(message.views, message.count, flags, message.meta);
  const uint32_t segment = batch.lengths[start];
  const uint32_t sent = bytes < 0 ? 0 : (static_cast<uint32_t>(bytes) + segment - 1) / segment;
  CountSent(batch, start, sent);
  return bytes < 0 ? Count(&stats_.sent, bytes) : static_cast<SysResult>(sent);
}

const IoStats& DatagramOffloadIo::stats() {
  const IoStats& inner = inner_->stats();
  stats_.received.dropped = inner.received.dropped;
  // Each one shows there, also what the network said without being asked.
  stats_.received.errors = inner.received.errors;
  return stats_;
}

}  // namespace tunsock
