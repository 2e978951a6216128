#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/host/address_message.h"
#include "core/host/link_message.h"
#include "core/host/netlink_socket.h"
#include "core/host/qdisc_message.h"
#include "core/host/route_message.h"
#include "core/host/rule_message.h"
#include "core/sys/failure.h"
#include "core/sys/sys_result.h"

namespace tunsock {

enum class Change { kAdd, kRemove };

/// Requests to the kernel about links, addresses, routes, neighbours, rules and queueing disciplines, in the
/// calling thread's network namespace. Each opens a socket, asks and closes it. They return 0 or a negative
/// errno: -ENODEV where there is no such link, -EINVAL for text that doesn't parse. A list that changes while
/// it is read has all that did not change. rtnetlink(7), net/core/rtnetlink.c.
class Rtnetlink {
 public:
  /// By index, or where that is 0 by name or alternative name.
  SysResult GetLink(uint32_t index, const std::string& name, LinkInfo* link);
  SysResult ListLinks(std::vector<LinkInfo>* links);
  /// Makes the link and gives it the addresses: a whole one, or none. All is asked by one socket, so that
  /// there is a way to undo it when no other can be opened.
  Failure CreateLink(const LinkSpec& spec, const std::vector<AddressSpec>& addresses, LinkInfo* made);
  SysResult ChangeLink(uint32_t index, const LinkSettings& settings);
  SysResult ChangeAlternativeName(Change change, uint32_t index, const std::string& name);
  SysResult DeleteLink(uint32_t index);

  SysResult AddAddress(uint32_t index, const AddressSpec& spec);
  /// Removes the first that has all that is given: -EADDRNOTAVAIL where there is none.
  SysResult RemoveAddress(uint32_t index, const AddressSpec& spec);
  /// Whether there is an address that AddAddress would have made: 1 or 0.
  SysResult HasAddress(uint32_t index, const AddressSpec& spec);
  SysResult ListAddresses(uint32_t index, std::vector<AddressInfo>* addresses);

  /// With `replace` instead of the one that has its destination, metric and type of service.
  SysResult AddRoute(uint32_t index, const RouteSpec& spec, bool replace);
  /// Removes the first that has all that is given: -ESRCH where there is none.
  SysResult RemoveRoute(uint32_t index, const RouteSpec& spec);
  /// Those out of the link, of one table or of all but the local one, and after them those of no link.
  SysResult ListRoutes(uint32_t index, std::optional<uint32_t> table, std::vector<RouteInfo>* routes);
  /// Whether there is a route that AddRoute would have made: 1 or 0.
  SysResult HasRoute(uint32_t index, const RouteSpec& spec);

  /// Adding replaces what was known about the address; `mac` is not used to remove.
  SysResult ChangeNeighbour(Change change, uint32_t index, const IpAddress& address, const std::string& mac);
  SysResult ListNeighbours(uint32_t index, std::vector<NeighbourInfo>* neighbours);

  SysResult AddRule(const RuleInfo& rule);
  /// Removes the first that has all that is given: -ENOENT where there is none.
  SysResult RemoveRule(const RuleInfo& rule);
  SysResult ListRules(std::vector<RuleInfo>* rules);

  /// Absent: none. -EEXIST where the link has a discipline that somebody else chose.
  SysResult SetImpairment(uint32_t index, const std::optional<Impairment>& impairment);

  /// What the kernel said about the last request, if that was refused.
  [[nodiscard]] const std::string& kernel_text() const { return kernel_text_; }

 private:
  SysResult Run(
      NetlinkMessage* message, const NetlinkSocket::Visitor& visit = [](uint16_t, Bytes) {});
  /// How the kernel finds its place in a list that it goes on with: by what comes next, or by counting.
  enum class Order { kByKey, kByPosition };
  /// Adds to `records` what `take` makes of the messages of a dump: of all that did not change meanwhile, and
  /// of what did as it was at some moment.
  template <typename Record, typename Take>
  SysResult Dump(NetlinkMessage message, std::vector<Record>* records, Take take,
                 Order order = Order::kByPosition);
  /// The routes of one family and, if `table` is given, table: those out of the link, or where `type` is
  /// given those of this type, which have no link.
  SysResult DumpRoutes(int family, uint32_t index, std::optional<uint32_t> table, std::optional<uint8_t> type,
                       std::vector<RouteInfo>* routes);
  /// Where the kernel names nexthop objects only by number, puts in what they are.
  SysResult ResolveNextHops(uint32_t index, std::vector<RouteInfo>* routes);
  /// Those that `spec` may be about.
  SysResult ListCandidates(uint32_t index, const RouteSpec& spec, std::vector<RouteInfo>* routes);

  std::string kernel_text_;
  size_t datagrams_ = 0;
};

}  // namespace tunsock
