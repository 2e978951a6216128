#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/offload/packet_view.h"
#include "core/offload/virtio_net_hdr.h"

namespace tunsock::test {

using Bytes = std::vector<uint8_t>;

/// A packet by its fields: the slow, independent reference. Everything is written byte by byte, nothing of
/// core/offload is called, and a superpacket is cut by building each segment anew.
struct PacketSpec {
  bool tcp = true;
  int version = 4;
  int vlan_tags = -1;  // -1: no Ethernet header
  uint8_t tos = 0;
  uint8_t hop_limit = 64;
  uint16_t id = 100;
  uint16_t fragment = 0x4000;  // the flags too
  uint32_t flow_label = 0;
  Bytes ip_options;         // IPv4; a multiple of 4
  Bytes extension_headers;  // IPv6, as they stand; the last one's next header is patched
  uint8_t first_extension = 0;
  uint8_t host = 1;         // the source's last address byte
  Bytes final_destination;  // where it has hops to go before: what the pseudo header has (RFC 1122, 4.2.3.8)
  bool big = false;         // its lengths say 0 (BIG TCP); with extension headers, those of no segment
  uint16_t source_port = 1000;
  uint16_t target_port = 2000;
  uint32_t sequence = 5000;
  uint32_t acknowledged = 77;
  uint8_t flags = kTcpAck;
  uint16_t window = 512;
  uint16_t urgent = 0;
  Bytes tcp_options;  // a multiple of 4
  bool no_udp_checksum = false;
  Bytes payload;

  [[nodiscard]] Framing framing() const { return vlan_tags < 0 ? Framing::kIp : Framing::kEthernet; }
  [[nodiscard]] size_t link_size() const {
    return vlan_tags < 0 ? 0 : 14 + 4 * static_cast<size_t>(vlan_tags);
  }
  [[nodiscard]] size_t l4_at() const;
  [[nodiscard]] size_t header_size() const;
  [[nodiscard]] std::string Name() const;

  /// The packet with finished checksums.
  [[nodiscard]] Bytes Build() const;
  /// The same as the kernel hands it over unfinished: pseudo header's sum in the checksum field.
  [[nodiscard]] Bytes BuildPartial() const;
  /// The virtio header for BuildPartial(); gso_size 0 is no superpacket.
  [[nodiscard]] VirtioNetHdr Header(uint16_t gso_size) const;
  /// What segmentation makes of it.
  [[nodiscard]] std::vector<PacketSpec> Cut(size_t gso_size) const;
};

/// RFC 1071 to the letter: two bytes at a time, the carry added at once.
uint16_t SlowSum(const uint8_t* bytes, size_t size, uint16_t sum = 0);

/// Bytes that differ from each other and from those of other seeds.
Bytes Pattern(size_t size, uint32_t seed = 1);

/// Changes the payload's first two bytes so that the checksum is computed as 0.
void MakeChecksumZero(PacketSpec& spec);

}  // namespace tunsock::test
