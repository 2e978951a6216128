#include "core/offload/ip_layers.h"

namespace tunsock {
namespace {

/// The most bytes between an outer transport header and the inner IP header: Geneve's options, and an
/// Ethernet header.
constexpr size_t kMaxTunnelHeader = 8 + 252 + kMaxEthernetHeader;

bool IsTransport(const PacketView& view) {
  return view.is_tcp() || view.protocol == IPPROTO_UDP;
}

/// What an IP packet can be followed by.
bool Whole(const PacketView& view) {
  return !view.fragment && view.exact();
}

}  // namespace

bool IpLayers::Parse(const uint8_t* packet, size_t size, Framing framing, size_t transport, ZeroLength zero) {
  count_ = 0;
  if (!views_[0].Parse(packet, size, framing, zero) || !Whole(views_[0])) return false;
  count_ = 1;
  while (!IsTransport(innermost()) || (transport != 0 && innermost().l4_offset != transport)) {
    if (count_ == kMost || !ParseInner(packet, transport, zero)) return false;
    count_++;
  }
  return innermost().l4_header != 0;
}

void IpLayers::RemoveJumboOption() {
  PacketView& view = views_[0];
  view.size -= kIp6JumboOption;
  view.ip_size -= kIp6JumboOption;
  view.l4_offset = static_cast<uint16_t>(view.l4_offset - kIp6JumboOption);
  view.jumbo = false;
}

/// The next IP packet in: at once behind the header where the protocol says so, else the first that ends
/// where all ends, at an even distance as in every tunnel that the kernel cuts.
bool IpLayers::ParseInner(const uint8_t* packet, size_t transport, ZeroLength zero) {
  const PacketView& outer = innermost();
  PacketView& inner = views_[count_];
  const bool four = outer.protocol == IPPROTO_IPIP;
  if (four || outer.protocol == IPPROTO_IPV6) {
    return inner.ParseIp(packet, outer.size, outer.l4_offset, zero) && Whole(inner) &&
           inner.version == (four ? 4 : 6);
  }
  const bool gre = outer.protocol == IPPROTO_GRE;
  if (!gre && (outer.protocol != IPPROTO_UDP || outer.l4_header == 0)) return false;
  const size_t from = outer.l4_offset + (gre ? kGreHeader : kUdpHeader);
  for (size_t at = from; at <= from + kMaxTunnelHeader && at < transport; at += 2) {
    // A length of 0 would make an inner packet of any four zeros.
    if (inner.ParseIp(packet, outer.size, at) && Whole(inner) && inner.l4_offset <= transport) return true;
  }
  return false;
}

}  // namespace tunsock
