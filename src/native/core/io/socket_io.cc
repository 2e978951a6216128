#include "core/io/socket_io.h"

#include <algorithm>
#include <cstring>

namespace tunsock {
namespace {

constexpr int kSendFlags = MSG_DONTWAIT | MSG_NOSIGNAL;

/// Packets in one recvmmsg(2) or sendmmsg(2): what the headers of the latter need fits the stack.
constexpr uint32_t kChunk = ReceiveHeaders::kPackets;

/// Packets that can't be told, and that one call leaves out.
constexpr uint32_t kMaxDrops = 64;

/// Takes what a message of the error queue has beyond the caller's buffers. Written by the kernel, never
/// read, and so shared by all threads.
uint8_t g_spill[kMaxPacket];

/// How a receive call ended for one packet: whether it was cut (to be told by its lengths), and whether its
/// control data was.
uint32_t FlagsOf(bool cut, const msghdr& header) {
  return (cut ? MSG_TRUNC : 0) | (static_cast<uint32_t>(header.msg_flags) & MSG_CTRUNC);
}

}  // namespace

SysResult SocketIo::Receive(const iovec* views, int count, int flags, PacketDetails* details) {
  if (count > kMaxViews) return -EINVAL;
  const SysResult size = ReceiveDescribed(views, count, flags, details);
  // What comes back from the error queue is a packet that was sent.
  const bool taken = size < 0 || (flags & (MSG_PEEK | MSG_ERRQUEUE)) == 0;
  if (taken) Count(&stats_.received, size);
  if (size < 0) return size;

  if (taken && (details->flags & MSG_TRUNC) != 0) stats_.received.truncated += 1;
  return ReceivedBytes(*details, flags);
}

bool SocketIo::Dropped(SysResult result, int flags) {
  if (!Undescribed(result) || !rules().ForPacket(flags)) return false;
  stats_.received.dropped += 1;
  return true;
}

/// A remote host decides how many there are in a row: so they end neither the socket nor, past a bound, this
/// call, which then finds nothing. The poll shows what is behind them.
SysResult SocketIo::ReceiveDescribed(const iovec* views, int count, int flags, PacketDetails* details) {
  for (uint32_t drops = 0; drops < kMaxDrops; ++drops) {
    const SysResult size = ReceiveOne(views, count, flags, details);
    if (!Dropped(size, flags)) return size;
  }
  return -EAGAIN;
}

SysResult SocketIo::ReceiveOne(const iovec* views, int count, int flags, PacketDetails* details) {
  SocketAddress from;
  ControlRoom room;
  iovec all[kMaxViews + 1];
  *details = {};
  msghdr header{};
  header.msg_name = &from;
  header.msg_namelen = sizeof from;
  header.msg_iov = const_cast<iovec*>(views);
  header.msg_iovlen = static_cast<size_t>(count);
  header.msg_control = room.bytes;
  header.msg_controllen = sizeof room.bytes;
  const bool errors = (flags & MSG_ERRQUEUE) != 0;
  const size_t virtio_header = errors ? 0 : virtio_header_;
  if (virtio_header != 0) {
    all[0] = {details->meta.virtio_header, virtio_header};
    std::copy(views, views + count, all + 1);
    header.msg_iov = all;
    header.msg_iovlen += 1;
  } else if (errors) {
    // Of the error queue the kernel tells no true length: what is cut is read too.
    std::copy(views, views + count, all);
    all[count] = {g_spill, sizeof g_spill};
    header.msg_iov = all;
    header.msg_iovlen += 1;
  }
  const SysResult result = WithoutHeader(
      Settle(RetryOnSignal([&] { return ::recvmsg(fd_, &header, flags | MSG_DONTWAIT | MSG_TRUNC); })),
      virtio_header);
  if (result < 0) return result;
  ReadMeta(&header, &details->meta, &details->protocol);
  const auto size = static_cast<uint32_t>(errors ? result : PutBack(views, count, result, &details->meta));
  details->size = size;
  details->copied = static_cast<uint32_t>(std::min<size_t>(TotalLength(views, count), size));
  details->flags = FlagsOf(details->size > details->copied, header);
  return size;
}

SysResult SocketIo::ReceiveChunk(const Batch& batch, uint32_t start, uint32_t count) {
  if (receive_headers_ == nullptr) {
    receive_headers_ = std::make_unique<ReceiveHeaders>(virtio_header_ != 0);
  }
  for (uint32_t i = 0; i < count; ++i) {
    iovec* view = receive_headers_->Prepare(i);
    if (virtio_header_ != 0) *view++ = {batch.meta[start + i].virtio_header, virtio_header_};
    *view = {batch.slab + batch.SlotOffset(start + i), batch.packet_size};
  }
  mmsghdr* headers = receive_headers_->data();
  const SysResult received = Settle(
      RetryOnSignal([&] { return ::recvmmsg(fd_, headers, count, MSG_DONTWAIT | MSG_TRUNC, nullptr); }));
  if (received < 0) return received;
  for (uint32_t i = 0; i < received; ++i) {
    const uint32_t index = start + i;
    ReadMeta(&headers[i].msg_hdr, &batch.meta[index], &batch.protocols[index]);
    const iovec slot{batch.slab + batch.SlotOffset(index), batch.packet_size};
    const auto size = static_cast<uint32_t>(
        PutBack(&slot, 1, WithoutHeader(headers[i].msg_len, virtio_header_), &batch.meta[index]));
    const bool cut = size > batch.packet_size;
    Count(&stats_.received, size);
    if (cut) stats_.received.truncated += 1;
    batch.offsets[index] = static_cast<uint32_t>(batch.SlotOffset(index));
    batch.lengths[index] = cut ? batch.packet_size : size;
    batch.sizes[index] = size;
    batch.flags[index] = FlagsOf(cut, headers[i].msg_hdr);
  }
  return received;
}

SysResult SocketIo::ReceiveBatch(const Batch& batch, int flags, SysResult* behind) {
  if (!ReceiveRules::ForBatch(flags)) return -EINVAL;
  if (batch.packet_size == 0) {
    // No slot fits every packet, so they are received one by one into all the room that is left.
    return FillBatch(batch, behind, [&](uint8_t* slot, size_t room, uint32_t index) {
      const iovec view{slot, room};
      PacketDetails details;
      const SysResult size = Receive(&view, 1, MSG_TRUNC, &details);
      if (size < 0) return size;
      batch.flags[index] = details.flags;
      batch.protocols[index] = details.protocol;
      batch.meta[index] = details.meta;
      return size;
    });
  }
  uint32_t total = 0;
  uint32_t drops = 0;
  while (total < batch.capacity) {
    const uint32_t wanted = std::min(kChunk, batch.capacity - total);
    const SysResult received = ReceiveChunk(batch, total, wanted);
    if (Dropped(received, flags)) {
      if (++drops == kMaxDrops) return EndOfBatch(total, -EAGAIN, behind);
      continue;
    }
    if (received < 0) return EndOfBatch(total, Count(&stats_.received, received), behind);
    total += static_cast<uint32_t>(received);
    if (received < wanted) break;
  }
  return total;
}

SysResult SocketIo::Send(const iovec* views, int count, int flags, const PacketMeta* meta) {
  if ((flags & ~kSendFlags) != 0 || count > kMaxViews) return -EINVAL;
  return Count(&stats_.sent, SendOne(views, count, meta));
}

SysResult SocketIo::SendOne(const iovec* views, int count, const PacketMeta* meta) {
  static constexpr iovec kNothing{nullptr, 0};
  const iovec* first =
      std::find_if(views, views + count, [](const iovec& view) { return view.iov_len != 0; });
  SendRoom room;
  msghdr header{};
  const SysResult prepared =
      PrepareSend(meta, meta, first != views + count ? *first : kNothing, &room, &header);
  if (prepared < 0) return prepared;
  header.msg_iov = const_cast<iovec*>(views);
  header.msg_iovlen = static_cast<size_t>(count);
  iovec all[kMaxViews + 1];
  if (virtio_header_ != 0) {
    all[0] = HeaderView(meta, virtio_header_);
    std::copy(views, views + count, all + 1);
    header.msg_iov = all;
    header.msg_iovlen += 1;
  }
  return WithoutHeader(SettleSent([&] { return ::sendmsg(fd_, &header, kSendFlags); }), virtio_header_);
}

SysResult SocketIo::SendChunk(const Batch& batch, uint32_t start, uint32_t end) {
  SendRoom rooms[kChunk];
  iovec packets[kChunk][2];
  mmsghdr headers[kChunk] = {};
  const bool with_header = virtio_header_ != 0;
  const bool directed = Addresses(batch);
  SysResult refused = -EINVAL;
  uint32_t count = 0;
  for (uint32_t index = start; index < end && batch.Holds(index); ++index) {
    const PacketMeta* meta = &batch.meta[index];
    const PacketMeta* offload = batch.has_headers ? meta : nullptr;
    const iovec packet{batch.slab + batch.offsets[index], batch.lengths[index]};
    msghdr& header = headers[count].msg_hdr;
    refused = PrepareSend(offload, directed ? meta : nullptr, packet, &rooms[count], &header);
    if (refused < 0) break;
    iovec* view = packets[count];
    if (with_header) *view++ = HeaderView(offload, virtio_header_);
    *view = packet;
    header.msg_iov = packets[count];
    header.msg_iovlen = with_header ? 2 : 1;
    ++count;
  }
  if (count == 0) return Count(&stats_.sent, refused);
  const SysResult sent = SettleSent([&] { return ::sendmmsg(fd_, headers, count, kSendFlags); });
  if (sent < 0) return Count(&stats_.sent, sent);
  for (uint32_t i = 0; i < sent; ++i) Count(&stats_.sent, WithoutHeader(headers[i].msg_len, virtio_header_));
  return sent;
}

SysResult SocketIo::SendBatch(const Batch& batch, uint32_t start, uint32_t end, int flags) {
  if ((flags & ~kSendFlags) != 0) return -EINVAL;
  uint32_t next = start;
  while (next < end) {
    const uint32_t wanted = std::min(kChunk, end - next);
    const SysResult sent = SendChunk(batch, next, next + wanted);
    if (sent < 0) return next != start ? static_cast<SysResult>(next - start) : sent;
    next += static_cast<uint32_t>(sent);
    if (sent < wanted) break;
  }
  return next - start;
}

SysResult SocketIo::SendMessages(const Message* messages, uint32_t count, int flags) {
  // A virtio header would have to come before the views.
  if (virtio_header_ != 0) return PacketIo::SendMessages(messages, count, flags);
  if ((flags & ~kSendFlags) != 0) return -EINVAL;
  SendRoom rooms[kChunk];
  mmsghdr headers[kChunk] = {};
  SysResult refused = -EINVAL;
  uint32_t ready = 0;
  for (; ready < std::min(count, kChunk); ++ready) {
    const auto& [views, views_count, meta] = messages[ready];
    msghdr& header = headers[ready].msg_hdr;
    refused = views_count > kMaxViews ? -EINVAL : PrepareSend(meta, meta, views[0], &rooms[ready], &header);
    if (refused < 0) break;
    header.msg_iov = const_cast<iovec*>(views);
    header.msg_iovlen = static_cast<size_t>(views_count);
  }
  if (ready == 0) return Count(&stats_.sent, refused);
  const SysResult sent = SettleSent([&] { return ::sendmmsg(fd_, headers, ready, kSendFlags); });
  if (sent < 0) return Count(&stats_.sent, sent);
  for (uint32_t i = 0; i < sent; ++i) Count(&stats_.sent, static_cast<SysResult>(headers[i].msg_len));
  return sent;
}

}  // namespace tunsock
