#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace tunsock {

/// `VirtioNetHdr::flags` (linux/virtio_net.h).
enum VnetFlag : uint8_t {
  kVnetNeedsChecksum = 1,  // the checksum field holds the pseudo header's sum; the rest is to be added
  kVnetDataValid = 2,      // whoever wrote the header has verified the checksum
};

/// `VirtioNetHdr::gso_type`. ECN is a bit beside TCPv4 or TCPv6. UDP_L4 (USO) came with Linux 6.2, so that
/// older kernel headers don't name it; the older type 3 (UFO) is no longer made by any kernel.
enum VnetGso : uint8_t {
  kVnetGsoNone = 0,
  kVnetGsoTcp4 = 1,
  kVnetGsoTcp6 = 4,
  kVnetGsoUdpL4 = 5,
  kVnetGsoEcn = 0x80,
};

/// What stands before every packet on a device with IFF_VNET_HDR. Its words are in the machine's own byte
/// order unless TUNSETVNETLE or TUNSETVNETBE said otherwise, which tunsock leaves alone. Offsets count from
/// the first byte after this header, so from the Ethernet header where there is one.
struct VirtioNetHdr {
  uint8_t flags = 0;
  uint8_t gso_type = kVnetGsoNone;
  uint16_t hdr_len = 0;   // link, IP and transport headers; only a hint, both ways
  uint16_t gso_size = 0;  // payload bytes of each segment
  uint16_t csum_start = 0;
  uint16_t csum_offset = 0;  // from csum_start

  /// The size until TUNSETVNETHDRSZ says otherwise, and the size with `num_buffers` (of no use to tun)
  /// behind.
  static constexpr size_t kSize = 10;
  static constexpr size_t kSizeWithNumBuffers = 12;

  /// Reads kSize bytes.
  static VirtioNetHdr Decode(const uint8_t* from) {
    VirtioNetHdr header;
    std::memcpy(&header, from, kSize);
    return header;
  }

  /// Writes `size` bytes, at least kSize: what lies behind the known fields is zero.
  void Encode(uint8_t* to, size_t size) const {
    std::memset(to + kSize, 0, size - kSize);
    std::memcpy(to, this, kSize);
  }

  [[nodiscard]] bool needs_checksum() const { return (flags & kVnetNeedsChecksum) != 0; }
};

static_assert(sizeof(VirtioNetHdr) == VirtioNetHdr::kSize, "the struct is the wire format");

}  // namespace tunsock
