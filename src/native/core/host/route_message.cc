#include "core/host/route_message.h"

#include <linux/nexthop.h>
#include <linux/rtnetlink.h>

#include <algorithm>

namespace tunsock {
namespace {

/// What IPv6 takes for a route without a metric (IP6_RT_PRIO_USER).
constexpr uint32_t kDefaultMetric6 = 1024;

/// RTA_GATEWAY, or RTA_VIA: a gateway of the other family behind its number.
IpAddress TakeGateway(int family, const AttributeTable<RTA_NH_ID>& attributes) {
  IpAddress gateway;
  const Bytes plain = attributes.Get(RTA_GATEWAY);
  if (IpAddress::Read(family, plain.data, plain.size, &gateway)) return gateway;
  const Bytes via = attributes.Get(RTA_VIA);
  uint16_t via_family = 0;
  if (!via.Read(&via_family)) return gateway;
  const Bytes address = via.Skip(sizeof via_family);
  IpAddress::Read(via_family, address.data, address.size, &gateway);
  return gateway;
}

void PutGateway(NetlinkMessage* message, int family, const IpAddress& gateway) {
  if (!gateway.valid()) return;
  if (gateway.family == family) {
    message->Put(RTA_GATEWAY, gateway.bytes.data(), gateway.size());
    return;
  }
  std::array<uint8_t, sizeof(uint16_t) + 16> via{};
  const auto via_family = static_cast<uint16_t>(gateway.family);
  std::memcpy(via.data(), &via_family, sizeof via_family);
  std::copy_n(gateway.bytes.begin(), gateway.size(), via.begin() + sizeof via_family);
  message->Put(RTA_VIA, via.data(), sizeof via_family + gateway.size());
}

void TakeHops(int family, Bytes hops, std::vector<NextHop>* taken) {
  rtnexthop header;
  while (hops.Read(&header) && header.rtnh_len >= sizeof header && header.rtnh_len <= hops.size) {
    const AttributeTable<RTA_NH_ID> attributes({hops.data + sizeof header, header.rtnh_len - sizeof header});
    NextHop hop;
    hop.index = static_cast<uint32_t>(header.rtnh_ifindex);
    hop.gateway = TakeGateway(family, attributes);
    hop.weight = header.rtnh_hops + 1U;
    hop.onlink = (header.rtnh_flags & RTNH_F_ONLINK) != 0;
    taken->push_back(hop);
    hops = hops.Skip(RTNH_ALIGN(header.rtnh_len));
  }
}

void PutHops(NetlinkMessage* message, int family, const std::vector<NextHop>& hops) {
  const size_t nest = message->Begin(RTA_MULTIPATH);
  for (const NextHop& hop : hops) {
    rtnexthop header{};
    header.rtnh_ifindex = static_cast<int>(hop.index);
    header.rtnh_hops = static_cast<uint8_t>(hop.weight - 1);
    header.rtnh_flags = hop.onlink ? RTNH_F_ONLINK : 0;
    const size_t at = message->BeginNextHop(header);
    PutGateway(message, family, hop.gateway);
    message->EndNextHop(at);
  }
  message->End(nest);
}

uint8_t DefaultScope(int family, uint8_t type, const std::vector<NextHop>& hops) {
  if (family == AF_INET6) return RT_SCOPE_UNIVERSE;  // it knows no other
  if (type == RTN_LOCAL) return RT_SCOPE_HOST;
  if (type == RTN_BROADCAST || type == RTN_MULTICAST || type == RTN_ANYCAST) return RT_SCOPE_LINK;
  const bool on_link = type == RTN_UNICAST && std::all_of(hops.begin(), hops.end(), [](const NextHop& hop) {
                         return !hop.gateway.valid();
                       });
  return on_link ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
}

NextHop At(uint32_t index, NextHop hop) {
  if (hop.index == 0) hop.index = index;
  return hop;
}

}  // namespace

bool IsRejecting(uint8_t type) {
  return type == RTN_BLACKHOLE || type == RTN_UNREACHABLE || type == RTN_PROHIBIT || type == RTN_THROW;
}

bool ParseRoute(Bytes payload, RouteInfo* route) {
  rtmsg header;
  if (!payload.Read(&header) || (header.rtm_flags & RTM_F_CLONED) != 0) return false;
  const int family = header.rtm_family;
  if (family != AF_INET && family != AF_INET6) return false;
  *route = {};
  const AttributeTable<RTA_NH_ID> attributes(payload.Skip(NLMSG_ALIGN(sizeof header)));
  const auto prefix = [&](uint16_t type, uint8_t length, IpPrefix* target) {
    *target = IpPrefix::All(family);
    if (!attributes.Has(type)) return length == 0;
    const Bytes bytes = attributes.Get(type);
    return IpPrefix::Read(family, bytes.data, bytes.size, length, target);
  };
  if (!prefix(RTA_DST, header.rtm_dst_len, &route->destination)) return false;
  if (!prefix(RTA_SRC, header.rtm_src_len, &route->from)) return false;
  const Bytes source = attributes.Get(RTA_PREFSRC);
  IpAddress::Read(family, source.data, source.size, &route->source);
  route->table = attributes.U32(RTA_TABLE, header.rtm_table);
  route->metric = attributes.U32(RTA_PRIORITY);
  route->mtu = AttributeTable<RTAX_MTU>(attributes.Get(RTA_METRICS)).U32(RTAX_MTU);
  route->next_hop_id = attributes.U32(RTA_NH_ID);
  route->type = header.rtm_type;
  route->scope = header.rtm_scope;
  route->protocol = header.rtm_protocol;
  route->tos = header.rtm_tos;
  // Those of IPv6 name the loopback link, which has no part in it.
  if (IsRejecting(route->type)) return true;
  if (attributes.Has(RTA_MULTIPATH)) {
    TakeHops(family, attributes.Get(RTA_MULTIPATH), &route->hops);
  } else if (attributes.Has(RTA_OIF)) {
    NextHop hop;
    hop.index = attributes.U32(RTA_OIF);
    hop.gateway = TakeGateway(family, attributes);
    hop.onlink = (header.rtm_flags & RTNH_F_ONLINK) != 0;
    route->hops.push_back(hop);
  }
  return true;
}

bool ParseNextHopObject(Bytes payload, NextHopObject* object) {
  nhmsg header;
  if (!payload.Read(&header)) return false;
  *object = {};
  const AttributeTable<NHA_GATEWAY> attributes(payload.Skip(NLMSG_ALIGN(sizeof header)));
  object->id = attributes.U32(NHA_ID);
  object->hop.index = attributes.U32(NHA_OIF);
  object->hop.onlink = (header.nh_flags & RTNH_F_ONLINK) != 0;
  const Bytes gateway = attributes.Get(NHA_GATEWAY);
  IpAddress::Read(header.nh_family, gateway.data, gateway.size, &object->hop.gateway);
  Bytes group = attributes.Get(NHA_GROUP);
  nexthop_grp member;
  for (; group.Read(&member); group = group.Skip(sizeof member)) {
    object->members.push_back({member.id, member.weight + 1U});
  }
  return object->id != 0;
}

RouteInfo Complete(uint32_t index, const RouteSpec& spec) {
  RouteInfo route;
  const int family = spec.destination.address.family;
  route.destination = spec.destination;
  route.from = spec.from.value_or(IpPrefix::All(family));
  route.source = spec.source;
  route.table = spec.table.value_or(RT_TABLE_MAIN);
  route.metric = spec.metric.value_or(0);
  if (route.metric == 0 && family == AF_INET6) route.metric = kDefaultMetric6;
  route.mtu = spec.mtu.value_or(0);
  route.type = spec.type.value_or(RTN_UNICAST);
  route.protocol = RTPROT_STATIC;
  route.tos = spec.tos.value_or(0);
  for (const NextHop& hop : spec.hops) route.hops.push_back(At(index, hop));
  if (route.hops.empty() && !IsRejecting(route.type)) {
    route.hops.push_back({index, spec.gateway, 1, spec.onlink.value_or(false)});
  }
  route.scope = family == AF_INET && spec.scope.has_value() ? *spec.scope
                                                            : DefaultScope(family, route.type, route.hops);
  return route;
}

bool Matches(uint32_t index, const RouteSpec& spec, const RouteInfo& route) {
  const int family = spec.destination.address.family;
  if (!(spec.destination.Network() == route.destination.Network())) return false;
  if (spec.table.value_or(RT_TABLE_MAIN) != route.table) return false;
  if (spec.from.has_value() && !(spec.from->Network() == route.from.Network())) return false;
  if (spec.source.valid() && !(spec.source == route.source)) return false;
  if (spec.metric.has_value()) {
    const uint32_t metric = *spec.metric == 0 && family == AF_INET6 ? kDefaultMetric6 : *spec.metric;
    if (metric != route.metric) return false;
  }
  if (spec.mtu.has_value() && *spec.mtu != route.mtu) return false;
  if (spec.tos.has_value() && *spec.tos != route.tos) return false;
  if (spec.type.has_value() ? *spec.type != route.type : IsRejecting(route.type)) return false;
  if (spec.scope.has_value() && family == AF_INET && *spec.scope != route.scope) return false;
  if (!spec.hops.empty()) {
    return spec.hops.size() == route.hops.size() &&
           std::all_of(spec.hops.begin(), spec.hops.end(), [&](const NextHop& hop) {
             return std::find(route.hops.begin(), route.hops.end(), At(index, hop)) != route.hops.end();
           });
  }
  if (!spec.gateway.valid() && !spec.onlink.has_value()) return true;
  return route.hops.size() == 1 && (!spec.gateway.valid() || spec.gateway == route.hops[0].gateway) &&
         (!spec.onlink.has_value() || *spec.onlink == route.hops[0].onlink);
}

NetlinkMessage RouteRequest(uint16_t type, uint16_t flags, const RouteInfo& route) {
  const int family = route.destination.address.family;
  rtmsg header{};
  header.rtm_family = static_cast<uint8_t>(family);
  header.rtm_dst_len = route.destination.length;
  header.rtm_src_len = route.from.length;
  header.rtm_tos = route.tos;
  header.rtm_table = route.table < 256 ? static_cast<uint8_t>(route.table) : 0;  // RTA_TABLE tells
  header.rtm_protocol = route.protocol;
  header.rtm_type = route.type;
  header.rtm_scope = route.scope;
  const bool single = route.next_hop_id == 0 && route.hops.size() == 1;
  if (single && route.hops[0].onlink) header.rtm_flags |= RTNH_F_ONLINK;
  NetlinkMessage message(type, flags, header);
  const auto address = [&](uint16_t attribute, const IpAddress& value) {
    if (value.valid()) message.Put(attribute, value.bytes.data(), value.size());
  };
  message.PutU32(RTA_TABLE, route.table);
  if (route.destination.length > 0) address(RTA_DST, route.destination.address);
  if (route.from.length > 0) address(RTA_SRC, route.from.address);
  address(RTA_PREFSRC, route.source);
  if (route.metric != 0) message.PutU32(RTA_PRIORITY, route.metric);
  if (route.mtu != 0) {
    const size_t metrics = message.Begin(RTA_METRICS);
    message.PutU32(RTAX_MTU, route.mtu);
    message.End(metrics);
  }
  if (route.next_hop_id != 0) {
    message.PutU32(RTA_NH_ID, route.next_hop_id);
  } else if (single) {
    PutGateway(&message, family, route.hops[0].gateway);
    message.PutU32(RTA_OIF, route.hops[0].index);
  } else if (!route.hops.empty()) {
    PutHops(&message, family, route.hops);
  }
  return message;
}

}  // namespace tunsock
