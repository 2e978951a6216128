#include "core/device/data_path.h"

#include <new>
#include <utility>

#include "core/io/datagram_offload_io.h"
#include "core/io/offload_io.h"

namespace tunsock {
namespace {

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

}  // namespace

SysResult OpenDataPath(Device* device, const DataPathOptions& options, std::unique_ptr<HeldIo>* path) {
  GroOptions merge;
  const bool split_packets = options.split && !device->datagrams();
  if (split_packets) {
    const SysResult framed = device->PacketFraming(&merge.framing);
    if (framed < 0) return framed;
  }
  SysResult granted = 0;
  if (options.offload) {
    granted = device->SetOffload(*options.offload, options.shared);
    if (granted < 0) return granted;
  }
  std::unique_ptr<PacketIo> io = device->MakeIo();
  if (io == nullptr) return -ENOMEM;
  if (split_packets) {
    merge.tso4 = (granted & OffloadStats::kTso4) != 0;
    merge.tso6 = (granted & OffloadStats::kTso6) != 0;
    merge.uso = (granted & OffloadStats::kUso) != 0;
    const SysResult split = Split(*device, merge, &io);
    if (split < 0) return split;
  } else if (options.split && granted != 0) {
    io.reset(new (std::nothrow) DatagramOffloadIo(std::move(io)));
    if (io == nullptr) return -ENOMEM;
  }
  std::unique_ptr<HeldIo> held(new (std::nothrow) HeldIo(std::move(io)));
  if (held == nullptr) return -ENOMEM;
  *path = std::move(held);
  return granted;
}

}  // namespace tunsock
