#include "core/device/tun_device.h"

#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>

#include <cstring>
#include <new>

#include "core/offload/virtio_net_hdr.h"

namespace tunsock {
namespace {

/// TUN_F_*, which older kernel headers don't name.
constexpr uint32_t kUso = 0x20 | 0x40;       // USO4 and USO6, Linux 6.2
constexpr uint32_t kTunnel = 0x80;           // UDP_TUNNEL_GSO, Linux 6.17
constexpr uint32_t kTunnelChecksum = 0x100;  // UDP_TUNNEL_GSO_CSUM

/// The largest send buffer that is a limit: the default, one more, is none (sock_can_batch in
/// drivers/vhost/net.c).
constexpr int kVhostSendBuffer = 0x7ffffffe;

enum class Argument { kValue, kSetPointer, kGetPointer };

struct ControlRequest {
  const char* name;
  unsigned long number;
  Argument argument;
};

constexpr ControlRequest kControlRequests[] = {
    {"TUNSETPERSIST", TUNSETPERSIST, Argument::kValue},
    {"TUNSETOWNER", TUNSETOWNER, Argument::kValue},
    {"TUNSETGROUP", TUNSETGROUP, Argument::kValue},
    {"TUNSETLINK", TUNSETLINK, Argument::kValue},
    {"TUNSETOFFLOAD", TUNSETOFFLOAD, Argument::kValue},
    {"TUNSETDEBUG", TUNSETDEBUG, Argument::kValue},
    {"TUNSETSNDBUF", TUNSETSNDBUF, Argument::kSetPointer},
    {"TUNGETSNDBUF", TUNGETSNDBUF, Argument::kGetPointer},
    {"TUNGETVNETHDRSZ", TUNGETVNETHDRSZ, Argument::kGetPointer},
    {"TUNGETVNETLE", TUNGETVNETLE, Argument::kGetPointer},
    {"TUNSETVNETLE", TUNSETVNETLE, Argument::kSetPointer},
    {"TUNGETVNETBE", TUNGETVNETBE, Argument::kGetPointer},
    {"TUNSETVNETBE", TUNSETVNETBE, Argument::kSetPointer},
    {"TUNSETSTEERINGEBPF", TUNSETSTEERINGEBPF, Argument::kSetPointer},
    {"TUNSETFILTEREBPF", TUNSETFILTEREBPF, Argument::kSetPointer},
    {"TUNSETCARRIER", TUNSETCARRIER, Argument::kSetPointer},
};

SysResult GetInterface(int fd, ifreq* request) {
  *request = {};
  const SysResult result = CallOnce([&] { return ::ioctl(fd, TUNGETIFF, request); });
  // What a macvtap says whose link is gone (tap_ioctl() in drivers/net/tap.c).
  return result == -ENOLINK ? -EBADFD : result;
}

std::string NameIn(const ifreq& request) {
  return {request.ifr_name, ::strnlen(request.ifr_name, sizeof request.ifr_name)};
}

}  // namespace

Failure TunDevice::Open(const char* path, const std::string& name, uint16_t flags, int index,
                        TunDevice* device) {
  TunDevice opened;
  const SysResult fd = RetryOnSignal([&] { return ::open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC); });
  if (fd < 0) return {fd, "open"};
  opened.fd_.reset(static_cast<int>(fd));

  ifreq request{};
  if (name.size() >= sizeof request.ifr_name) return {-EINVAL, "TUNSETIFF"};
  if (index != 0) {
    const SysResult numbered = CallOnce([&] { return ::ioctl(opened.fd(), TUNSETIFINDEX, &index); });
    if (numbered < 0) return {numbered, "TUNSETIFINDEX"};
  }
  std::memcpy(request.ifr_name, name.data(), name.size());
  request.ifr_flags = static_cast<short>(flags);
  const SysResult result = CallOnce([&] { return ::ioctl(opened.fd(), TUNSETIFF, &request); });
  if (result < 0) return {result, "TUNSETIFF"};

  const Failure failure = opened.ReadFraming((flags & IFF_NO_PI) == 0);
  if (failure.error == 0) *device = std::move(opened);
  return failure;
}

Failure TunDevice::Features(const char* path, uint32_t* flags) {
  const SysResult opened = RetryOnSignal([&] { return ::open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC); });
  if (opened < 0) return {opened, "open"};
  const UniqueFd fd(static_cast<int>(opened));
  return {CallOnce([&] { return ::ioctl(fd.get(), TUNGETFEATURES, flags); }), "TUNGETFEATURES"};
}

Failure TunDevice::Inspect(int fd, std::string* name, UniqueFd* netns) {
  ifreq request{};
  const SysResult attached = GetInterface(fd, &request);
  // What other files say to an ioctl that they don't know.
  if (attached == -ENOTTY || attached == -EINVAL || attached == -EOPNOTSUPP) return {-ENOTSOCK, "TUNGETIFF"};
  if (attached < 0) return {attached, "TUNGETIFF"};
  *name = NameIn(request);
  netns->reset(::ioctl(fd, TUNGETDEVNETNS));
  return {};
}

Failure TunDevice::Adopt(int fd, bool packet_info, TunDevice* device) {
  const int status = ::fcntl(fd, F_GETFL);
  const SysResult result =
      status < 0 ? -errno : CallOnce([&] { return ::fcntl(fd, F_SETFL, status | O_NONBLOCK); });
  if (result < 0) return {result, "fcntl"};
  TunDevice adopted;
  adopted.fd_.reset(fd);
  adopted.status_ = status;
  const Failure failure = adopted.ReadFraming(packet_info);
  if (failure.error == 0) {
    *device = std::move(adopted);
  } else {
    (void)adopted.GiveBack();
  }
  return failure;
}

int TunDevice::GiveBack() {
  if (status_ >= 0) (void)::fcntl(fd(), F_SETFL, status_);
  return fd_.release();
}

/// Learns what the kernel granted. Its IFF_NO_PI can't be read back here: TUNGETIFF sets IFF_NOFILTER, which
/// is the same bit, for every device without a socket filter.
Failure TunDevice::ReadFraming(bool packet_info) {
  ifreq request{};
  const SysResult result = GetInterface(fd(), &request);
  if (result < 0) return {result, "TUNGETIFF"};
  const auto flags = static_cast<uint16_t>(request.ifr_flags);
  framing_.ethernet = (flags & IFF_TAP) != 0;
  framing_.packet_info = packet_info;
  framing_.virtio_header = 0;
  if ((flags & IFF_VNET_HDR) != 0) {
    const SysResult size = Control("TUNGETVNETHDRSZ", 0);
    if (size < 0) return {size, "TUNGETVNETHDRSZ"};
    // The packet info would lie before the virtio header, inside the caller's buffers.
    if (framing_.packet_info || size > static_cast<SysResult>(sizeof(PacketMeta::virtio_header))) {
      return {-EOPNOTSUPP, "TUNGETVNETHDRSZ"};
    }
    framing_.virtio_header = static_cast<size_t>(size);
  }
  return {};
}

SysResult TunDevice::Control(const std::string& request, int value) {
  if (request == "TUNSETQUEUE") {
    ifreq queue{};
    queue.ifr_flags = static_cast<short>(value);
    return CallOnce([&] { return ::ioctl(fd(), TUNSETQUEUE, &queue); });
  }
  if (request == "TUNGETIFF") {
    ifreq attached{};
    const SysResult result = GetInterface(fd(), &attached);
    return result < 0 ? result : static_cast<uint16_t>(attached.ifr_flags);
  }
  if (request == "TUNSETVNETHDRSZ") {
    const SysResult result = SetHeaderSize(static_cast<size_t>(value));
    if (result >= 0) header_chosen_ = true;
    return result;
  }
  for (const ControlRequest& known : kControlRequests) {
    if (request != known.name) continue;
    if (known.argument == Argument::kValue) {
      return CallOnce([&] { return ::ioctl(fd(), known.number, static_cast<unsigned long>(value)); });
    }
    const SysResult result = CallOnce([&] { return ::ioctl(fd(), known.number, &value); });
    return result >= 0 && known.argument == Argument::kGetPointer ? value : result;
  }
  return -ENOENT;
}

SysResult TunDevice::SetHeaderSize(size_t bytes) {
  const int size = static_cast<int>(bytes);
  const SysResult result = CallOnce([&] { return ::ioctl(fd(), TUNSETVNETHDRSZ, &size); });
  if (result >= 0) framing_.virtio_header = bytes;
  return result;
}

SysResult TunDevice::SetOffload(uint32_t wanted, bool shared) {
  // What a kernel may lack, the newest first; what stands below needs what stands above it.
  constexpr uint32_t kParts[] = {kTunnelChecksum,         kTunnel,   kUso, TUN_F_TSO_ECN,
                                 TUN_F_TSO4 | TUN_F_TSO6, TUN_F_CSUM};
  // Without an Ethernet header the kernel hands superpackets in tunnels over but takes none back
  // (virtio_net_hdr_tnl_to_skb() counts ETH_HLEN in, whatever the device).
  if (!framing_.ethernet) wanted &= ~(kTunnel | kTunnelChecksum);
  const bool own_header = framing_.virtio_header != 0 && !shared && !header_chosen_;
  if (own_header) {
    const size_t size = (wanted & kTunnel) != 0 ? kMaxVirtioHeader : VirtioNetHdr::kSize;
    const SysResult result = SetHeaderSize(size);
    if (result < 0) return result;
  }
  if (framing_.virtio_header < kMaxVirtioHeader) wanted &= ~(kTunnel | kTunnelChecksum);
  const auto set = [&] { return Control("TUNSETOFFLOAD", static_cast<int>(wanted)); };
  SysResult result = set();
  for (const uint32_t part : kParts) {
    if (result != -EINVAL) break;
    if ((wanted & part) == 0) continue;
    wanted &= ~part;
    // Smaller headers are never refused.
    if (part == kTunnel && own_header) (void)SetHeaderSize(VirtioNetHdr::kSize);
    result = set();
  }
  return result < 0 ? result : static_cast<SysResult>(wanted);
}

SysResult TunDevice::SetFilter(const std::vector<sock_filter>& program) {
  if (program.empty()) {
    int unused = 0;
    const SysResult removed = CallOnce([&] { return ::ioctl(fd(), TUNDETACHFILTER, &unused); });
    if (removed >= 0) filter_.clear();
    return removed;
  }
  std::vector<sock_filter> next(program);
  const sock_fprog argument{static_cast<unsigned short>(next.size()), next.data()};
  const SysResult result = CallOnce([&] { return ::ioctl(fd(), TUNATTACHFILTER, &argument); });
  if (result >= 0) {
    filter_.swap(next);
  } else if (!filter_.empty()) {
    // The kernel has taken the address of the one that it refused.
    const sock_fprog before{static_cast<unsigned short>(filter_.size()), filter_.data()};
    (void)::ioctl(fd(), TUNATTACHFILTER, &before);
  }
  return result;
}

SysResult TunDevice::GetFilter(std::vector<sock_filter>* program) const {
  sock_fprog known{};
  const SysResult result = CallOnce([&] { return ::ioctl(fd(), TUNGETFILTER, &known); });
  if (result < 0) return result;
  program->clear();
  if (filter_.empty()) return 0;
  if (known.filter != filter_.data() || known.len != filter_.size()) return -EBUSY;
  *program = filter_;
  return 0;
}

SysResult TunDevice::SetTransmitFilter(uint16_t flags, const std::vector<uint8_t>& addresses) {
  tun_filter filter{};
  filter.flags = flags;
  filter.count = static_cast<uint16_t>(addresses.size() / ETH_ALEN);
  std::vector<uint8_t> argument(sizeof filter);
  std::memcpy(argument.data(), &filter, sizeof filter);
  argument.insert(argument.end(), addresses.begin(), addresses.end());
  return CallOnce([&] { return ::ioctl(fd(), TUNSETTXFILTER, argument.data()); });
}

Failure TunDevice::PrepareVhost(bool shared, VhostFraming* framing) {
  if (framing_.packet_info) return {-EINVAL, "vhost"};
  if (framing_.virtio_header != 0 && framing_.virtio_header != kRingPacketHeader) {
    if (shared) return {-EBUSY, "TUNSETVNETHDRSZ"};
    const SysResult result = SetHeaderSize(kRingPacketHeader);
    if (result < 0) return {result, "TUNSETVNETHDRSZ"};
  }
  if (!framing_.ethernet) {
    // What another has set below the default is as good (VhostDevice::SetBackend()).
    const SysResult size = Control("TUNGETSNDBUF", 0);
    if (size < 0) return {size, "TUNGETSNDBUF"};
    if (size > kVhostSendBuffer) {
      const SysResult result = Control("TUNSETSNDBUF", kVhostSendBuffer);
      if (result < 0) return {result, "TUNSETSNDBUF"};
      limited_ = true;
    }
  }
  *framing = {framing_.ethernet, framing_.virtio_header, {}};
  return {};
}

void TunDevice::LeaveVhost() {
  if (limited_) (void)Control("TUNSETSNDBUF", kVhostSendBuffer + 1);
  limited_ = false;
}

SysResult TunDevice::PacketFraming(Framing* framing) const {
  *framing = framing_.ethernet ? Framing::kEthernet : Framing::kIp;
  return 0;
}

std::unique_ptr<PacketIo> TunDevice::MakeIo() const {
  return std::unique_ptr<PacketIo>(new (std::nothrow) TunIo(fd(), framing_));
}

SysResult TunDevice::Name(std::string* name) const {
  ifreq request{};
  const SysResult result = GetInterface(fd(), &request);
  if (result >= 0) *name = NameIn(request);
  return result;
}

SysResult TunDevice::NetworkNamespace() const {
  return CallOnce([&] { return ::ioctl(fd(), TUNGETDEVNETNS); });
}

}  // namespace tunsock
