#include "core/device/packet_device.h"

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <linux/net_tstamp.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "core/offload/virtio_net_hdr.h"
#include "core/sys/socket_option.h"

#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif
#ifndef PACKET_FANOUT_DATA
#define PACKET_FANOUT_DATA 22
#endif
#ifndef PACKET_VNET_HDR_SZ
#define PACKET_VNET_HDR_SZ 24
#endif

namespace tunsock {
namespace {

sock_fprog ProgramOf(const std::vector<sock_filter>& filter) {
  return {static_cast<unsigned short>(filter.size()), const_cast<sock_filter*>(filter.data())};
}

/// Without a program it removes the one that there may be.
SysResult AttachFilter(int fd, const std::vector<sock_filter>& filter) {
  if (!filter.empty()) return SetSocketOption(fd, SOL_SOCKET, SO_ATTACH_FILTER, ProgramOf(filter));
  const SysResult result = SetSocketOption(fd, SOL_SOCKET, SO_DETACH_FILTER, 0);
  return result == -ENOENT ? 0 : result;
}

const std::vector<sock_filter> kNothing = {BPF_STMT(BPF_RET | BPF_K, 0)};

/// `filter` behind instructions that leave out what this host sends.
std::vector<sock_filter> WithoutOutgoing(const std::vector<sock_filter>& filter) {
  std::vector<sock_filter> all = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<uint32_t>(SKF_AD_OFF + SKF_AD_PKTTYPE)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PACKET_OUTGOING, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, 0),
  };
  if (filter.empty()) all.push_back(BPF_STMT(BPF_RET | BPF_K, UINT32_MAX));
  all.insert(all.end(), filter.begin(), filter.end());
  return all;
}

/// Takes what is queued, and throws it away. The queue has a filter that lets nothing in; the bound is only
/// against errors that stay. -EINVAL is that of a packet whose virtio header has no room here.
void DrainQueue(int fd) {
  constexpr int kMost = 1 << 20;
  for (int i = 0; i < kMost; ++i) {
    const SysResult result = RetryOnSignal([&] { return ::recv(fd, nullptr, 0, MSG_DONTWAIT | MSG_TRUNC); });
    if (result < 0 && result != -EINVAL && result != -ENETDOWN) return;
  }
}

/// As large as asked for where the user may (CAP_NET_ADMIN), else up to the system's limit, as setsockopt(2)
/// has it.
SysResult SetBuffer(int fd, int forced_option, int option, int size) {
  const SysResult result = SetSocketOption(fd, SOL_SOCKET, forced_option, size);
  return result == -EPERM ? SetSocketOption(fd, SOL_SOCKET, option, size) : result;
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
  const SysResult on = GetSocketOption(fd, SOL_PACKET, PACKET_VNET_HDR);
  if (on <= 0) return on;
  // Linux 6.4; before it there was one size.
  const SysResult size = GetSocketOption(fd, SOL_PACKET, PACKET_VNET_HDR_SZ);
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
  opened.drops_outgoing_ = options.ignore_outgoing && options.fanout;
  const Failure failure = opened.Configure(options);
  if (failure.error < 0) return failure;
  opened.framing_ = {options.interface_index, options.protocol, options.tags_inline, 0, options.destination};
  *device = std::move(opened);
  return {};
}

/// Order matters: a socket joins its fanout group only once it is bound, and would by then have queued
/// packets that are the group's other members'. So it starts with a filter that lets nothing through.
Failure PacketDevice::Configure(const PacketOptions& options) const {
  SysResult result = AttachFilter(fd(), kNothing);
  if (result < 0) return {result, "SO_ATTACH_FILTER"};

  // Times of sent packets, by the system or the hardware, in the error queue.
  constexpr int kTransmitTimes = SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_TX_HARDWARE |
                                 SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_RAW_HARDWARE;
  const struct {
    const char* name;
    int level;
    int option;
    int value;
    bool wanted;
  } settings[] = {
      {"PACKET_IGNORE_OUTGOING", SOL_PACKET, PACKET_IGNORE_OUTGOING, 1, options.ignore_outgoing},
      {"PACKET_AUXDATA", SOL_PACKET, PACKET_AUXDATA, 1, options.auxdata || options.tags_inline},
      {"PACKET_ORIGDEV", SOL_PACKET, PACKET_ORIGDEV, 1, options.original_device},
      {"PACKET_QDISC_BYPASS", SOL_PACKET, PACKET_QDISC_BYPASS, 1, options.qdisc_bypass},
      {"SO_TIMESTAMPNS", SOL_SOCKET, SO_TIMESTAMPNS, 1, options.timestamps},
      {"SO_TIMESTAMPING", SOL_SOCKET, SO_TIMESTAMPING, kTransmitTimes, options.transmit_timestamps},
      {"SO_MARK", SOL_SOCKET, SO_MARK, options.mark.value_or(0), options.mark.has_value()},
      {"SO_PRIORITY", SOL_SOCKET, SO_PRIORITY, options.priority.value_or(0), options.priority.has_value()},
  };
  for (const auto& entry : settings) {
    if (!entry.wanted) continue;
    result = SetSocketOption(fd(), entry.level, entry.option, entry.value);
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
  (void)GetSocketOption(fd(), SOL_SOCKET, SO_ERROR);
  if (options.promiscuous) {
    packet_mreq membership{};
    membership.mr_ifindex = static_cast<int>(options.interface_index);
    membership.mr_type = PACKET_MR_PROMISC;
    result = SetSocketOption(fd(), SOL_PACKET, PACKET_ADD_MEMBERSHIP, membership);
    if (result < 0) return {result, "PACKET_ADD_MEMBERSHIP"};
  }
  if (options.fanout) {
    const Failure failure = Join(*options.fanout);
    if (failure.error < 0) return failure;
  }
  result = AttachFilter(fd(), FilterFor(options.filter));
  if (result < 0) return {result, "SO_ATTACH_FILTER"};
  return {};
}

Failure PacketDevice::Join(const FanoutGroup& group) const {
  // Linux 5.11 has the longer form, which says how many members there may be.
  const struct {
    uint32_t group_and_mode;
    uint32_t members;
  } arguments = {group.argument, group.members};
  SysResult result = group.members == 0 ? SetSocketOption(fd(), SOL_PACKET, PACKET_FANOUT, group.argument)
                                        : SetSocketOption(fd(), SOL_PACKET, PACKET_FANOUT, arguments);
  if (result < 0) return {result, "PACKET_FANOUT"};
  if (group.program_fd >= 0) {
    result = SetSocketOption(fd(), SOL_PACKET, PACKET_FANOUT_DATA, group.program_fd);
  } else if (!group.program.empty()) {
    result = SetSocketOption(fd(), SOL_PACKET, PACKET_FANOUT_DATA, ProgramOf(group.program));
  }
  return {std::min<SysResult>(result, 0), "PACKET_FANOUT_DATA"};
}

/// A fanout group has a hook of its own, which does not look at PACKET_IGNORE_OUTGOING of its members, and
/// a flag for it only since Linux 6.2.
std::vector<sock_filter> PacketDevice::FilterFor(const std::vector<sock_filter>& filter) const {
  return drops_outgoing_ ? WithoutOutgoing(filter) : filter;
}

SysResult PacketDevice::SetFilter(const std::vector<sock_filter>& program) {
  const std::vector<sock_filter> filter = FilterFor(program);
  // Once to see whether the kernel takes it, while the one before is still in force.
  SysResult result = AttachFilter(fd(), filter);
  if (result < 0) return result;
  result = AttachFilter(fd(), kNothing);
  if (result < 0) return result;
  DrainQueue(fd());
  return AttachFilter(fd(), filter);
}

SysResult PacketDevice::ChangeMembership(bool add, uint16_t type, const uint8_t* address, size_t length) {
  packet_mreq membership{};
  if (length > sizeof membership.mr_address) return -EINVAL;
  membership.mr_ifindex = static_cast<int>(framing_.interface_index);
  membership.mr_type = type;
  membership.mr_alen = static_cast<unsigned short>(length);
  if (length != 0) std::memcpy(membership.mr_address, address, length);
  return SetSocketOption(fd(), SOL_PACKET, add ? PACKET_ADD_MEMBERSHIP : PACKET_DROP_MEMBERSHIP, membership);
}

Failure PacketDevice::Adopt(int fd, PacketDevice* device) {
  const SysResult domain = GetSocketOption(fd, SOL_SOCKET, SO_DOMAIN);
  if (domain < 0) return {domain, "getsockopt"};
  if (domain != AF_PACKET) return {-ENOTSOCK, "getsockopt"};
  const SysResult type = GetSocketOption(fd, SOL_SOCKET, SO_TYPE);
  if (type < 0) return {type, "getsockopt"};
  const SysResult header = VirtioHeaderOf(fd);
  if (header < 0) return {header, "getsockopt"};
  if (header > static_cast<SysResult>(kMaxVirtioHeader)) return {-EOPNOTSUPP, "PACKET_VNET_HDR_SZ"};
  sockaddr_ll address;
  const SysResult bound = BoundTo(fd, &address);
  if (bound < 0) return {bound, "getsockname"};
  // An interface that was deleted.
  if (address.sll_ifindex < 0) return {-EBADFD, "getsockname"};

  PacketDevice adopted;
  const SysResult auxdata = GetSocketOption(fd, SOL_PACKET, PACKET_AUXDATA);
  if (auxdata < 0) return {auxdata, "getsockopt"};
  if (auxdata == 0) {
    const SysResult result = SetSocketOption(fd, SOL_PACKET, PACKET_AUXDATA, 1);
    if (result < 0) return {result, "PACKET_AUXDATA"};
    adopted.lacked_auxdata_ = true;
  }
  adopted.framing_ = {static_cast<uint32_t>(address.sll_ifindex),
                      ntohs(address.sll_protocol),
                      type == SOCK_RAW,
                      static_cast<size_t>(header),
                      {}};
  adopted.fd_.reset(fd);
  *device = std::move(adopted);
  return {};
}

int PacketDevice::GiveBack() {
  if (lacked_auxdata_) (void)SetSocketOption(fd(), SOL_PACKET, PACKET_AUXDATA, 0);
  return fd_.release();
}

SysResult PacketDevice::Control(const std::string& request, int value) {
  struct Option {
    const char* name;
    int level;
    int option;
  };
  constexpr Option kOptions[] = {
      {"SO_RCVBUF", SOL_SOCKET, SO_RCVBUF},
      {"SO_SNDBUF", SOL_SOCKET, SO_SNDBUF},
      {"SO_TYPE", SOL_SOCKET, SO_TYPE},
      {"SO_PRIORITY", SOL_SOCKET, SO_PRIORITY},
      {"PACKET_FANOUT", SOL_PACKET, PACKET_FANOUT},
  };
  for (const Option& option : kOptions) {
    if (request == option.name) return GetSocketOption(fd(), option.level, option.option);
  }
  if (request == "set SO_RCVBUF") return SetBuffer(fd(), SO_RCVBUFFORCE, SO_RCVBUF, value);
  if (request == "set SO_SNDBUF") return SetBuffer(fd(), SO_SNDBUFFORCE, SO_SNDBUF, value);
  if (request == "set SO_PRIORITY") return SetSocketOption(fd(), SOL_SOCKET, SO_PRIORITY, value);
  // All 32 bits of a mark may be set.
  if (request == "SO_MARK") {
    uint32_t mark = 0;
    socklen_t length = sizeof mark;
    const SysResult result =
        CallOnce([&] { return ::getsockopt(fd(), SOL_SOCKET, SO_MARK, &mark, &length); });
    return result < 0 ? result : mark;
  }
  if (request == "set SO_MARK") return SetSocketOption(fd(), SOL_SOCKET, SO_MARK, value);
  if (request == "set SO_LOCK_FILTER") return SetSocketOption(fd(), SOL_SOCKET, SO_LOCK_FILTER, value);
  if (request == "sll_ifindex") return framing_.interface_index;
  return -ENOENT;
}

SysResult PacketDevice::SetOffload(uint32_t wanted, bool /*shared*/) {
  const int on = wanted != 0 ? 1 : 0;
  const SysResult result = SetSocketOption(fd(), SOL_PACKET, PACKET_VNET_HDR, on);
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

Failure PacketDevice::PrepareVhost(bool /*shared*/, VhostFraming* framing) {
  if (framing_.interface_index == 0) return {-EOPNOTSUPP, "vhost"};
  if (framing_.virtio_header != 0) {
    const SysResult result =
        SetSocketOption(fd(), SOL_PACKET, PACKET_VNET_HDR_SZ, static_cast<int>(kRingPacketHeader));
    if (result < 0) return {result, "PACKET_VNET_HDR_SZ"};
    framing_.virtio_header = kRingPacketHeader;
  }
  Framing packets = Framing::kEthernet;
  (void)PacketFraming(&packets);
  *framing = {packets == Framing::kEthernet, framing_.virtio_header, PacketSocketIo(fd(), framing_).rules()};
  return {};
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
