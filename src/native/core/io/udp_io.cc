#include "core/io/udp_io.h"

#include <arpa/inet.h>
#include <linux/errqueue.h>
#include <linux/if_ether.h>
#include <linux/sock_diag.h>
#include <netinet/udp.h>

#include <algorithm>
#include <cstring>
#include <ctime>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

namespace tunsock {
namespace {

/// Errors that are kept for whoever asks; who sends them decides how many there are, so the rest is only
/// counted.
constexpr size_t kMaxErrors = 16;
/// Messages of the error queue that one call takes.
constexpr int kMaxDrained = 256;

constexpr uint8_t kMappedPrefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

/// An IPv6 address into `bytes`, or the IPv4 address that it maps; returns the family.
uint8_t ReadAddress6(const in6_addr& address, uint8_t* bytes) {
  const bool mapped = std::memcmp(&address, kMappedPrefix, sizeof kMappedPrefix) == 0;
  if (mapped) {
    std::memcpy(bytes, address.s6_addr + sizeof kMappedPrefix, sizeof(in_addr));
    return 4;
  }
  std::memcpy(bytes, &address, sizeof address);
  return 6;
}

in6_addr MappedAddress(const uint8_t* bytes, uint8_t family) {
  in6_addr address{};
  if (family == 6) {
    std::memcpy(&address, bytes, sizeof address);
  } else {
    std::memcpy(address.s6_addr, kMappedPrefix, sizeof kMappedPrefix);
    std::memcpy(address.s6_addr + sizeof kMappedPrefix, bytes, sizeof(in_addr));
  }
  return address;
}

/// The value of a control message, if it is long enough to have one.
template <typename Value>
bool Read(const cmsghdr* item, Value* value) {
  if (item->cmsg_len < CMSG_LEN(sizeof *value)) return false;
  std::memcpy(value, CMSG_DATA(item), sizeof *value);
  return true;
}

/// IP_TOS comes as one byte, IPV6_TCLASS and the others as an int.
void ReadTrafficClass(const cmsghdr* item, DatagramMeta* meta) {
  int value = 0;
  if (!Read(item, &value))
    Read(item, &meta->traffic_class);
  else
    meta->traffic_class = static_cast<uint8_t>(value);
}

/// Who told of an error, and what it is: struct sock_extended_err and the sender's address behind it.
void ReadError(const cmsghdr* item, DatagramMeta* meta) {
  sock_extended_err error;
  if (!Read(item, &error)) return;
  meta->error = static_cast<uint16_t>(error.ee_errno);
  SocketAddress sender{};
  const size_t length = item->cmsg_len - CMSG_LEN(sizeof error);
  std::memcpy(&sender, CMSG_DATA(item) + sizeof error, std::min(length, sizeof sender));
  DatagramMeta from{};
  ReadAddress(sender, static_cast<socklen_t>(length), &from);
  meta->local_family = from.family;
  std::memcpy(meta->local_address, from.address, sizeof from.address);
}

void ReadControl(const cmsghdr* item, DatagramMeta* meta) {
  if (item->cmsg_level == SOL_IP) {
    in_pktinfo info;
    if (item->cmsg_type == IP_PKTINFO && Read(item, &info)) {
      std::memcpy(meta->local_address, &info.ipi_addr, sizeof info.ipi_addr);
      meta->local_family = 4;
      meta->interface_index = static_cast<uint32_t>(info.ipi_ifindex);
    } else if (item->cmsg_type == IP_TOS) {
      ReadTrafficClass(item, meta);
    } else if (item->cmsg_type == IP_RECVERR) {
      ReadError(item, meta);
    }
  } else if (item->cmsg_level == SOL_IPV6) {
    in6_pktinfo info;
    if (item->cmsg_type == IPV6_PKTINFO && Read(item, &info)) {
      meta->local_family = ReadAddress6(info.ipi6_addr, meta->local_address);
      meta->interface_index = info.ipi6_ifindex;
    } else if (item->cmsg_type == IPV6_TCLASS) {
      ReadTrafficClass(item, meta);
    } else if (item->cmsg_type == IPV6_RECVERR) {
      ReadError(item, meta);
    }
  } else if (item->cmsg_level == SOL_UDP && item->cmsg_type == UDP_GRO) {
    int size = 0;
    if (Read(item, &size) && size > 0) meta->segment_size = static_cast<uint16_t>(size);
  } else if (item->cmsg_level == SOL_SOCKET && item->cmsg_type == SO_TIMESTAMPNS) {
    timespec time;
    if (!Read(item, &time)) return;
    meta->timestamp_seconds = static_cast<uint64_t>(time.tv_sec);
    meta->timestamp_nanoseconds = static_cast<uint32_t>(time.tv_nsec);
  }
}

/// Appends control messages to what is in a header.
class ControlWriter {
 public:
  ControlWriter(msghdr* header, uint8_t* room) : header_(header), room_(room) {}

  template <typename Value>
  void Add(int level, int type, const Value& value) {
    auto* item = reinterpret_cast<cmsghdr*>(room_ + header_->msg_controllen);
    item->cmsg_level = level;
    item->cmsg_type = type;
    item->cmsg_len = CMSG_LEN(sizeof value);
    std::memcpy(CMSG_DATA(item), &value, sizeof value);
    header_->msg_control = room_;
    header_->msg_controllen += CMSG_SPACE(sizeof value);
  }

 private:
  msghdr* header_;
  uint8_t* room_;
};

/// What the network may have said of a datagram: icmp_err_convert of net/ipv4/icmp.c, icmpv6_err_convert().
bool OfNetwork(SysResult result) {
  switch (result) {
    case -ECONNREFUSED:
    case -EHOSTUNREACH:
    case -ENETUNREACH:
    case -EHOSTDOWN:
    case -ENONET:
    case -EPROTO:
    case -ENOPROTOOPT:
    case -EOPNOTSUPP:
    case -EACCES:
    case -EMSGSIZE:
    case -ETIMEDOUT:
      return true;
    default:
      return false;
  }
}

}  // namespace

void ReadAddress(const SocketAddress& address, socklen_t length, DatagramMeta* meta) {
  if (length >= sizeof address.v4 && address.any.sa_family == AF_INET) {
    std::memcpy(meta->address, &address.v4.sin_addr, sizeof address.v4.sin_addr);
    meta->port = ntohs(address.v4.sin_port);
    meta->family = 4;
  } else if (length >= sizeof address.v6 && address.any.sa_family == AF_INET6) {
    meta->family = ReadAddress6(address.v6.sin6_addr, meta->address);
    meta->port = ntohs(address.v6.sin6_port);
    meta->scope = address.v6.sin6_scope_id;
  }
}

SysResult WriteAddress(const DatagramMeta& meta, bool six, SocketAddress* address) {
  if (!six) {
    if (meta.family != 4) return -EAFNOSUPPORT;
    address->v4 = {};
    address->v4.sin_family = AF_INET;
    address->v4.sin_port = htons(meta.port);
    std::memcpy(&address->v4.sin_addr, meta.address, sizeof address->v4.sin_addr);
    return sizeof address->v4;
  }
  if (meta.family != 4 && meta.family != 6) return -EAFNOSUPPORT;
  address->v6 = {};
  address->v6.sin6_family = AF_INET6;
  address->v6.sin6_port = htons(meta.port);
  address->v6.sin6_scope_id = meta.scope;
  address->v6.sin6_addr = MappedAddress(meta.address, meta.family);
  return sizeof address->v6;
}

void UdpIo::ReadMeta(msghdr* header, PacketMeta* meta, uint32_t* protocol) const {
  DatagramMeta datagram{};
  ReadAddress(*static_cast<const SocketAddress*>(header->msg_name), header->msg_namelen, &datagram);
  for (cmsghdr* item = CMSG_FIRSTHDR(header); item != nullptr; item = CMSG_NXTHDR(header, item)) {
    ReadControl(item, &datagram);
  }
  *protocol = datagram.family == 4 ? ETH_P_IP : datagram.family == 6 ? ETH_P_IPV6 : 0;
  PutDatagram(datagram, meta);
}

SysResult UdpIo::PrepareSend(const PacketMeta* /*offload*/, const PacketMeta* own, const iovec& /*first*/,
                             SendRoom* room, msghdr* header) const {
  if (own == nullptr) return 0;
  const DatagramMeta meta = DatagramOf(*own);
  if (meta.segment_size != 0 && !framing_.segments) return -EOPNOTSUPP;
  if (meta.has_destination != 0) {
    const SysResult length = WriteAddress(meta, framing_.six, &room->address);
    if (length < 0) return length;
    header->msg_name = &room->address;
    header->msg_namelen = static_cast<socklen_t>(length);
  }
  ControlWriter control(header, room->control.bytes);
  if (meta.segment_size != 0) control.Add(SOL_UDP, UDP_SEGMENT, meta.segment_size);
  // What is not asked for is left alone: a received datagram that is sent on has its own metadata.
  const bool four = !framing_.six || meta.family == 4;
  if (meta.has_traffic_class != 0) {
    const int traffic_class = meta.traffic_class;
    control.Add(four ? SOL_IP : SOL_IPV6, four ? IP_TOS : IPV6_TCLASS, traffic_class);
  }
  if (meta.has_destination != 0 && (meta.local_family != 0 || meta.interface_index != 0)) {
    if (framing_.six) {
      if (meta.local_family != 0 && meta.local_family != meta.family) return -EAFNOSUPPORT;
      in6_pktinfo info{};
      if (meta.local_family != 0) info.ipi6_addr = MappedAddress(meta.local_address, meta.local_family);
      info.ipi6_ifindex = meta.interface_index;
      control.Add(SOL_IPV6, IPV6_PKTINFO, info);
    } else {
      if (meta.local_family == 6) return -EAFNOSUPPORT;
      in_pktinfo info{};
      std::memcpy(&info.ipi_spec_dst, meta.local_address, sizeof info.ipi_spec_dst);
      info.ipi_ifindex = static_cast<int>(meta.interface_index);
      control.Add(SOL_IP, IP_PKTINFO, info);
    }
  }
  return 0;
}

/// Whoever sends is told of what became of an earlier datagram, and this one has not gone. The error queue
/// still has it for whoever polls.
bool UdpIo::MayBeOfAnother(SysResult result) const {
  return OfNetwork(result);
}

uint32_t UdpIo::DrainErrors(SysResult* first) {
  uint32_t count = 0;
  for (int drained = 0; drained < kMaxDrained; ++drained) {
    SocketAddress name{};
    ControlRoom room;
    msghdr header{};
    header.msg_name = &name;
    header.msg_namelen = sizeof name;
    header.msg_control = room.bytes;
    header.msg_controllen = sizeof room.bytes;
    const SysResult result =
        RetryOnSignal([&] { return ::recvmsg(fd(), &header, MSG_ERRQUEUE | MSG_DONTWAIT); });
    if (result < 0) break;
    PacketMeta meta{};
    uint32_t protocol = 0;
    ReadMeta(&header, &meta, &protocol);
    const DatagramMeta error = DatagramOf(meta);
    // A transmit timestamp, say, or what this host itself had to say, which a call has returned.
    if (error.error == 0 || error.local_family == 0) continue;
    if (count == 0 && first != nullptr) *first = -static_cast<SysResult>(error.error);
    count += 1;
    if (errors_.size() < kMaxErrors) errors_.push_back(meta);
  }
  return count;
}

void UdpIo::TellErrors(SysResult told) {
  if (!OfNetwork(told)) return;
  const uint32_t count = DrainErrors(nullptr);
  // The one that was told is counted.
  if (count > 1) stats_.received.errors += count - 1;
}

SysResult UdpIo::Receive(const iovec* views, int count, int flags, PacketDetails* details) {
  if ((flags & MSG_ERRQUEUE) != 0 && !errors_.empty()) {
    *details = {};
    details->meta = errors_.front();
    errors_.pop_front();
    return 0;
  }
  // The kernel takes no notice of others.
  constexpr int kFlags = MSG_DONTWAIT | MSG_TRUNC | MSG_PEEK | MSG_ERRQUEUE;
  if ((flags & ~kFlags) != 0) return -EINVAL;
  const SysResult result = SocketIo::Receive(views, count, flags, details);
  TellErrors(result);
  return result;
}

SysResult UdpIo::ReceiveBatch(const Batch& batch, int flags, SysResult* behind) {
  const SysResult result = SocketIo::ReceiveBatch(batch, flags, behind);
  TellErrors(result < 0 ? result : *behind);
  return result;
}

/// sendmmsg(2) stops at what became of an earlier datagram, and doesn't say so.
SysResult UdpIo::SendBatch(const Batch& batch, uint32_t start, uint32_t end, int flags) {
  uint32_t next = start;
  while (next < end) {
    const SysResult sent = SocketIo::SendBatch(batch, next, end, flags);
    if (sent < 0) return next != start ? static_cast<SysResult>(next - start) : sent;
    next += static_cast<uint32_t>(sent);
  }
  return next - start;
}

SysResult UdpIo::PendingError() {
  int error = 0;
  socklen_t length = sizeof error;
  const SysResult result =
      CallOnce([&] { return ::getsockopt(fd(), SOL_SOCKET, SO_ERROR, &error, &length); });
  if (result < 0) return result;
  SysResult first = 0;
  const uint32_t queued = DrainErrors(&first);
  stats_.received.errors += std::max<uint32_t>(queued, error != 0 ? 1 : 0);
  return error != 0 ? -error : first;
}

const IoStats& UdpIo::stats() {
  uint32_t memory[SK_MEMINFO_VARS] = {};
  socklen_t length = sizeof memory;
  if (::getsockopt(fd(), SOL_SOCKET, SO_MEMINFO, memory, &length) == 0) {
    stats_.received.dropped = memory[SK_MEMINFO_DROPS];
  }
  return stats_;
}

}  // namespace tunsock
