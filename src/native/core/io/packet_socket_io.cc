#include "core/io/packet_socket_io.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>

#include "core/io/packet_messages.h"
#include "core/io/protocol.h"
#include "core/io/vlan_tag.h"

namespace tunsock {
namespace {

/// Where a packet goes that says so itself.
Destination DestinationOf(const PacketMeta& meta) {
  Destination destination;
  destination.interface_index = meta.interface_index;
  destination.length = std::min<uint8_t>(meta.address_length, sizeof destination.address);
  destination.protocol = meta.destination_protocol;
  std::memcpy(destination.address, meta.address, sizeof destination.address);
  return destination;
}

}  // namespace

SysResult PacketSocketIo::Receive(const iovec* views, int count, int flags, PacketDetails* details) {
  if ((flags & MSG_ERRQUEUE) == 0 || error_queue_.empty() || count > kMaxViews) {
    return SocketIo::Receive(views, count, flags, details);
  }
  error_queue_.Take(views, count, details);
  return ReceivedBytes(*details, flags);
}

void PacketSocketIo::ReadMeta(msghdr* header, PacketMeta* meta, uint32_t* protocol) const {
  ReadPacketMeta(header, meta, protocol);
}

SysResult PacketSocketIo::PutBack(const iovec* views, int count, SysResult size, PacketMeta* meta) const {
  if (!framing_.tags_inline || !HasVlanTag(*meta)) return size;
  const SysResult with_tag = size + static_cast<SysResult>(kVlanTag);
  const size_t room = std::min(TotalLength(views, count), static_cast<size_t>(with_tag));
  PutVlanTagBack(views, count, room, framing_.virtio_header, meta);
  return with_tag;
}

bool PacketSocketIo::Gone() const {
  if (framing_.interface_index == 0) return false;
  sockaddr_ll address{};
  socklen_t length = sizeof address;
  // Unregistering an interface leaves its sockets bound to -1.
  return ::getsockname(fd(), reinterpret_cast<sockaddr*>(&address), &length) == 0 && address.sll_ifindex < 0;
}

SysResult PacketSocketIo::Settle(SysResult result) {
  if (result >= 0) {
    may_be_down_ = false;
    return result;
  }
  if (result == -ENETDOWN || result == -ENXIO) may_be_down_ = true;
  const bool suspect = result == -ENETDOWN || result == -ENXIO || result == -EAGAIN;
  return suspect && may_be_down_ && Gone() ? -EBADFD : result;
}

socklen_t PacketSocketIo::AddressOf(const Destination& destination, const iovec& first,
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
  if (protocol == 0) protocol = ProtocolOfIp(static_cast<const uint8_t*>(first.iov_base), first.iov_len);
  *address = {};
  address->sll_family = AF_PACKET;
  address->sll_protocol = htons(static_cast<uint16_t>(protocol));
  address->sll_ifindex = static_cast<int>(interface_index);
  address->sll_halen = destination.length;
  std::memcpy(address->sll_addr, destination.address, sizeof address->sll_addr);
  return sizeof *address;
}

SysResult PacketSocketIo::PrepareSend(const PacketMeta* offload, const PacketMeta* own, const iovec& first,
                                      SendRoom* room, msghdr* header) const {
  // The kernel pads nothing and takes an empty packet as one without a link header.
  if (first.iov_len == 0) return -EINVAL;
  if (framing_.virtio_header == 0 && offload != nullptr && NeedsOffload(*offload)) return -EOPNOTSUPP;
  const bool directed = own != nullptr && own->has_destination != 0;
  header->msg_namelen =
      AddressOf(directed ? DestinationOf(*own) : framing_.destination, first, &room->address.link);
  header->msg_name = header->msg_namelen != 0 ? &room->address : nullptr;
  return 0;
}

SysResult PacketSocketIo::PendingError() {
  if (Gone()) return -EBADFD;
  int error = 0;
  socklen_t length = sizeof error;
  const SysResult result =
      CallOnce([&] { return ::getsockopt(fd(), SOL_SOCKET, SO_ERROR, &error, &length); });
  EmptyErrorQueue();
  // Of a packet that was met behind others of a batch: it is gone, and nothing is wrong.
  if (Dropped(-error, 0)) return 0;
  return result < 0 || error == 0 ? result : Settle(-error);
}

/// As long as there is something in it, poll(2) shows POLLERR. Bounded: whoever sends may fill it meanwhile.
void PacketSocketIo::EmptyErrorQueue() {
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

const IoStats& PacketSocketIo::stats() {
  tpacket_stats counters{};
  socklen_t length = sizeof counters;
  // Reading sets the kernel's counters to 0.
  if (::getsockopt(fd(), SOL_PACKET, PACKET_STATISTICS, &counters, &length) == 0) {
    stats_.received.dropped += counters.tp_drops;
    stats_.received.arrived += counters.tp_packets;
  }
  return stats_;
}

}  // namespace tunsock
