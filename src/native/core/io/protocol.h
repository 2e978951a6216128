#pragma once

#include <linux/if_ether.h>

#include <cstddef>
#include <cstdint>

namespace tunsock {

/// The EtherType of an IP packet without a link header, by its version field; 0 for what is neither IPv4 nor
/// IPv6.
inline uint32_t ProtocolOfIp(const uint8_t* packet, size_t length) {
  if (length == 0) return 0;
  switch (packet[0] >> 4) {
    case 4:
      return ETH_P_IP;
    case 6:
      return ETH_P_IPV6;
    default:
      return 0;
  }
}

/// The 16-bit field at `offset`, in network order; 0 where the packet ends before it.
inline uint32_t ProtocolAt(const uint8_t* packet, size_t length, size_t offset) {
  return length < offset + 2 ? 0 : static_cast<uint32_t>(packet[offset]) << 8 | packet[offset + 1];
}

}  // namespace tunsock
