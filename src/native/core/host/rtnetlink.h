#pragma once

#include <linux/if_link.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/host/ip_address.h"
#include "core/host/netlink_socket.h"
#include "core/sys/sys_result.h"

namespace tunsock {

/// What RTM_GETLINK tells of tun devices.
struct TunInfo {
  bool packet_info = false;  // no IFF_NO_PI
  uint32_t queues = 1;       // descriptors that are attached, detached ones too
};

/// A network interface, as RTM_GETLINK tells.
struct LinkInfo {
  uint32_t index = 0;
  std::string name;
  std::string kind;    // "veth", "tun" ...; empty for hardware and loopback
  uint32_t flags = 0;  // IFF_*
  uint32_t mtu = 0;
  uint32_t tx_queue_length = 0;
  uint32_t master = 0;  // the index of the bridge (or bond, ...) that it is a port of, or 0
  std::string mac;  // "02:00:00:00:00:01", as long as the hardware's addresses are; empty where it has none
  rtnl_link_stats64 stats{};
  std::optional<TunInfo> tun;  // absent for other kinds
};

/// What to change of a link; what is absent stays as it is.
struct LinkSettings {
  std::optional<std::string> name;
  std::optional<std::string> mac;
  std::optional<uint32_t> mtu;
  std::optional<uint32_t> tx_queue_length;
  std::optional<uint32_t> master;  // 0: none
  std::optional<bool> up;
  std::optional<int> netns;  // a descriptor of the namespace to move to
};

/// A link to make. Of the last three each kind uses its own.
struct LinkSpec {
  std::string kind;
  LinkSettings settings;
  LinkSettings peer;    // veth: the other end
  uint32_t parent = 0;  // vlan: the index of the link that carries the tagged frames
  uint16_t vlan_id = 0;
};

struct RouteInfo {
  IpPrefix destination;
  IpAddress gateway;
  IpAddress source;
  uint32_t metric = 0;  // 0: the kernel's own choice
};

struct NeighbourInfo {
  IpAddress address;
  std::string mac;     // empty while it isn't known
  uint16_t state = 0;  // NUD_*
};

/// What RTM_NEWLINK, RTM_NEWADDR and RTM_NEWROUTE tell, and their RTM_DEL kin. The last two add to their list
/// what concerns link `index`: unicast routes of the main table, one for each next hop.
bool TakeLink(Bytes payload, LinkInfo* link);
void TakeAddress(uint32_t index, Bytes payload, std::vector<IpPrefix>* addresses);
void TakeRoute(uint32_t index, Bytes payload, std::vector<RouteInfo>* routes);

enum class Change { kAdd, kRemove };

/// Requests to the kernel about links, addresses, routes (of the main table) and neighbours, in the calling
/// thread's network namespace. Each opens a socket, asks and closes it. They return 0 or a negative errno:
/// -ENODEV where there is no such link, -EAGAIN where a list changed each time that it was read, -EINVAL for
/// text that doesn't parse. rtnetlink(7), net/core/rtnetlink.c.
class Rtnetlink {
 public:
  /// By index, or where that is 0 by name.
  SysResult GetLink(uint32_t index, const std::string& name, LinkInfo* link);
  SysResult ListLinks(std::vector<LinkInfo>* links);
  SysResult CreateLink(const LinkSpec& spec);
  SysResult ChangeLink(uint32_t index, const LinkSettings& settings);
  SysResult DeleteLink(uint32_t index);

  SysResult ChangeAddress(Change change, uint32_t index, const IpPrefix& address);
  SysResult ListAddresses(uint32_t index, std::vector<IpPrefix>* addresses);

  SysResult ChangeRoute(Change change, uint32_t index, const RouteInfo& route);
  SysResult ListRoutes(uint32_t index, std::vector<RouteInfo>* routes);

  /// Adding replaces what was known about the address; `mac` is not used to remove.
  SysResult ChangeNeighbour(Change change, uint32_t index, const IpAddress& address, const std::string& mac);
  SysResult ListNeighbours(uint32_t index, std::vector<NeighbourInfo>* neighbours);

  /// What the kernel said about the last request, if that was refused.
  [[nodiscard]] const std::string& kernel_text() const { return kernel_text_; }

 private:
  SysResult Run(
      NetlinkMessage* message, const NetlinkSocket::Visitor& visit = [](uint16_t, Bytes) {});
  template <typename Record, typename Take>
  SysResult Dump(NetlinkMessage* message, std::vector<Record>* records, Take take);

  std::string kernel_text_;
};

}  // namespace tunsock
