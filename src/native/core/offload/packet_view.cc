#include "core/offload/packet_view.h"

#include "core/offload/byte_order.h"
#include "core/offload/checksum.h"

namespace tunsock {

namespace {

/// The hop-by-hop header before TCP that says a length above 65535, as ipv6_has_hopopt_jumbo() knows it.
bool IsJumboOption(const uint8_t* header) {
  constexpr uint8_t kJumboPayload = 0xc2;
  return header[0] == IPPROTO_TCP && header[1] == 0 && header[2] == kJumboPayload && header[3] == 4;
}

}  // namespace

bool PacketView::Parse(const uint8_t* packet, size_t packet_size, Framing framing, ZeroLength zero) {
  *this = PacketView();
  size = packet_size;
  if (framing == Framing::kEthernet && !SkipLinkHeader(packet)) return false;
  return ParseIp(packet, packet_size, ip_offset, zero);
}

bool PacketView::ParseIp(const uint8_t* packet, size_t packet_size, size_t ip_at, ZeroLength zero) {
  *this = PacketView();
  size = packet_size;
  if (size <= ip_at || ip_at > UINT16_MAX) return false;
  ip_offset = static_cast<uint16_t>(ip_at);
  version = packet[ip_offset] >> 4;
  const bool valid = version == 4 ? ParseIp4(packet, zero) : version == 6 && ParseIp6(packet, zero);
  if (valid && !fragment) MeasureL4Header(packet);
  return valid;
}

bool PacketView::SkipLinkHeader(const uint8_t* packet) {
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

bool PacketView::ParseIp4(const uint8_t* packet, ZeroLength zero) {
  const uint8_t* ip = packet + ip_offset;
  const size_t room = size - ip_offset;
  if (room < kIp4Header) return false;
  const size_t header = static_cast<size_t>(ip[0] & 15) * 4;
  ip_size = LoadBe16(ip + kIp4TotalLength);
  if (ip_size == 0 && zero == ZeroLength::kIsAll) ip_size = room;
  cut = ip_size > room;
  if (header < kIp4Header || ip_size < header || cut || ip_offset + header > UINT16_MAX) return false;
  l4_offset = static_cast<uint16_t>(ip_offset + header);
  protocol = ip[9];
  fragment = (LoadBe16(ip + kIp4Fragment) & 0x3fff) != 0;
  extended = header > kIp4Header;
  return true;
}

// Walks hop-by-hop options, destination options and routing headers (RFC 8200), as the kernel's segmentation
// does (ipv6_gso_pull_exthdrs()). Any other extension header ends the walk and counts as the protocol.
bool PacketView::ParseIp6(const uint8_t* packet, ZeroLength zero) {
  const uint8_t* ip = packet + ip_offset;
  const size_t room = size - ip_offset;
  if (room < kIp6Header) return false;
  const size_t said = LoadBe16(ip + kIp6PayloadLength);
  ip_size = said == 0 && zero == ZeroLength::kIsAll ? room : kIp6Header + said;
  cut = ip_size > room;
  if (cut) return false;
  size_t header = kIp6Header;
  protocol = ip[kIp6NextHeader];
  while (protocol == IPPROTO_HOPOPTS || protocol == IPPROTO_DSTOPTS || protocol == IPPROTO_ROUTING) {
    if (ip_size < header + 8) return false;
    if (header == kIp6Header && protocol == IPPROTO_HOPOPTS) jumbo = IsJumboOption(ip + header);
    protocol = ip[header];
    header += (static_cast<size_t>(ip[header + 1]) + 1) * 8;
    if (ip_size < header || ip_offset + header > UINT16_MAX) return false;
  }
  l4_offset = static_cast<uint16_t>(ip_offset + header);
  fragment = protocol == IPPROTO_FRAGMENT;
  extended = header > kIp6Header || fragment;
  return true;
}

void PacketView::MeasureL4Header(const uint8_t* packet) {
  constexpr size_t kMinTcpHeader = 20;
  const size_t room = l4_size();
  if (is_tcp() && room >= kMinTcpHeader) {
    const size_t header = static_cast<size_t>(packet[l4_offset + kTcpOffset] >> 4) * 4;
    if (header >= kMinTcpHeader && header <= room) l4_header = static_cast<uint8_t>(header);
  } else if (protocol == IPPROTO_UDP && room >= kUdpHeader) {
    l4_header = kUdpHeader;
  }
}

uint64_t PseudoHeaderSum(const uint8_t* packet, const PacketView& view, size_t l4_size) {
  const uint64_t sum = SumOfWord(view.protocol) + SumOfWord(static_cast<uint16_t>(l4_size));
  return InternetSum(packet + view.addresses(), 2 * view.address_size(), sum);
}

void SetPayloadSize(uint8_t* packet, const PacketView& view, size_t payload) {
  uint8_t* ip = packet + view.ip_offset;
  const size_t ip_header = view.ip_header();
  const size_t l4_size = view.l4_header + payload;
  if (view.version == 4) {
    StoreBe16(ip + kIp4TotalLength, static_cast<uint16_t>(ip_header + l4_size));
    StoreWord<uint16_t>(ip + kIp4Checksum, 0);
    StoreWord(ip + kIp4Checksum, FinishSum(InternetSum(ip, ip_header)));
  } else {
    StoreBe16(ip + kIp6PayloadLength, static_cast<uint16_t>(ip_header + l4_size - kIp6Header));
  }
  if (!view.is_tcp()) StoreBe16(packet + view.l4_offset + kUdpLength, static_cast<uint16_t>(l4_size));
}

bool ChecksumsRight(const uint8_t* packet, const PacketView& view) {
  constexpr uint16_t kAllOnes = 0xffff;
  if (view.version == 4 && FoldSum(InternetSum(packet + view.ip_offset, view.ip_header())) != kAllOnes) {
    return false;
  }
  if (WithoutChecksum(packet, view)) return true;
  // Without options and extension headers the addresses lie before the transport's header: one sum over both.
  const size_t l4_size = view.l4_size();
  const size_t addresses = 2 * view.address_size();
  if (!view.extended) {
    const uint64_t rest = SumOfWord(view.protocol) + SumOfWord(static_cast<uint16_t>(l4_size));
    return FoldSum(InternetSum(packet + view.addresses(), addresses + l4_size, rest)) == kAllOnes;
  }
  const uint64_t pseudo = PseudoHeaderSum(packet, view, l4_size);
  return FoldSum(InternetSum(packet + view.l4_offset, l4_size, pseudo)) == kAllOnes;
}

}  // namespace tunsock
