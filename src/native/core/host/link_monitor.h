#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "core/host/address_message.h"
#include "core/host/ip_address.h"
#include "core/host/link_message.h"
#include "core/host/netlink_socket.h"
#include "core/host/route_message.h"
#include "core/sys/sys_result.h"

namespace tunsock {

/// One link, address or route: that it is there, as it is now, or that it is gone.
struct HostRecord {
  bool removed = false;
  uint32_t index = 0;  // of the link, also of an address's and a route's
  std::optional<LinkInfo> link;
  bool carrier = false;                    // of a link (IFLA_CARRIER)
  std::optional<uint32_t> index_in_netns;  // of a removed link that lives on in another namespace, under this
  std::optional<IpPrefix> address;
  std::optional<RouteInfo> route;
};

/// Hears of links, and where that is wanted of their addresses and routes, in the network namespace that it
/// was opened in. rtnetlink(7), net/core/rtnetlink.c.
class LinkMonitor {
 public:
  /// What there is to hear of.
  static constexpr uint32_t kLinks = 1;
  static constexpr uint32_t kAddresses = 2;
  static constexpr uint32_t kRoutes = 4;

  static SysResult Open(LinkMonitor* monitor);

  /// Poll it for reading. Lost messages show as POLLERR, until Read has said so.
  [[nodiscard]] int fd() const { return events_.fd(); }

  /// Hears from here on of `kinds` and of nothing else.
  SysResult Hear(uint32_t kinds);

  /// What there is of `kinds` now, appended. A list that changes each time that it is read is what the last
  /// reading gave: what changed then is also told by Read.
  SysResult List(uint32_t kinds, std::vector<HostRecord>* records);

  /// Appends what has changed, from `limit` messages at most; never waits. Returns 1 when there may be more,
  /// 0 when not, or a negative errno: -ENOBUFS when messages were lost, and then all that was queued is
  /// dropped, since only List tells how things are.
  SysResult Read(uint32_t limit, std::vector<HostRecord>* records);

 private:
  void DropQueued();

  uint32_t kinds_ = 0;
  NetlinkSocket events_;
  /// Stays open, so that lists are of the same namespace wherever the thread is.
  NetlinkSocket requests_;
};

}  // namespace tunsock
