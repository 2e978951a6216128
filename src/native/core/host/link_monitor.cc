#include "core/host/link_monitor.h"

#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <algorithm>
#include <utility>

namespace tunsock {
namespace {

/// How often a list is read anew that changed while it was read.
constexpr int kDumpAttempts = 8;

/// As iproute2 has it: some hundred changes at once are heard of one by one.
constexpr int kReceiveBuffer = 1024 * 1024;

struct Membership {
  uint32_t kind;
  int group;
};
constexpr Membership kMemberships[] = {
    {LinkMonitor::kLinks, RTNLGRP_LINK},
    {LinkMonitor::kAddresses, RTNLGRP_IPV4_IFADDR},
    {LinkMonitor::kAddresses, RTNLGRP_IPV6_IFADDR},
    {LinkMonitor::kRoutes, RTNLGRP_IPV4_ROUTE},
    {LinkMonitor::kRoutes, RTNLGRP_IPV6_ROUTE},
};

/// A message of another family than AF_UNSPEC is about something else: RTM_DELLINK of AF_BRIDGE says that a
/// port has left its bridge. One without a name tells of nothing but wireless events.
void TakeLinkRecord(bool removed, Bytes payload, std::vector<HostRecord>* records) {
  ifinfomsg header;
  if (!payload.Read(&header) || header.ifi_family != AF_UNSPEC) return;
  const AttributeTable<IFLA_NEW_IFINDEX> attributes(payload.Skip(NLMSG_ALIGN(sizeof header)));
  HostRecord record;
  LinkInfo link;
  if (!attributes.Has(IFLA_IFNAME) || !ParseLink(payload, &link)) return;
  record.removed = removed;
  record.index = link.index;
  const Bytes carrier = attributes.Get(IFLA_CARRIER);
  record.carrier = carrier.size != 0 && carrier.data[0] != 0;
  if (attributes.Has(IFLA_NEW_NETNSID)) record.index_in_netns = attributes.U32(IFLA_NEW_IFINDEX, link.index);
  record.link = std::move(link);
  records->push_back(std::move(record));
}

void TakeAddressRecord(bool removed, Bytes payload, std::vector<HostRecord>* records) {
  AddressInfo address;
  if (!ParseAddress(payload, &address)) return;
  HostRecord record;
  record.removed = removed;
  record.index = address.index;
  record.address = address.address;
  records->push_back(std::move(record));
}

/// A record for each link that the route leaves by. What the kernel keeps in its local table follows from
/// addresses.
void TakeRouteRecord(bool removed, Bytes payload, std::vector<HostRecord>* records) {
  RouteInfo route;
  if (!ParseRoute(payload, &route) || route.table == RT_TABLE_LOCAL) return;
  std::vector<uint32_t> links;
  for (const NextHop& hop : route.hops) {
    if (std::find(links.begin(), links.end(), hop.index) == links.end()) links.push_back(hop.index);
  }
  for (const uint32_t index : links) {
    HostRecord record;
    record.removed = removed;
    record.index = index;
    record.route = route;
    records->push_back(std::move(record));
  }
}

void TakeRecords(uint16_t type, Bytes payload, std::vector<HostRecord>* records) {
  switch (type) {
    case RTM_NEWLINK:
    case RTM_DELLINK:
      return TakeLinkRecord(type == RTM_DELLINK, payload, records);
    case RTM_NEWADDR:
    case RTM_DELADDR:
      return TakeAddressRecord(type == RTM_DELADDR, payload, records);
    case RTM_NEWROUTE:
    case RTM_DELROUTE:
      return TakeRouteRecord(type == RTM_DELROUTE, payload, records);
    default:
      return;
  }
}

template <typename Header>
SysResult Dump(NetlinkSocket* socket, uint16_t request, const Header& header,
               std::vector<HostRecord>* records) {
  const size_t before = records->size();
  SysResult result = -EINTR;
  for (int attempt = 0; attempt < kDumpAttempts && result == -EINTR; ++attempt) {
    records->resize(before);
    NetlinkMessage message(request, NLM_F_DUMP, header);
    result =
        socket->Request(&message, [&](uint16_t type, Bytes payload) { TakeRecords(type, payload, records); });
  }
  return result == -EINTR ? 0 : result;
}

}  // namespace

SysResult LinkMonitor::Open(LinkMonitor* monitor) {
  LinkMonitor opened;
  SysResult result = NetlinkSocket::Open(&opened.events_);
  if (result >= 0) result = NetlinkSocket::Open(&opened.requests_);
  if (result < 0) return result;
  // Beyond net.core.rmem_max only with CAP_NET_ADMIN; a smaller one is no loss, since what is lost is listed.
  for (const int option : {SO_RCVBUF, SO_RCVBUFFORCE}) {
    (void)::setsockopt(opened.fd(), SOL_SOCKET, option, &kReceiveBuffer, sizeof kReceiveBuffer);
  }
  *monitor = std::move(opened);
  return result;
}

SysResult LinkMonitor::Hear(uint32_t kinds) {
  for (const Membership& membership : kMemberships) {
    const bool wanted = (kinds & membership.kind) != 0;
    if (wanted == ((kinds_ & membership.kind) != 0)) continue;
    const SysResult result = events_.SetMembership(membership.group, wanted);
    if (result < 0) return result;
  }
  kinds_ = kinds;
  return 0;
}

SysResult LinkMonitor::List(uint32_t kinds, std::vector<HostRecord>* records) {
  SysResult result = 0;
  if ((kinds & kLinks) != 0) result = Dump(&requests_, RTM_GETLINK, ifinfomsg{}, records);
  if (result >= 0 && (kinds & kAddresses) != 0) result = Dump(&requests_, RTM_GETADDR, ifaddrmsg{}, records);
  if (result >= 0 && (kinds & kRoutes) != 0) result = Dump(&requests_, RTM_GETROUTE, rtmsg{}, records);
  return result;
}

SysResult LinkMonitor::Read(uint32_t limit, std::vector<HostRecord>* records) {
  for (uint32_t reads = 0; reads < limit; ++reads) {
    const SysResult result =
        events_.Hear([&](uint16_t type, Bytes payload) { TakeRecords(type, payload, records); });
    if (result == -EAGAIN) return 0;
    if (result == -ENOBUFS) DropQueued();
    if (result < 0) return result;
  }
  return 1;
}

/// The kernel queues nothing new until the queue is empty (NETLINK_S_CONGESTED in net/netlink/af_netlink.c),
/// so this ends.
void LinkMonitor::DropQueued() {
  SysResult result = 0;
  while (result >= 0 || result == -ENOBUFS) result = events_.Hear([](uint16_t, Bytes) {});
}

}  // namespace tunsock
