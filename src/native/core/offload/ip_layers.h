#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "core/offload/packet_view.h"

namespace tunsock {

/// GRE's header (RFC 2784): two bytes of flags and version, the protocol, and where a flag says so a
/// checksum.
constexpr size_t kGreHeader = 4;
constexpr size_t kGreChecksum = 4;
constexpr uint8_t kGreHasChecksum = 0x80;

/// The IP packets of a superpacket, from the outermost to the one whose payload is cut: more than one where a
/// tunnel carries it, be that IP in IP (RFC 2003, RFC 2473, SRv6), GRE, or UDP with any protocol of tunnels
/// behind (VXLAN, Geneve). What lies between the one packet's transport header and the next IP header belongs
/// to the tunnel, and is the same in each segment.
class IpLayers {
 public:
  static constexpr size_t kMost = 4;

  /// `transport`: where the checksum starts that is still to be made, and so the innermost transport header;
  /// 0 where none is. False where the packets are not each whole, well-formed and as long as they say, or are
  /// more than kMost, or fragments; then nothing is to be used.
  bool Parse(const uint8_t* packet, size_t size, Framing framing, size_t transport, ZeroLength zero);

  /// Says that the jumbo payload length of the only packet is no longer in it.
  void RemoveJumboOption();

  [[nodiscard]] size_t count() const { return count_; }
  [[nodiscard]] const PacketView& operator[](size_t index) const { return views_[index]; }
  [[nodiscard]] const PacketView& innermost() const { return views_[count_ - 1]; }

 private:
  bool ParseInner(const uint8_t* packet, size_t transport, ZeroLength zero);

  std::array<PacketView, kMost> views_;
  size_t count_ = 0;
};

}  // namespace tunsock
