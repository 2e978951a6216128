#include "core/host/address_message.h"

#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>

#include <algorithm>

namespace tunsock {
namespace {

void PutAddress(NetlinkMessage* message, uint16_t type, const IpAddress& address) {
  if (address.valid()) message->Put(type, address.bytes.data(), address.size());
}

ifaddrmsg AddressHeader(uint32_t index, const IpPrefix& address) {
  ifaddrmsg header{};
  header.ifa_family = static_cast<uint8_t>(address.address.family);
  header.ifa_prefixlen = address.length;
  header.ifa_index = index;
  return header;
}

}  // namespace

bool ParseAddress(Bytes payload, AddressInfo* address) {
  ifaddrmsg header;
  if (!payload.Read(&header)) return false;
  *address = {};
  const AttributeTable<IFA_FLAGS> attributes(payload.Skip(NLMSG_ALIGN(sizeof header)));
  // IFA_ADDRESS is the other end's address where the two differ.
  const Bytes bytes = attributes.Get(attributes.Has(IFA_LOCAL) ? IFA_LOCAL : IFA_ADDRESS);
  if (!IpPrefix::Read(header.ifa_family, bytes.data, bytes.size, header.ifa_prefixlen, &address->address))
    return false;
  const auto other = [&](uint16_t type, IpAddress* target) {
    const Bytes value = attributes.Get(type);
    IpAddress::Read(header.ifa_family, value.data, value.size, target);
  };
  other(IFA_ADDRESS, &address->peer);
  if (address->peer == address->address.address) address->peer = {};
  other(IFA_BROADCAST, &address->broadcast);
  address->index = header.ifa_index;
  address->scope = header.ifa_scope;
  address->flags = attributes.U32(IFA_FLAGS, header.ifa_flags);
  address->label = attributes.String(IFA_LABEL);
  ifa_cacheinfo lifetimes;
  if (attributes.Get(IFA_CACHEINFO).Read(&lifetimes)) {
    address->valid_lifetime = lifetimes.ifa_valid;
    address->preferred_lifetime = lifetimes.ifa_prefered;
  }
  return true;
}

bool ParseNeighbour(Bytes payload, NeighbourInfo* neighbour) {
  ndmsg header;
  if (!payload.Read(&header)) return false;
  *neighbour = {};
  const AttributeTable<NDA_LLADDR> attributes(payload.Skip(NLMSG_ALIGN(sizeof header)));
  const Bytes address = attributes.Get(NDA_DST);
  neighbour->index = static_cast<uint32_t>(header.ndm_ifindex);
  neighbour->mac = FormatMac(attributes.Get(NDA_LLADDR));
  neighbour->state = header.ndm_state;
  return IpAddress::Read(header.ndm_family, address.data, address.size, &neighbour->address);
}

bool Matches(const AddressSpec& spec, const AddressInfo& address) {
  return spec.address == address.address && (!spec.peer.valid() || spec.peer == address.peer) &&
         (!spec.broadcast.valid() || spec.broadcast == address.broadcast) &&
         (!spec.scope.has_value() || *spec.scope == address.scope) &&
         (!spec.label.has_value() || *spec.label == address.label) &&
         (!spec.no_prefix_route || (address.flags & IFA_F_NOPREFIXROUTE) != 0);
}

NetlinkMessage NewAddressRequest(uint32_t index, const AddressSpec& spec) {
  const bool ipv4 = spec.address.address.family == AF_INET;
  ifaddrmsg header = AddressHeader(index, spec.address);
  // 127.0.0.0/8 never leaves the host; the kernel refuses (EINVAL) a network's second address of another
  // scope.
  const bool loopback = ipv4 && spec.address.address.bytes[0] == IN_LOOPBACKNET;
  header.ifa_scope = spec.scope.value_or(loopback ? RT_SCOPE_HOST : RT_SCOPE_UNIVERSE);
  NetlinkMessage message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, header);
  PutAddress(&message, IFA_LOCAL, spec.address.address);
  PutAddress(&message, IFA_ADDRESS, spec.peer.valid() ? spec.peer : spec.address.address);
  PutAddress(&message, IFA_BROADCAST, spec.broadcast);
  if (spec.label.has_value()) message.PutString(IFA_LABEL, *spec.label);
  // Of IPv6 usable at once: no wait for an answer to duplicate address detection.
  const uint32_t flags = (ipv4 ? 0 : IFA_F_NODAD) | (spec.no_prefix_route ? IFA_F_NOPREFIXROUTE : 0);
  if (flags != 0) message.PutU32(IFA_FLAGS, flags);
  if (spec.valid_lifetime.has_value() || spec.preferred_lifetime.has_value()) {
    ifa_cacheinfo lifetimes{};
    lifetimes.ifa_valid = spec.valid_lifetime.value_or(kForever);
    lifetimes.ifa_prefered = std::min(spec.preferred_lifetime.value_or(kForever), lifetimes.ifa_valid);
    message.Put(IFA_CACHEINFO, &lifetimes, sizeof lifetimes);
  }
  return message;
}

NetlinkMessage RemoveAddressRequest(const AddressInfo& address) {
  NetlinkMessage message(RTM_DELADDR, 0, AddressHeader(address.index, address.address));
  PutAddress(&message, IFA_LOCAL, address.address.address);
  // The kernel compares a peer's prefix, but of a plain address it wants the address itself.
  if (address.peer.valid()) PutAddress(&message, IFA_ADDRESS, address.peer);
  if (!address.label.empty()) message.PutString(IFA_LABEL, address.label);
  return message;
}

}  // namespace tunsock
