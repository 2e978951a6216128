#include "core/io/held_io.h"

#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

namespace tunsock {

SysResult HeldIo::PutBack(const Batch& batch, uint32_t start, uint32_t end) {
  std::deque<Packet> back;
  for (uint32_t index = start; index < end; ++index) {
    if (!batch.Holds(index)) return -EINVAL;
    const uint32_t length = batch.lengths[index];
    Packet packet{std::unique_ptr<uint8_t[]>(new (std::nothrow) uint8_t[length]), {}};
    if (packet.bytes == nullptr) {
      dropped_ += end - index;
      break;
    }
    std::memcpy(packet.bytes.get(), batch.slab + batch.offsets[index], length);
    packet.details = {length, batch.sizes[index], batch.flags[index], batch.protocols[index],
                      batch.meta[index]};
    back.push_back(std::move(packet));
  }
  const auto count = static_cast<SysResult>(back.size());
  packets_.insert(packets_.begin(), std::make_move_iterator(back.begin()),
                  std::make_move_iterator(back.end()));
  return count;
}

SysResult HeldIo::Receive(const iovec* views, int count, int flags, PacketDetails* details) {
  if (!rules().ForPacket(flags) || count > kMaxViews || Held() == inner_->Held()) {
    return inner_->Receive(views, count, flags, details);
  }
  const size_t room = TotalLength(views, count);
  *details = {};
  const SysResult before = rules().BeforePacket(room);
  if (before <= 0) return before;
  if (packets_.empty()) return std::exchange(error_, 0);

  const Packet& packet = packets_.front();
  *details = packet.details;
  details->copied =
      static_cast<uint32_t>(CopyToViews(packet.bytes.get(), packet.details.copied, views, count));
  const bool cut = details->copied < details->size;
  details->flags |= cut ? MSG_TRUNC : 0;
  const SysResult result = ReceivedBytes(*details, flags);
  if (cut && rules().packet_info) MarkStripped(views, count);
  if ((flags & MSG_PEEK) == 0) Took(cut && (packet.details.flags & MSG_TRUNC) == 0);
  return result;
}

SysResult HeldIo::ReceiveBatch(const Batch& batch, int flags, SysResult* behind) {
  if (!ReceiveRules::ForBatch(flags)) return -EINVAL;
  if (Held() == inner_->Held()) return inner_->ReceiveBatch(batch, flags, behind);
  const SysResult before = rules().BeforePacket(batch.SlotLength());
  if (before < 0) return before;
  if (packets_.empty()) return std::exchange(error_, 0);

  SysResult none = 0;
  return FillBatch(batch, &none, [&](uint8_t* slot, size_t room, uint32_t index) -> SysResult {
    if (packets_.empty()) return -EAGAIN;
    const PacketDetails& details = packets_.front().details;
    const size_t kept = std::min<size_t>({details.copied, room, batch.SlotLength()});
    const bool cut = kept < details.size;
    std::memcpy(slot, packets_.front().bytes.get(), kept);
    const iovec view{slot, kept};
    if (cut && rules().packet_info) MarkStripped(&view, 1);
    batch.flags[index] = details.flags | (cut ? MSG_TRUNC : 0);
    batch.protocols[index] = details.protocol;
    batch.meta[index] = details.meta;
    const SysResult size = details.size;
    Took(cut && (details.flags & MSG_TRUNC) == 0);
    return size;
  });
}

void HeldIo::Took(bool cut) {
  packets_.pop_front();
  if (cut) truncated_ += 1;
}

const IoStats& HeldIo::stats() {
  stats_ = inner_->stats();
  stats_.received.truncated += truncated_;
  stats_.received.dropped += dropped_;
  return stats_;
}

}  // namespace tunsock
