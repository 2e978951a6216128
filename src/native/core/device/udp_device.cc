#include "core/device/udp_device.h"

#include <arpa/inet.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "core/io/packet_io.h"
#include "core/sys/socket_option.h"

#ifndef SO_BINDTOIFINDEX
#define SO_BINDTOIFINDEX 62
#endif
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

namespace tunsock {
namespace {

struct Option {
  const char* name;
  int level;
  int option;
};

constexpr Option kOptions[] = {
    {"SO_DOMAIN", SOL_SOCKET, SO_DOMAIN},
    {"SO_RCVBUF", SOL_SOCKET, SO_RCVBUF},
    {"SO_SNDBUF", SOL_SOCKET, SO_SNDBUF},
    {"SO_RCVBUFFORCE", SOL_SOCKET, SO_RCVBUFFORCE},
    {"SO_SNDBUFFORCE", SOL_SOCKET, SO_SNDBUFFORCE},
    {"SO_REUSEADDR", SOL_SOCKET, SO_REUSEADDR},
    {"SO_REUSEPORT", SOL_SOCKET, SO_REUSEPORT},
    {"SO_BROADCAST", SOL_SOCKET, SO_BROADCAST},
    {"SO_MARK", SOL_SOCKET, SO_MARK},
    {"SO_PRIORITY", SOL_SOCKET, SO_PRIORITY},
    {"SO_TIMESTAMPNS", SOL_SOCKET, SO_TIMESTAMPNS},
    {"SO_BINDTODEVICE", SOL_SOCKET, SO_BINDTOIFINDEX},
    {"IP_TTL", SOL_IP, IP_TTL},
    {"IP_TOS", SOL_IP, IP_TOS},
    {"IP_MTU", SOL_IP, IP_MTU},
    {"IP_MTU_DISCOVER", SOL_IP, IP_MTU_DISCOVER},
    {"IP_MULTICAST_TTL", SOL_IP, IP_MULTICAST_TTL},
    {"IP_MULTICAST_LOOP", SOL_IP, IP_MULTICAST_LOOP},
    {"IPV6_UNICAST_HOPS", SOL_IPV6, IPV6_UNICAST_HOPS},
    {"IPV6_TCLASS", SOL_IPV6, IPV6_TCLASS},
    {"IPV6_MTU", SOL_IPV6, IPV6_MTU},
    {"IPV6_MTU_DISCOVER", SOL_IPV6, IPV6_MTU_DISCOVER},
    {"IPV6_MULTICAST_HOPS", SOL_IPV6, IPV6_MULTICAST_HOPS},
    {"IPV6_MULTICAST_LOOP", SOL_IPV6, IPV6_MULTICAST_LOOP},
    {"IPV6_V6ONLY", SOL_IPV6, IPV6_V6ONLY},
    {"UDP_GRO", SOL_UDP, UDP_GRO},
};

constexpr char kSet[] = "set ";

}  // namespace

Failure UdpDevice::Describe() const {
  const Option wanted[] = {
      {"IP_PKTINFO", SOL_IP, IP_PKTINFO},
      {"IP_RECVTOS", SOL_IP, IP_RECVTOS},
      {"IPV6_RECVPKTINFO", SOL_IPV6, IPV6_RECVPKTINFO},
      {"IPV6_RECVTCLASS", SOL_IPV6, IPV6_RECVTCLASS},
  };
  for (const Option& option : wanted) {
    if (option.level == SOL_IPV6 && !framing_.six) continue;
    const SysResult result = SetSocketOption(fd(), option.level, option.option, 1);
    if (result < 0) return {result, option.name};
  }
  return {};
}

Failure UdpDevice::Open(bool six, UdpDevice* device) {
  UdpDevice opened;
  const SysResult fd = CallOnce(
      [&] { return ::socket(six ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0); });
  if (fd < 0) return {fd, "socket"};
  opened.fd_.reset(static_cast<int>(fd));
  opened.framing_.six = six;
  const Failure failure = opened.Describe();
  if (failure.error < 0) return failure;
  *device = std::move(opened);
  return {};
}

Failure UdpDevice::Adopt(int fd, UdpDevice* device) {
  const SysResult domain = GetSocketOption(fd, SOL_SOCKET, SO_DOMAIN);
  if (domain < 0) return {domain, "getsockopt"};
  const SysResult protocol = GetSocketOption(fd, SOL_SOCKET, SO_PROTOCOL);
  if ((domain != AF_INET && domain != AF_INET6) || protocol != IPPROTO_UDP) return {-ENOTSOCK, "getsockopt"};
  UdpDevice adopted;
  adopted.framing_ = {domain == AF_INET6, GetSocketOption(fd, SOL_UDP, UDP_GRO) > 0};
  adopted.fd_.reset(fd);
  Failure failure = adopted.Describe();
  SocketAddress peer;
  socklen_t length = sizeof peer;
  if (failure.error >= 0 && ::getpeername(fd, &peer.any, &length) == 0) {
    failure = {adopted.DescribeErrors(), "IP_RECVERR"};
  }
  if (failure.error < 0) {
    (void)adopted.Release();
    return failure;
  }
  *device = std::move(adopted);
  return {};
}

SysResult UdpDevice::Control(const std::string& request, int value) {
  constexpr char kInterface[] = "interface ";
  if (request.compare(0, sizeof kInterface - 1, kInterface) == 0) {
    return InterfaceIndex(request.c_str() + sizeof kInterface - 1);
  }
  const bool set = request.compare(0, sizeof kSet - 1, kSet) == 0;
  const char* name = request.c_str() + (set ? sizeof kSet - 1 : 0);
  for (const Option& option : kOptions) {
    if (std::strcmp(option.name, name) != 0) continue;
    return set ? SetSocketOption(fd(), option.level, option.option, value)
               : GetSocketOption(fd(), option.level, option.option);
  }
  return -ENOENT;
}

SysResult UdpDevice::InterfaceIndex(const char* name) const {
  ifreq found{};
  std::strncpy(found.ifr_name, name, sizeof found.ifr_name - 1);
  in_addr wanted{};
  if (::inet_pton(AF_INET, name, &wanted) == 1) {
    ifreq all[128];
    ifconf list{};
    list.ifc_len = sizeof all;
    list.ifc_req = all;
    const SysResult listed = CallOnce([&] { return ::ioctl(fd(), SIOCGIFCONF, &list); });
    if (listed < 0) return listed;
    ifreq* end = all + static_cast<size_t>(list.ifc_len) / sizeof *all;
    ifreq* item = std::find_if(all, end, [&](const ifreq& entry) {
      sockaddr_in address;
      std::memcpy(&address, &entry.ifr_addr, sizeof address);
      return address.sin_addr.s_addr == wanted.s_addr;
    });
    if (item == end) return -ENODEV;
    found = *item;
  }
  const SysResult result = CallOnce([&] { return ::ioctl(fd(), SIOCGIFINDEX, &found); });
  return result < 0 ? result : found.ifr_ifindex;
}

SysResult UdpDevice::DescribeErrors() const {
  const SysResult result = SetSocketOption(fd(), SOL_IP, IP_RECVERR, 1);
  return result < 0 || !framing_.six ? result : SetSocketOption(fd(), SOL_IPV6, IPV6_RECVERR, 1);
}

SysResult UdpDevice::Bind(const DatagramMeta& meta) const {
  SocketAddress address{};
  const SysResult length = WriteAddress(meta, framing_.six, &address);
  if (length < 0) return length;
  return CallOnce([&] { return ::bind(fd(), &address.any, static_cast<socklen_t>(length)); });
}

SysResult UdpDevice::Membership(bool add, const DatagramMeta& meta) const {
  const int level = meta.family == 4 ? SOL_IP : SOL_IPV6;
  DatagramMeta group = meta;
  group.port = 0;
  SocketAddress address{};
  const SysResult length = WriteAddress(group, meta.family == 6, &address);
  if (length < 0) return length;
  if (meta.local_family == 0) {
    group_req request{};
    request.gr_interface = meta.interface_index;
    std::memcpy(&request.gr_group, &address, static_cast<size_t>(length));
    return SetSocketOption(fd(), level, add ? MCAST_JOIN_GROUP : MCAST_LEAVE_GROUP, request);
  }
  DatagramMeta source{};
  source.family = meta.local_family;
  std::memcpy(source.address, meta.local_address, sizeof source.address);
  SocketAddress from{};
  const SysResult from_length = WriteAddress(source, meta.family == 6, &from);
  if (from_length < 0) return from_length;
  group_source_req request{};
  request.gsr_interface = meta.interface_index;
  std::memcpy(&request.gsr_group, &address, static_cast<size_t>(length));
  std::memcpy(&request.gsr_source, &from, static_cast<size_t>(from_length));
  return SetSocketOption(fd(), level, add ? MCAST_JOIN_SOURCE_GROUP : MCAST_LEAVE_SOURCE_GROUP, request);
}

SysResult UdpDevice::Address(const std::string& request, PacketMeta* meta) {
  DatagramMeta datagram = DatagramOf(*meta);
  SocketAddress address{};
  if (request == "getsockname" || request == "getpeername") {
    socklen_t length = sizeof address;
    const auto ask = request == "getsockname" ? ::getsockname : ::getpeername;
    const SysResult result = CallOnce([&] { return ask(fd(), &address.any, &length); });
    if (result < 0) return result;
    datagram = {};
    ReadAddress(address, length, &datagram);
    PutDatagram(datagram, meta);
    return 0;
  }
  if (request == "disconnect") {
    (void)SetSocketOption(fd(), SOL_IP, IP_RECVERR, 0);
    if (framing_.six) (void)SetSocketOption(fd(), SOL_IPV6, IPV6_RECVERR, 0);
    address.any.sa_family = AF_UNSPEC;
    const SysResult result = CallOnce([&] { return ::connect(fd(), &address.any, sizeof address.v6); });
    // A port that the kernel chose is given up with the peer; one that was asked for is not: -EINVAL.
    const SysResult bound = result < 0 ? result : Bind(datagram);
    return bound == -EINVAL ? 0 : bound;
  }
  if (request == "add membership" || request == "drop membership") {
    return Membership(request == "add membership", datagram);
  }
  if (request == "multicast interface") {
    ip_mreqn interface {};
    interface.imr_ifindex = static_cast<int>(datagram.interface_index);
    const SysResult result = SetSocketOption(fd(), SOL_IP, IP_MULTICAST_IF, interface);
    if (result < 0 || !framing_.six) return result;
    return SetSocketOption(fd(), SOL_IPV6, IPV6_MULTICAST_IF, static_cast<int>(datagram.interface_index));
  }
  if (request == "bind") return Bind(datagram);
  if (request != "connect") return -ENOENT;
  const SysResult length = WriteAddress(datagram, framing_.six, &address);
  const SysResult told = length < 0 ? length : DescribeErrors();
  if (told < 0) return told;
  return CallOnce([&] { return ::connect(fd(), &address.any, static_cast<socklen_t>(length)); });
}

SysResult UdpDevice::SetOffload(uint32_t wanted, bool /*shared*/) {
  const int on = wanted != 0 ? 1 : 0;
  // Neither is there before Linux 4.18 and 5.0; asking for no segments changes nothing.
  SysResult result = SetSocketOption(fd(), SOL_UDP, UDP_SEGMENT, 0);
  if (result >= 0) result = SetSocketOption(fd(), SOL_UDP, UDP_GRO, on);
  framing_.segments = result >= 0 && on != 0;
  if (result < 0 && result != -ENOPROTOOPT) return result;
  return framing_.segments ? static_cast<SysResult>(wanted & OffloadStats::kUso) : 0;
}

std::unique_ptr<PacketIo> UdpDevice::MakeIo() const {
  return std::unique_ptr<PacketIo>(new (std::nothrow) UdpIo(fd(), framing_));
}

SysResult UdpDevice::Name(std::string* name) const {
  char text[IFNAMSIZ] = {};
  socklen_t length = sizeof text;
  const SysResult result =
      CallOnce([&] { return ::getsockopt(fd(), SOL_SOCKET, SO_BINDTODEVICE, text, &length); });
  if (result >= 0) name->assign(text, ::strnlen(text, length));
  return result;
}

SysResult UdpDevice::NetworkNamespace() const {
  return CallOnce([&] { return ::ioctl(fd(), SIOCGSKNS); });
}

}  // namespace tunsock
