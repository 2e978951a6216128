#include "core/io/segment_fallback_io.h"

#include <algorithm>
#include <cerrno>

namespace tunsock {
namespace {

/// The most that a datagram has, over IPv4: no message is longer.
constexpr size_t kMaxMessage = 65535 - 8 - 20;

/// Whether a message was refused for what it is made of, so that its datagrams may go: EIO where the device
/// on the way makes no checksums, or the datagrams are to be encrypted; EINVAL, and EMSGSIZE of later
/// kernels, where one is longer than the path's mtu. udp_send_skb() in net/ipv4/udp.c. One that no kernel
/// takes is the caller's mistake.
bool Refused(SysResult result, size_t total, size_t segment) {
  if (segment == 0) return false;
  if (result == -EIO) return true;
  return (result == -EINVAL || result == -EMSGSIZE) && total <= kMaxSegments * segment &&
         total <= kMaxMessage;
}

/// Goes through scattered buffers piece by piece.
class ViewReader {
 public:
  ViewReader(const iovec* views, int count, size_t skipped) : view_(views), end_(views + count) {
    while (view_ != end_ && skipped >= view_->iov_len) skipped -= (view_++)->iov_len;
    at_ = skipped;
  }

  /// Where the next `length` bytes are; returns in how many views.
  int Take(size_t length, iovec* parts) {
    int count = 0;
    while (length > 0 && view_ != end_) {
      const size_t part = std::min(length, view_->iov_len - at_);
      if (part > 0) parts[count++] = {static_cast<uint8_t*>(view_->iov_base) + at_, part};
      length -= part;
      at_ += part;
      if (at_ == view_->iov_len) {
        ++view_;
        at_ = 0;
      }
    }
    return count;
  }

 private:
  const iovec* view_;
  const iovec* end_;
  size_t at_ = 0;
};

size_t SegmentOf(const Batch& batch, uint32_t index) {
  return batch.has_datagrams ? DatagramOf(batch.meta[index]).segment_size : 0;
}

}  // namespace

SegmentFallbackIo::OneByOne SegmentFallbackIo::SendOneByOne(const iovec* views, int count, int flags,
                                                            const DatagramMeta& meta, size_t from,
                                                            SysResult refusal) {
  DatagramMeta single = meta;
  single.segment_size = 0;
  single.segments_gone = 0;
  PacketMeta own;
  PutDatagram(single, &own);
  const size_t total = TotalLength(views, count);
  ViewReader reader(views, count, from);
  iovec parts[kMaxViews];
  OneByOne gone;
  // An empty one is one, too.
  do {
    const size_t length = std::min<size_t>(meta.segment_size, total - from - gone.bytes);
    gone.error = Count(&stats_.sent, inner_->Send(parts, reader.Take(length, parts), flags, &own));
    if (gone.error < 0) break;
    gone.error = 0;
    gone.bytes += length;
  } while (from + gone.bytes < total);
  // Now it is known that it was not the datagrams. A message that is longer than the kernel takes over IPv6
  // says nothing of others.
  if (refusal < 0 && gone.bytes > 0 && (refusal == -EIO || total <= kMaxRunBytes)) {
    too_long_ = refusal == -EIO ? 0 : std::min<size_t>(too_long_, meta.segment_size);
    offload_stats_.refused |= OffloadStats::kUso;
  }
  return gone;
}

SysResult SegmentFallbackIo::Send(const iovec* views, int count, int flags, const PacketMeta* meta) {
  const DatagramMeta datagram = meta != nullptr ? DatagramOf(*meta) : DatagramMeta{};
  SysResult sent = 0;
  if (Takes(datagram.segment_size)) {
    sent = inner_->Send(views, count, flags, meta);
    if (sent >= 0 && datagram.segment_size != 0) offload_stats_.sent += 1;
    if (!Refused(sent, TotalLength(views, count), datagram.segment_size)) return Count(&stats_.sent, sent);
  }
  if (count > kMaxViews) return -EINVAL;
  const OneByOne gone = SendOneByOne(views, count, flags, datagram, 0, sent);
  return gone.bytes > 0 ? static_cast<SysResult>(gone.bytes) : gone.error;
}

SysResult SegmentFallbackIo::SendPacketOneByOne(const Batch& batch, uint32_t index, int flags,
                                                SysResult refusal) {
  if (!batch.Holds(index)) return Count(&stats_.sent, -EINVAL);
  DatagramMeta meta = DatagramOf(batch.meta[index]);
  const size_t length = batch.lengths[index];
  const size_t before = size_t{meta.segments_gone} * meta.segment_size;
  const size_t from = before < length ? before : 0;
  const iovec view{batch.slab + batch.offsets[index], length};
  const OneByOne gone = SendOneByOne(&view, 1, flags, meta, from, refusal);
  const bool all = from + gone.bytes == length;
  meta.segments_gone = all ? 0 : static_cast<uint16_t>((from + gone.bytes) / meta.segment_size);
  PutDatagram(meta, &batch.meta[index]);
  return gone.error;
}

uint32_t SegmentFallbackIo::TakenEnd(const Batch& batch, uint32_t start, uint32_t end) const {
  if (!batch.has_datagrams || too_long_ == SIZE_MAX) return end;
  uint32_t stop = start;
  while (stop < end && Takes(SegmentOf(batch, stop))) ++stop;
  return stop;
}

void SegmentFallbackIo::CountSent(const Batch& batch, uint32_t start, SysResult count) {
  for (uint32_t i = 0; i < count; ++i) {
    Count(&stats_.sent, batch.lengths[start + i]);
    if (SegmentOf(batch, start + i) != 0) offload_stats_.sent += 1;
  }
}

SysResult SegmentFallbackIo::SendBatch(const Batch& batch, uint32_t start, uint32_t end, int flags) {
  uint32_t next = start;
  while (next < end) {
    const uint32_t taken = TakenEnd(batch, next, end);
    SysResult result = 0;
    if (taken > next) {
      result = inner_->SendBatch(batch, next, taken, flags);
      CountSent(batch, next, std::max<SysResult>(result, 0));
      if (result >= 0) {
        next += static_cast<uint32_t>(result);
        if (next < taken) break;
        continue;
      }
    }
    if (result == 0 || (batch.Holds(next) && Refused(result, batch.lengths[next], SegmentOf(batch, next)))) {
      result = SendPacketOneByOne(batch, next, flags, result);
    } else {
      Count(&stats_.sent, result);
    }
    if (result < 0) return next != start ? static_cast<SysResult>(next - start) : result;
    ++next;
  }
  return next - start;
}

SysResult SegmentFallbackIo::SendMessages(const Message* messages, uint32_t count, int flags) {
  const auto segment = [&](uint32_t index) -> size_t {
    const PacketMeta* meta = messages[index].meta;
    return meta != nullptr ? DatagramOf(*meta).segment_size : 0;
  };
  const auto total = [&](uint32_t index) {
    return TotalLength(messages[index].views, messages[index].count);
  };
  uint32_t taken = 0;
  while (taken < count && Takes(segment(taken))) ++taken;
  if (taken == 0) return 0;
  const SysResult sent = inner_->SendMessages(messages, taken, flags);
  if (sent < 0) return Refused(sent, total(0), segment(0)) ? 0 : Count(&stats_.sent, sent);
  for (uint32_t i = 0; i < sent; ++i) {
    Count(&stats_.sent, static_cast<SysResult>(total(i)));
    if (segment(i) != 0) offload_stats_.sent += 1;
  }
  return sent;
}

const IoStats& SegmentFallbackIo::stats() {
  stats_.received = inner_->stats().received;
  return stats_;
}

}  // namespace tunsock
