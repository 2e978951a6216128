#include "core/device/data_path.h"

#include <new>
#include <utility>

#include "core/io/datagram_offload_io.h"
#include "core/io/offload_io.h"
#include "core/io/vhost_io.h"

namespace tunsock {
namespace {

/// TUN_F_UDP_TUNNEL_GSO and its checksums: their virtio header is longer than that of a ring.
constexpr uint32_t kTunnelOffload = 0x80 | 0x100;

/// `io`, or what cuts and makes superpackets over it.
SysResult Split(const Device& device, const GroOptions& merge, std::unique_ptr<PacketIo>* io) {
  GroOptions options = merge;
  const SysResult longest = device.MaxIpPacket();
  if (longest > 0) options.max_ip_packet = static_cast<size_t>(longest);
  std::unique_ptr<OffloadIo> split(new (std::nothrow) OffloadIo(std::move(*io), options));
  if (split == nullptr || !split->HasMemory()) return -ENOMEM;
  *io = std::move(split);
  return 0;
}

/// `io` with what to do where messages of several datagrams are refused; with `split` there are only single
/// ones above it.
SysResult WrapDatagrams(bool split, std::unique_ptr<PacketIo>* io) {
  std::unique_ptr<SegmentFallbackIo> segments(new (std::nothrow) SegmentFallbackIo(std::move(*io)));
  if (segments == nullptr) return -ENOMEM;
  if (split) {
    io->reset(new (std::nothrow) DatagramOffloadIo(std::move(segments)));
  } else {
    *io = std::move(segments);
  }
  return *io == nullptr ? -ENOMEM : 0;
}

Failure SetOffload(Device* device, const DataPathOptions& options, uint32_t refused, uint32_t* granted) {
  if (!options.offload) return {};
  const SysResult result = device->SetOffload(*options.offload & ~refused, options.shared);
  if (result < 0) return {result, ""};
  *granted = static_cast<uint32_t>(result);
  return {};
}

/// Puts the device behind vhost-net, all or nothing.
Failure OpenVhost(Device* device, const DataPathOptions& options, std::unique_ptr<PacketIo>* io) {
  VhostOptions vhost;
  vhost.path = options.vhost->path.c_str();
  vhost.ring_size = options.vhost->ring_size;
  Failure failure = device->PrepareVhost(options.shared, &vhost.framing);
  if (failure.error < 0) return failure;
  std::unique_ptr<PacketIo> socket = device->MakeIo();
  std::unique_ptr<VhostIo> rings;
  failure = socket == nullptr ? Failure{-ENOMEM, "vhost"} : VhostIo::Open(device->fd(), vhost, &rings);
  if (failure.error < 0) {
    device->LeaveVhost();
    return failure;
  }
  rings->SetSocket(std::move(socket));
  *io = std::move(rings);
  return {};
}

/// What moves the packets as they are on the descriptor.
Failure OpenIo(Device* device, const DataPathOptions& options, std::unique_ptr<PacketIo>* io,
               DataPath* made) {
  Failure failure = SetOffload(device, options, options.vhost ? kTunnelOffload : 0, &made->offload);
  if (failure.error < 0) return failure;
  if (options.vhost) {
    failure = OpenVhost(device, options, io);
    made->vhost = failure.error == 0;
    if (made->vhost || options.vhost->required) return failure;
    failure = SetOffload(device, options, 0, &made->offload);
    if (failure.error < 0) return failure;
  }
  *io = device->MakeIo();
  return *io == nullptr ? Failure{-ENOMEM, ""} : Failure{};
}

}  // namespace

Failure OpenDataPath(Device* device, const DataPathOptions& options, DataPath* path) {
  GroOptions merge;
  const bool split_packets = options.split && !device->datagrams();
  if (split_packets) {
    const SysResult framed = device->PacketFraming(&merge.framing);
    if (framed < 0) return {framed, ""};
  }
  DataPath made;
  std::unique_ptr<PacketIo> io;
  const Failure failure = OpenIo(device, options, &io, &made);
  if (failure.error < 0) return failure;
  if (split_packets) {
    merge.tso4 = (made.offload & OffloadStats::kTso4) != 0;
    merge.tso6 = (made.offload & OffloadStats::kTso6) != 0;
    merge.uso = (made.offload & OffloadStats::kUso) != 0;
    const SysResult split = Split(*device, merge, &io);
    if (split < 0) return {split, ""};
  } else if (device->datagrams()) {
    const SysResult wrapped = WrapDatagrams(options.split && made.offload != 0, &io);
    if (wrapped < 0) return {wrapped, ""};
  }
  made.io.reset(new (std::nothrow) HeldIo(std::move(io)));
  if (made.io == nullptr) return {-ENOMEM, ""};
  *path = std::move(made);
  return {};
}

}  // namespace tunsock
