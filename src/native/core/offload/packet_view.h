#pragma once

#include <netinet/in.h>

#include <cstddef>
#include <cstdint>

#include "core/offload/byte_order.h"

namespace tunsock {

/// What a packet starts with: its IP header (tun), or an Ethernet header with up to two VLAN tags (tap).
enum class Framing : uint8_t { kIp, kEthernet };

constexpr size_t kMaxLinkHeader = 14 + 2 * 4;
constexpr size_t kMaxTcpHeader = 60;
constexpr size_t kUdpHeader = 8;

/// Offsets of the fields that checksums, the IP header and TCP need, from the start of the header they are
/// in.
constexpr size_t kIp4TotalLength = 2;
constexpr size_t kIp4Id = 4;
constexpr size_t kIp4Fragment = 6;
constexpr size_t kIp4Checksum = 10;
constexpr size_t kIp4Addresses = 12;
constexpr size_t kIp4Header = 20;
constexpr size_t kIp6PayloadLength = 4;
constexpr size_t kIp6Addresses = 8;
constexpr size_t kIp6Header = 40;
constexpr size_t kTcpSequence = 4;
constexpr size_t kTcpOffset = 12;
constexpr size_t kTcpFlags = 13;
constexpr size_t kTcpChecksum = 16;
constexpr size_t kUdpLength = 4;
constexpr size_t kUdpChecksum = 6;

/// Bits of the byte at kTcpFlags.
enum TcpFlag : uint8_t {
  kTcpFin = 0x01,
  kTcpSyn = 0x02,
  kTcpRst = 0x04,
  kTcpPsh = 0x08,
  kTcpAck = 0x10,
  kTcpUrg = 0x20,
  kTcpEce = 0x40,
  kTcpCwr = 0x80,
};

/// Where things are in one packet. Every offset counts from the packet's first byte and lies inside the
/// packet: `Parse` believes no length that it has not compared with the true one.
struct PacketView {
  size_t size = 0;         // the true length
  size_t ip_size = 0;      // from the IP header on, as the IP header says; at most size - ip_offset
  uint16_t ip_offset = 0;  // 0, or the length of the link header
  uint16_t l4_offset = 0;  // behind IPv4 options and IPv6 extension headers
  uint8_t version = 0;     // 4 or 6
  uint8_t protocol = 0;    // of what is at l4_offset
  uint8_t l4_header = 0;   // bytes of TCP or UDP header; 0: another protocol, cut, or a later fragment
  bool fragment = false;   // one of several (an atomic IPv6 fragment counts as one)
  bool extended = false;   // has IPv4 options or IPv6 extension headers

  [[nodiscard]] size_t header_size() const { return l4_offset + l4_header; }
  [[nodiscard]] size_t payload_size() const { return ip_offset + ip_size - header_size(); }
  [[nodiscard]] size_t l4_size() const { return ip_offset + ip_size - l4_offset; }
  [[nodiscard]] bool is_tcp() const { return protocol == IPPROTO_TCP; }
  [[nodiscard]] size_t addresses() const {
    return ip_offset + (version == 4 ? kIp4Addresses : kIp6Addresses);
  }
  [[nodiscard]] size_t address_size() const { return version == 4 ? 4 : 16; }
  [[nodiscard]] size_t checksum_in_l4() const { return is_tcp() ? kTcpChecksum : kUdpChecksum; }
  [[nodiscard]] size_t checksum_offset() const { return l4_offset + checksum_in_l4(); }
  /// Nothing behind what the IP header counts: no Ethernet padding.
  [[nodiscard]] bool exact() const { return ip_offset + ip_size == size; }

  /// False where the packet is not one whole, well-formed IP packet; the view is then not to be used.
  bool Parse(const uint8_t* packet, size_t packet_size, Framing framing) {
    *this = PacketView();
    size = packet_size;
    if (framing == Framing::kEthernet && !SkipLinkHeader(packet)) return false;
    if (size <= ip_offset) return false;
    version = packet[ip_offset] >> 4;
    const bool valid = version == 4 ? ParseIp4(packet) : version == 6 && ParseIp6(packet);
    if (valid && !fragment) MeasureL4Header(packet);
    return valid;
  }

 private:
  bool SkipLinkHeader(const uint8_t* packet) {
    constexpr uint16_t kVlan = 0x8100;
    constexpr uint16_t kServiceVlan = 0x88a8;
    size_t type_at = 12;
    for (size_t tags = 0;; tags++) {
      if (size < type_at + 2) return false;
      const uint16_t type = LoadBe16(packet + type_at);
      if ((type != kVlan && type != kServiceVlan) || tags == 2) break;
      type_at += 4;
    }
    const uint16_t type = LoadBe16(packet + type_at);
    ip_offset = static_cast<uint16_t>(type_at + 2);
    if (size <= ip_offset) return false;
    const uint8_t nibble = packet[ip_offset] >> 4;
    return (type == 0x0800 && nibble == 4) || (type == 0x86dd && nibble == 6);
  }

  bool ParseIp4(const uint8_t* packet) {
    const uint8_t* ip = packet + ip_offset;
    const size_t room = size - ip_offset;
    if (room < kIp4Header) return false;
    const size_t header = static_cast<size_t>(ip[0] & 15) * 4;
    ip_size = LoadBe16(ip + kIp4TotalLength);
    if (header < kIp4Header || ip_size < header || ip_size > room) return false;
    l4_offset = static_cast<uint16_t>(ip_offset + header);
    protocol = ip[9];
    fragment = (LoadBe16(ip + kIp4Fragment) & 0x3fff) != 0;
    extended = header > kIp4Header;
    return true;
  }

  /// Walks hop-by-hop and destination options (RFC 8200), which leave the pseudo header as it is. Any other
  /// extension header ends the walk and counts as the protocol.
  bool ParseIp6(const uint8_t* packet) {
    const uint8_t* ip = packet + ip_offset;
    const size_t room = size - ip_offset;
    if (room < kIp6Header) return false;
    ip_size = kIp6Header + LoadBe16(ip + kIp6PayloadLength);
    if (ip_size > room) return false;
    size_t header = kIp6Header;
    protocol = ip[6];
    while (protocol == IPPROTO_HOPOPTS || protocol == IPPROTO_DSTOPTS) {
      if (ip_size < header + 8) return false;
      protocol = ip[header];
      header += (static_cast<size_t>(ip[header + 1]) + 1) * 8;
      if (ip_size < header || header > UINT16_MAX - kMaxLinkHeader) return false;
    }
    l4_offset = static_cast<uint16_t>(ip_offset + header);
    fragment = protocol == IPPROTO_FRAGMENT;
    extended = header > kIp6Header || fragment;
    return true;
  }

  void MeasureL4Header(const uint8_t* packet) {
    constexpr size_t kMinTcpHeader = 20;
    const size_t room = l4_size();
    if (is_tcp() && room >= kMinTcpHeader) {
      const size_t header = static_cast<size_t>(packet[l4_offset + kTcpOffset] >> 4) * 4;
      if (header >= kMinTcpHeader && header <= room) l4_header = static_cast<uint8_t>(header);
    } else if (protocol == IPPROTO_UDP && room >= kUdpHeader) {
      l4_header = kUdpHeader;
    }
  }
};

}  // namespace tunsock
