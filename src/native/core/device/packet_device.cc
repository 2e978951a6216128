#include "core/device/packet_device.h"

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cstring>
#include <new>
#include <utility>

#include "core/offload/virtio_net_hdr.h"

#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif
#ifndef PACKET_VNET_HDR_SZ
#define PACKET_VNET_HDR_SZ 24
#endif

namespace tunsock {
namespace {

template <typename Value>
SysResult Set(int fd, int level, int option, const Value& value) {
  return CallOnce([&] { return ::setsockopt(fd, level, option, &value, sizeof value); });
}

/// The value of an option that is an int, or a negative errno.
SysResult Get(int fd, int level, int option) {
  int value = 0;
  socklen_t length = sizeof value;
  const SysResult result = CallOnce([&] { return ::getsockopt(fd, level, option, &value, &length); });
  return result < 0 ? result : value;
}

SysResult SetFilter(int fd, const std::vector<sock_filter>& filter) {
  if (filter.empty()) return Set(fd, SOL_SOCKET, SO_DETACH_FILTER, 0);
  const sock_fprog program{static_cast<unsigned short>(filter.size()),
                           const_cast<sock_filter*>(filter.data())};
  return Set(fd, SOL_SOCKET, SO_ATTACH_FILTER, program);
}

/// As large as asked for where the user may (CAP_NET_ADMIN), else up to the system's limit, as setsockopt(2)
/// has it.
SysResult SetBuffer(int fd, int forced_option, int option, int size) {
  const SysResult result = Set(fd, SOL_SOCKET, forced_option, size);
  return result == -EPERM ? Set(fd, SOL_SOCKET, option, size) : result;
}

SysResult Bind(int fd, uint32_t index, uint16_t protocol) {
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(protocol);
  address.sll_ifindex = static_cast<int>(index);
  return CallOnce([&] { return ::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address); });
}

SysResult BoundTo(int fd, sockaddr_ll* address) {
  socklen_t length = sizeof *address;
  *address = {};
  return CallOnce([&] { return ::getsockname(fd, reinterpret_cast<sockaddr*>(address), &length); });
}

/// Bytes of virtio header before each packet; 0 for none.
SysResult VirtioHeaderOf(int fd) {
  const SysResult on = Get(fd, SOL_PACKET, PACKET_VNET_HDR);
  if (on <= 0) return on;
  // Linux 6.4; before it there was one size.
  const SysResult size = Get(fd, SOL_PACKET, PACKET_VNET_HDR_SZ);
  return size > 0 ? size : static_cast<SysResult>(VirtioNetHdr::kSize);
}

}  // namespace

Failure PacketDevice::Open(const PacketOptions& options, PacketDevice* device) {
  PacketDevice opened;
  const int type = (options.datagram ? SOCK_DGRAM : SOCK_RAW) | SOCK_CLOEXEC | SOCK_NONBLOCK;
  // Protocol 0: it hears nothing until it is bound.
  const SysResult fd = CallOnce([&] { return ::socket(AF_PACKET, type, 0); });
  if (fd < 0) return {fd, "socket"};
  opened.fd_.reset(static_cast<int>(fd));
  const Failure failure = opened.Configure(options);
  if (failure.error < 0) return failure;
  opened.framing_ = {options.interface_index, options.protocol, options.auxdata || options.timestamps, 0,
                     options.destination};
  *device = std::move(opened);
  return {};
}

/// Order matters: a socket joins its fanout group only once it is bound, and would by then have queued
/// packets that are the group's other members'. So it starts with a filter that lets nothing through.
Failure PacketDevice::Configure(const PacketOptions& options) const {
  const int yes = 1;
  const std::vector<sock_filter> nothing = {BPF_STMT(BPF_RET | BPF_K, 0)};
  SysResult result = SetFilter(fd(), nothing);
  if (result < 0) return {result, "SO_ATTACH_FILTER"};

  const struct {
    bool wanted;
    int level;
    int option;
    const char* name;
  } switches[] = {
      {options.ignore_outgoing, SOL_PACKET, PACKET_IGNORE_OUTGOING, "PACKET_IGNORE_OUTGOING"},
      {options.auxdata, SOL_PACKET, PACKET_AUXDATA, "PACKET_AUXDATA"},
      {options.qdisc_bypass, SOL_PACKET, PACKET_QDISC_BYPASS, "PACKET_QDISC_BYPASS"},
      {options.timestamps, SOL_SOCKET, SO_TIMESTAMPNS, "SO_TIMESTAMPNS"},
  };
  for (const auto& entry : switches) {
    if (!entry.wanted) continue;
    result = Set(fd(), entry.level, entry.option, yes);
    if (result < 0) return {result, entry.name};
  }
  if (options.receive_buffer != 0) {
    result = SetBuffer(fd(), SO_RCVBUFFORCE, SO_RCVBUF, options.receive_buffer);
    if (result < 0) return {result, "SO_RCVBUF"};
  }
  if (options.send_buffer != 0) {
    result = SetBuffer(fd(), SO_SNDBUFFORCE, SO_SNDBUF, options.send_buffer);
    if (result < 0) return {result, "SO_SNDBUF"};
  }

  result = Bind(fd(), options.interface_index, options.protocol);
  if (result < 0) return {result, "bind"};
  // Binding to an interface that is down leaves ENETDOWN for the first call. That is a state, not an event.
  (void)Get(fd(), SOL_SOCKET, SO_ERROR);
  if (options.promiscuous) {
    packet_mreq membership{};
    membership.mr_ifindex = static_cast<int>(options.interface_index);
    membership.mr_type = PACKET_MR_PROMISC;
    result = Set(fd(), SOL_PACKET, PACKET_ADD_MEMBERSHIP, membership);
    if (result < 0) return {result, "PACKET_ADD_MEMBERSHIP"};
  }
  if (options.fanout) {
    result = Set(fd(), SOL_PACKET, PACKET_FANOUT, *options.fanout);
    if (result < 0) return {result, "PACKET_FANOUT"};
  }
  result = SetFilter(fd(), options.filter);
  if (result < 0) return {result, "SO_ATTACH_FILTER"};
  return {};
}

Failure PacketDevice::Adopt(int fd, PacketDevice* device) {
  const SysResult domain = Get(fd, SOL_SOCKET, SO_DOMAIN);
  if (domain < 0) return {domain, "getsockopt"};
  if (domain != AF_PACKET) return {-ENOTSOCK, "getsockopt"};
  const SysResult header = VirtioHeaderOf(fd);
  if (header < 0) return {header, "getsockopt"};
  if (header > static_cast<SysResult>(kMaxVirtioHeader)) return {-EOPNOTSUPP, "PACKET_VNET_HDR_SZ"};
  sockaddr_ll address;
  const SysResult bound = BoundTo(fd, &address);
  if (bound < 0) return {bound, "getsockname"};
  // An interface that was deleted.
  if (address.sll_ifindex < 0) return {-EBADFD, "getsockname"};

  PacketDevice adopted;
  const bool control = Get(fd, SOL_PACKET, PACKET_AUXDATA) > 0 || Get(fd, SOL_SOCKET, SO_TIMESTAMPNS) > 0;
  adopted.framing_ = {static_cast<uint32_t>(address.sll_ifindex),
                      ntohs(address.sll_protocol),
                      control,
                      static_cast<size_t>(header),
                      {}};
  adopted.fd_.reset(fd);
  *device = std::move(adopted);
  return {};
}

SysResult PacketDevice::Control(const std::string& request, int /*value*/) {
  if (request == "SO_RCVBUF") return Get(fd(), SOL_SOCKET, SO_RCVBUF);
  if (request == "SO_SNDBUF") return Get(fd(), SOL_SOCKET, SO_SNDBUF);
  if (request == "SO_TYPE") return Get(fd(), SOL_SOCKET, SO_TYPE);
  if (request == "sll_ifindex") return framing_.interface_index;
  return -ENOENT;
}

SysResult PacketDevice::SetOffload(uint32_t wanted, bool /*shared*/) {
  const int on = wanted != 0 ? 1 : 0;
  const SysResult result = Set(fd(), SOL_PACKET, PACKET_VNET_HDR, on);
  if (result < 0) return result;
  framing_.virtio_header = on != 0 ? VirtioNetHdr::kSize : 0;
  return wanted;
}

SysResult PacketDevice::Interface(unsigned long what, ifreq* request) const {
  *request = {};
  request->ifr_ifindex = static_cast<int>(framing_.interface_index);
  const SysResult result = CallOnce([&] { return ::ioctl(fd(), SIOCGIFNAME, request); });
  return result < 0 ? result : CallOnce([&] { return ::ioctl(fd(), what, request); });
}

std::unique_ptr<PacketIo> PacketDevice::MakeIo() const {
  return std::unique_ptr<PacketIo>(new (std::nothrow) PacketSocketIo(fd(), framing_));
}

SysResult PacketDevice::MaxIpPacket() const {
  ifreq request;
  const SysResult result = Interface(SIOCGIFMTU, &request);
  return result < 0 ? result : request.ifr_mtu;
}

SysResult PacketDevice::PacketFraming(Framing* framing) const {
  ifreq request;
  const SysResult result = Interface(SIOCGIFHWADDR, &request);
  if (result < 0) return result;
  switch (request.ifr_hwaddr.sa_family) {
    case ARPHRD_ETHER:
    case ARPHRD_LOOPBACK:
      *framing = Framing::kEthernet;
      return 0;
    case ARPHRD_NONE:
    case ARPHRD_RAWIP:
      *framing = Framing::kIp;
      return 0;
    default:
      return -EOPNOTSUPP;
  }
}

SysResult PacketDevice::Name(std::string* name) const {
  ifreq request{};
  request.ifr_ifindex = static_cast<int>(framing_.interface_index);
  const SysResult result = CallOnce([&] { return ::ioctl(fd(), SIOCGIFNAME, &request); });
  if (result >= 0) name->assign(request.ifr_name, ::strnlen(request.ifr_name, sizeof request.ifr_name));
  return result;
}

SysResult PacketDevice::NetworkNamespace() const {
  return CallOnce([&] { return ::ioctl(fd(), SIOCGSKNS); });
}

}  // namespace tunsock
