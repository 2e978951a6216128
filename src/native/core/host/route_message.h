#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/host/ip_address.h"
#include "core/host/netlink_message.h"

namespace tunsock {

/// One way that a route goes.
struct NextHop {
  uint32_t index = 0;  // of the link
  IpAddress gateway;   // none: on the link itself
  uint32_t weight = 1;
  bool onlink = false;  // RTNH_F_ONLINK

  [[nodiscard]] bool operator==(const NextHop& other) const {
    return index == other.index && gateway == other.gateway && weight == other.weight &&
           onlink == other.onlink;
  }
};

/// A route, as RTM_NEWROUTE tells.
struct RouteInfo {
  IpPrefix destination;
  IpPrefix from;     // IPv6: for packets with such a source only; a length of 0 is any
  IpAddress source;  // RTA_PREFSRC
  uint32_t table = 0;
  uint32_t metric = 0;
  uint32_t mtu = 0;          // RTAX_MTU; 0: the link's
  uint32_t next_hop_id = 0;  // of a nexthop object (RTA_NH_ID), or 0
  uint8_t type = 0;          // RTN_*
  uint8_t scope = 0;         // RT_SCOPE_*
  uint8_t protocol = 0;      // RTPROT_*
  uint8_t tos = 0;
  std::vector<NextHop> hops;  // empty for routes of no link; of several: multipath
};

/// A route to add, or what one has that is looked for: what is absent is the kernel's own choice, or any.
struct RouteSpec {
  IpPrefix destination;
  std::optional<IpPrefix> from;
  IpAddress source;
  IpAddress gateway;
  std::optional<bool> onlink;
  std::vector<NextHop> hops;  // of a multipath route, which has no gateway of its own
  std::optional<uint32_t> table;
  std::optional<uint32_t> metric;
  std::optional<uint32_t> mtu;
  std::optional<uint8_t> type;
  std::optional<uint8_t> scope;
  std::optional<uint8_t> tos;
};

/// A nexthop object, or a group of them, as RTM_NEWNEXTHOP tells.
struct NextHopObject {
  uint32_t id = 0;
  NextHop hop;
  struct Member {
    uint32_t id;
    uint32_t weight;
  };
  std::vector<Member> members;  // of a group, which has no hop of its own
};

/// Read what follows the header of RTM_NEWROUTE and RTM_DELROUTE, RTM_NEWNEXTHOP messages; false for bytes
/// that are none, and for entries of the route cache.
bool ParseRoute(Bytes payload, RouteInfo* route);
bool ParseNextHopObject(Bytes payload, NextHopObject* object);

/// Types of routes that no link has a part in: blackhole, unreachable, prohibit and throw.
bool IsRejecting(uint8_t type);

/// The whole route that `spec` makes out of the link, with what the kernel chooses for what is absent.
RouteInfo Complete(uint32_t index, const RouteSpec& spec);
/// Whether `route` has all that `spec` says of it. `index` is the link of hops that name none.
bool Matches(uint32_t index, const RouteSpec& spec, const RouteInfo& route);

/// An RTM_NEWROUTE or RTM_DELROUTE request about exactly this route.
NetlinkMessage RouteRequest(uint16_t type, uint16_t flags, const RouteInfo& route);

}  // namespace tunsock
