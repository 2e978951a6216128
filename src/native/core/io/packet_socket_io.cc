#include "core/io/packet_socket_io.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>

#include <algorithm>
#include <cstring>
#include <ctime>

#include "core/io/protocol.h"

namespace tunsock {
namespace {

/// Where a packet goes that says so itself.
Destination DestinationOf(const PacketMeta& meta) {
  Destination destination;
  destination.length = std::min<uint8_t>(meta.address_length, sizeof destination.address);
  destination.protocol = meta.destination_protocol;
  std::memcpy(destination.address, meta.address, sizeof destination.address);
  return destination;
}

}  // namespace

/// Takes what came with a packet but for its virtio header. Its name and control data are as the kernel left
/// them.
void PacketSocketIo::ReadMeta(msghdr* header, PacketMeta* meta, uint32_t* protocol) const {
  // From the interface on, PacketMeta is as sockaddr_ll is.
  constexpr size_t kFrom = offsetof(sockaddr_ll, sll_ifindex);
  constexpr size_t kName = offsetof(PacketMeta, interface_index);
  constexpr size_t kRest = offsetof(PacketMeta, status);
  static_assert(offsetof(PacketMeta, address) - kName == offsetof(sockaddr_ll, sll_addr) - kFrom);
  static_assert(kRest - kName == sizeof(sockaddr_ll) - kFrom);
  auto* bytes = reinterpret_cast<uint8_t*>(meta);
  // The error queue's messages have no name.
  if (header->msg_namelen >= sizeof(sockaddr_ll)) {
    const auto* from = static_cast<const uint8_t*>(header->msg_name);
    std::memcpy(bytes + kName, from + kFrom, kRest - kName);
    meta->address_length = std::min<uint8_t>(meta->address_length, sizeof meta->address);
    uint16_t ether_type;
    std::memcpy(&ether_type, from + offsetof(sockaddr_ll, sll_protocol), sizeof ether_type);
    *protocol = ntohs(ether_type);
  } else {
    std::memset(bytes + kName, 0, kRest - kName);
    *protocol = 0;
  }
  std::memset(bytes + kRest, 0, sizeof *meta - kRest);
  if (header->msg_control == nullptr) return;
  for (cmsghdr* item = CMSG_FIRSTHDR(header); item != nullptr; item = CMSG_NXTHDR(header, item)) {
    if (item->cmsg_level == SOL_PACKET && item->cmsg_type == PACKET_AUXDATA &&
        item->cmsg_len >= CMSG_LEN(sizeof(tpacket_auxdata))) {
      tpacket_auxdata data;
      std::memcpy(&data, CMSG_DATA(item), sizeof data);
      meta->status = data.tp_status;
      meta->vlan_tci = data.tp_vlan_tci;
      meta->vlan_tpid = data.tp_vlan_tpid;
    } else if (item->cmsg_level == SOL_SOCKET && item->cmsg_type == SO_TIMESTAMPNS &&
               item->cmsg_len >= CMSG_LEN(sizeof(timespec))) {
      timespec time;
      std::memcpy(&time, CMSG_DATA(item), sizeof time);
      meta->timestamp_seconds = static_cast<uint64_t>(time.tv_sec);
      meta->timestamp_nanoseconds = static_cast<uint32_t>(time.tv_nsec);
    }
  }
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
  if (destination.length == 0) {
    const bool bound_to_one = framing_.protocol != 0 && framing_.protocol != ETH_P_ALL;
    if (framing_.virtio_header == 0 || !bound_to_one) return 0;
    // Otherwise the kernel takes each frame for one of that protocol, and can't cut a superpacket of another
    // (-ENOMEM). With protocol 0 it looks at the frame.
    *address = {};
    address->sll_family = AF_PACKET;
    address->sll_ifindex = static_cast<int>(framing_.interface_index);
    return sizeof *address;
  }
  uint32_t protocol = destination.protocol;
  if (protocol == 0 && framing_.protocol != ETH_P_ALL) protocol = framing_.protocol;
  if (protocol == 0) protocol = ProtocolOfIp(static_cast<const uint8_t*>(first.iov_base), first.iov_len);
  *address = {};
  address->sll_family = AF_PACKET;
  address->sll_protocol = htons(static_cast<uint16_t>(protocol));
  address->sll_ifindex = static_cast<int>(framing_.interface_index);
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
  // Of a packet that was met behind others of a batch: it is gone, and nothing is wrong.
  if (Undescribed(-error)) {
    stats_.received.dropped += 1;
    return 0;
  }
  return result < 0 || error == 0 ? result : Settle(-error);
}

const IoStats& PacketSocketIo::stats() {
  tpacket_stats counters{};
  socklen_t length = sizeof counters;
  // Reading sets the kernel's counters to 0.
  if (::getsockopt(fd(), SOL_PACKET, PACKET_STATISTICS, &counters, &length) == 0) {
    stats_.received.dropped += counters.tp_drops;
  }
  return stats_;
}

}  // namespace tunsock
