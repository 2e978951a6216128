#include "core/io/socket_io.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "core/io/protocol.h"
#include "core/io/vlan_tag.h"

namespace tunsock {
namespace {

constexpr int kSendFlags = MSG_DONTWAIT | MSG_NOSIGNAL;

/// Packets in one recvmmsg(2) or sendmmsg(2): what the headers of the latter need fits the stack.
constexpr uint32_t kChunk = ReceiveHeaders::kPackets;

/// Packets that no virtio header describes, and that one call leaves out.
constexpr uint32_t kMaxDrops = 64;

/// Takes what a message of the error queue has beyond the caller's buffers. Written by the kernel, never
/// read, and so shared by all threads.
uint8_t g_spill[kMaxPacket];

/// Where a packet goes that says so itself.
Destination DestinationOf(const PacketMeta& meta) {
  Destination destination;
  destination.interface_index = meta.interface_index;
  destination.length = std::min<uint8_t>(meta.address_length, sizeof destination.address);
  destination.protocol = meta.destination_protocol;
  std::memcpy(destination.address, meta.address, sizeof destination.address);
  return destination;
}

/// How a receive call ended for one packet: whether it was cut (to be told by its lengths), and whether its
/// control data was.
uint32_t FlagsOf(bool cut, const msghdr& header) {
  return (cut ? MSG_TRUNC : 0) | (static_cast<uint32_t>(header.msg_flags) & MSG_CTRUNC);
}

}  // namespace

bool SocketIo::Gone() const {
  if (framing_.interface_index == 0) return false;
  sockaddr_ll address{};
  socklen_t length = sizeof address;
  // Unregistering an interface leaves its sockets bound to -1.
  return ::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &length) == 0 && address.sll_ifindex < 0;
}

SysResult SocketIo::Settle(SysResult result) {
  if (result >= 0) {
    may_be_down_ = false;
    return result;
  }
  if (result == -ENETDOWN || result == -ENXIO) may_be_down_ = true;
  const bool suspect = result == -ENETDOWN || result == -ENXIO || result == -EAGAIN;
  return suspect && may_be_down_ && Gone() ? -EBADFD : result;
}

SysResult SocketIo::Receive(const iovec* views, int count, int flags, PacketDetails* details) {
  if (count > kMaxViews) return -EINVAL;
  const bool errors = (flags & MSG_ERRQUEUE) != 0;
  if (errors && !error_queue_.empty()) {
    error_queue_.Take(views, count, details);
    return ReceivedBytes(*details, flags);
  }
  const SysResult size = ReceiveDescribed(views, count, flags, details);
  // What comes back from the error queue is a packet that was sent.
  const bool taken = size < 0 || (flags & (MSG_PEEK | MSG_ERRQUEUE)) == 0;
  if (taken) Count(&stats_.received, size);
  if (size < 0) return size;

  if (taken && (details->flags & MSG_TRUNC) != 0) stats_.received.truncated += 1;
  return ReceivedBytes(*details, flags);
}

bool SocketIo::Undescribed(SysResult result, int flags) {
  // virtio_net_hdr_from_skb() in include/linux/virtio_net.h: of a tunnel, say.
  if (result != -EINVAL || framing_.virtio_header == 0 || !rules().ForPacket(flags)) return false;
  stats_.received.dropped += 1;
  return true;
}

/// A remote host decides how many there are in a row: so they end neither the socket nor, past a bound, this
/// call, which then finds nothing. The poll shows what is behind them.
SysResult SocketIo::ReceiveDescribed(const iovec* views, int count, int flags, PacketDetails* details) {
  for (uint32_t drops = 0; drops < kMaxDrops; ++drops) {
    const SysResult size = ReceiveOne(views, count, flags, details);
    if (!Undescribed(size, flags)) return size;
  }
  return -EAGAIN;
}

/// One recvmsg(2): the packet's true length, and the rest in `details`. The error queue's messages have
/// neither virtio header nor tag.
SysResult SocketIo::ReceiveOne(const iovec* views, int count, int flags, PacketDetails* details) {
  sockaddr_ll from;
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
  const size_t virtio_header = errors ? 0 : framing_.virtio_header;
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
  const auto size = static_cast<uint32_t>(errors ? result : PutTagBack(views, count, result, &details->meta));
  details->size = size;
  details->copied = static_cast<uint32_t>(std::min<size_t>(TotalLength(views, count), size));
  details->flags = FlagsOf(details->size > details->copied, header);
  return size;
}

SysResult SocketIo::PutTagBack(const iovec* views, int count, SysResult size, PacketMeta* meta) const {
  if (!framing_.tags_inline || !HasVlanTag(*meta)) return size;
  const SysResult with_tag = size + static_cast<SysResult>(kVlanTag);
  const size_t room = std::min(TotalLength(views, count), static_cast<size_t>(with_tag));
  PutVlanTagBack(views, count, room, framing_.virtio_header, meta);
  return with_tag;
}

SysResult SocketIo::ReceiveChunk(const Batch& batch, uint32_t start, uint32_t count) {
  if (receive_headers_ == nullptr) {
    receive_headers_ = std::make_unique<ReceiveHeaders>(framing_.virtio_header != 0);
  }
  for (uint32_t i = 0; i < count; ++i) {
    iovec* view = receive_headers_->Prepare(i);
    if (framing_.virtio_header != 0) *view++ = {batch.meta[start + i].virtio_header, framing_.virtio_header};
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
        PutTagBack(&slot, 1, WithoutHeader(headers[i].msg_len, framing_.virtio_header), &batch.meta[index]));
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
    if (Undescribed(received, flags)) {
      if (++drops == kMaxDrops) return EndOfBatch(total, -EAGAIN, behind);
      continue;
    }
    if (received < 0) return EndOfBatch(total, Count(&stats_.received, received), behind);
    total += static_cast<uint32_t>(received);
    if (received < wanted) break;
  }
  return total;
}

socklen_t SocketIo::AddressOf(const Destination& destination, const uint8_t* first, size_t length,
                              sockaddr_ll* address) const {
  const uint32_t interface_index =
      destination.interface_index != 0 ? destination.interface_index : framing_.interface_index;
  if (destination.length == 0) {
    const bool bound_to_one = framing_.protocol != 0 && framing_.protocol != ETH_P_ALL;
    const bool elsewhere = interface_index != framing_.interface_index;
    if (!elsewhere && (framing_.virtio_header == 0 || !bound_to_one)) return 0;
    // Otherwise the kernel takes each frame for one of that protocol, and can't cut a superpacket of another
    // (-ENOMEM). With protocol 0 it looks at the frame.
    *address = {};
    address->sll_family = AF_PACKET;
    address->sll_ifindex = static_cast<int>(interface_index);
    return sizeof *address;
  }
  uint32_t protocol = destination.protocol;
  if (protocol == 0 && framing_.protocol != ETH_P_ALL) protocol = framing_.protocol;
  if (protocol == 0) protocol = ProtocolOfIp(first, length);
  *address = {};
  address->sll_family = AF_PACKET;
  address->sll_protocol = htons(static_cast<uint16_t>(protocol));
  address->sll_ifindex = static_cast<int>(interface_index);
  address->sll_halen = destination.length;
  std::memcpy(address->sll_addr, destination.address, sizeof address->sll_addr);
  return sizeof *address;
}

SysResult SocketIo::Send(const iovec* views, int count, int flags, const PacketMeta* meta) {
  if ((flags & ~kSendFlags) != 0 || count > kMaxViews) return -EINVAL;
  return Count(&stats_.sent, SendOne(views, count, meta));
}

SysResult SocketIo::SendOne(const iovec* views, int count, const PacketMeta* meta) {
  const iovec* first =
      std::find_if(views, views + count, [](const iovec& view) { return view.iov_len != 0; });
  // The kernel pads nothing and takes an empty packet as one without a link header.
  if (first == views + count) return -EINVAL;
  if (framing_.virtio_header == 0 && meta != nullptr && NeedsOffload(*meta)) return -EOPNOTSUPP;
  const Destination destination =
      meta != nullptr && meta->has_destination != 0 ? DestinationOf(*meta) : framing_.destination;
  sockaddr_ll address;
  msghdr header{};
  header.msg_namelen =
      AddressOf(destination, static_cast<const uint8_t*>(first->iov_base), first->iov_len, &address);
  header.msg_name = header.msg_namelen != 0 ? &address : nullptr;
  header.msg_iov = const_cast<iovec*>(views);
  header.msg_iovlen = static_cast<size_t>(count);
  iovec all[kMaxViews + 1];
  if (framing_.virtio_header != 0) {
    all[0] = HeaderView(meta, framing_.virtio_header);
    std::copy(views, views + count, all + 1);
    header.msg_iov = all;
    header.msg_iovlen += 1;
  }
  return WithoutHeader(
      Settle(RetryOnSignal([&] { return ::sendmsg(fd_, &header, MSG_DONTWAIT | MSG_NOSIGNAL); })),
      framing_.virtio_header);
}

SysResult SocketIo::SendChunk(const Batch& batch, uint32_t start, uint32_t end) {
  sockaddr_ll addresses[kChunk];
  iovec packets[kChunk][2];
  mmsghdr headers[kChunk] = {};
  const bool with_header = framing_.virtio_header != 0;
  uint32_t count = 0;
  for (uint32_t index = start; index < end && batch.Holds(index) && batch.lengths[index] != 0; ++index) {
    const PacketMeta* meta = batch.has_headers ? &batch.meta[index] : nullptr;
    if (!with_header && meta != nullptr && NeedsOffload(*meta)) {
      if (count == 0) return Count(&stats_.sent, -EOPNOTSUPP);
      break;
    }
    uint8_t* packet = batch.slab + batch.offsets[index];
    iovec* view = packets[count];
    if (with_header) *view++ = HeaderView(meta, framing_.virtio_header);
    *view = {packet, batch.lengths[index]};
    msghdr& header = headers[count].msg_hdr;
    const bool own = batch.has_destinations && batch.meta[index].has_destination != 0;
    header.msg_namelen = AddressOf(own ? DestinationOf(batch.meta[index]) : framing_.destination, packet,
                                   batch.lengths[index], &addresses[count]);
    header.msg_name = header.msg_namelen != 0 ? &addresses[count] : nullptr;
    header.msg_iov = packets[count];
    header.msg_iovlen = with_header ? 2 : 1;
    ++count;
  }
  if (count == 0) return Count(&stats_.sent, -EINVAL);
  const SysResult sent =
      Settle(RetryOnSignal([&] { return ::sendmmsg(fd_, headers, count, MSG_DONTWAIT | MSG_NOSIGNAL); }));
  if (sent < 0) return Count(&stats_.sent, sent);
  for (uint32_t i = 0; i < sent; ++i)
    Count(&stats_.sent, WithoutHeader(headers[i].msg_len, framing_.virtio_header));
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

SysResult SocketIo::PendingError() {
  if (Gone()) return -EBADFD;
  int error = 0;
  socklen_t length = sizeof error;
  const SysResult result = CallOnce([&] { return ::getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &length); });
  EmptyErrorQueue();
  // Of a packet that was met behind others of a batch: it is gone, and nothing is wrong.
  if (Undescribed(-error, 0)) return 0;
  return result < 0 || error == 0 ? result : Settle(-error);
}

/// As long as there is something in it, poll(2) shows POLLERR. Bounded: whoever sends may fill it meanwhile.
void SocketIo::EmptyErrorQueue() {
  std::unique_ptr<uint8_t[]> room;
  for (size_t i = 0; i < ErrorQueue::kMessages; ++i) {
    if (room == nullptr) room.reset(new (std::nothrow) uint8_t[kMaxPacket]);
    // Without memory for it, it is thrown away: a busy loop is worse.
    const iovec view{room.get(), room != nullptr ? kMaxPacket : 0};
    PacketDetails details;
    if (ReceiveOne(&view, 1, MSG_ERRQUEUE, &details) < 0) return;
    error_queue_.Put(room.get(), details);
  }
}

const IoStats& SocketIo::stats() {
  tpacket_stats counters{};
  socklen_t length = sizeof counters;
  // Reading sets the kernel's counters to 0.
  if (::getsockopt(fd_, SOL_PACKET, PACKET_STATISTICS, &counters, &length) == 0) {
    stats_.received.dropped += counters.tp_drops;
    stats_.received.arrived += counters.tp_packets;
  }
  return stats_;
}

}  // namespace tunsock
