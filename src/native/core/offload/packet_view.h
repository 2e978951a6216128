#pragma once

#include <netinet/in.h>

#include <cstddef>
#include <cstdint>

#include "core/offload/byte_order.h"

namespace tunsock {

/// What a packet starts with: its IP header (tun), or an Ethernet header with up to two VLAN tags (tap).
enum class Framing : uint8_t { kIp, kEthernet };

/// Whether a length of 0 in an IP header is wrong, or means all that there is: so it stands in a superpacket
/// that is longer than the field can say (BIG TCP; iph_totlen(), ipv6_payload_len()).
enum class ZeroLength : uint8_t { kIsWrong, kIsAll };

constexpr size_t kMaxIpSize = 65535;
constexpr size_t kMaxEthernetHeader = 14 + 2 * 4;
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
constexpr size_t kIp6NextHeader = 6;
constexpr size_t kIp6Addresses = 8;
constexpr size_t kIp6Header = 40;
constexpr size_t kIp6JumboOption = 8;  // the hop-by-hop header that has nothing but a jumbo payload length
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
  uint16_t ip_offset = 0;  // 0, or the length of the link header, or of all that is around an inner packet
  uint16_t l4_offset = 0;  // behind IPv4 options and IPv6 extension headers
  uint8_t version = 0;     // 4 or 6
  uint8_t protocol = 0;    // of what is at l4_offset
  uint8_t l4_header = 0;   // bytes of TCP or UDP header; 0: another protocol, cut, or a later fragment
  bool fragment = false;   // one of several (an atomic IPv6 fragment counts as one)
  bool extended = false;   // has IPv4 options or IPv6 extension headers
  bool jumbo = false;      // has a jumbo payload length (RFC 2675) as the first extension header, before TCP
  bool cut = false;        // Parse() failed, for the IP header counts more bytes than there are

  [[nodiscard]] size_t ip_header() const { return l4_offset - ip_offset; }
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

  /// False where the packet is not one whole, well-formed IP packet; only `cut` is then to be used.
  bool Parse(const uint8_t* packet, size_t packet_size, Framing framing,
             ZeroLength zero = ZeroLength::kIsWrong);
  /// The same for a packet whose IP header is at `ip_at`, whatever stands before.
  bool ParseIp(const uint8_t* packet, size_t packet_size, size_t ip_at,
               ZeroLength zero = ZeroLength::kIsWrong);

 private:
  bool SkipLinkHeader(const uint8_t* packet);
  bool ParseIp4(const uint8_t* packet, ZeroLength zero);
  bool ParseIp6(const uint8_t* packet, ZeroLength zero);
  void MeasureL4Header(const uint8_t* packet);
};

/// The following take headers that `view` was parsed from, TCP or UDP.

/// The sum of TCP's and UDP's pseudo header for an `l4_size` that may differ from the view's.
uint64_t PseudoHeaderSum(const uint8_t* packet, const PacketView& view, size_t l4_size);

/// Makes the headers those of a packet with `payload` bytes behind them: IP and UDP lengths and the IPv4
/// header's checksum, but not the transport checksum. The sum of headers and payload is an IP packet's, so at
/// most 65535.
void SetPayloadSize(uint8_t* packet, const PacketView& view, size_t payload);

/// Whether it is UDP over IPv4 without a checksum: 0 in its field (RFC 768). IPv6 knows no such thing.
inline bool WithoutChecksum(const uint8_t* packet, const PacketView& view) {
  return view.protocol == IPPROTO_UDP && view.version == 4 &&
         LoadWord<uint16_t>(packet + view.checksum_offset()) == 0;
}

/// Whether the IPv4 header's checksum and the transport's are right, where it has one. The transport's covers
/// what the IP header counts, so that Ethernet padding stays out.
bool ChecksumsRight(const uint8_t* packet, const PacketView& view);

}  // namespace tunsock
