#pragma once

#include <linux/if_link.h>
#include <linux/rtnetlink.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/host/ip_address.h"
#include "core/host/netlink_message.h"

namespace tunsock {

/// What RTM_GETLINK tells of tun devices (IFLA_TUN_*).
struct TunInfo {
  bool packet_info = false;       // no IFF_NO_PI
  std::optional<uint32_t> owner;  // a user id, as the asker's user namespace numbers it
  std::optional<uint32_t> group;
  bool persist = false;
  uint32_t queues = 1;           // descriptors that are in service
  uint32_t disabled_queues = 0;  // those that are detached
};

/// A network interface, as RTM_NEWLINK tells.
struct LinkInfo {
  uint32_t index = 0;
  std::string name;
  std::vector<std::string> alternative_names;  // IFLA_ALT_IFNAME
  std::string kind;                            // "veth", "tun" ...; empty for hardware and loopback
  uint32_t flags = 0;                          // IFF_*
  uint16_t hardware_type = 0;                  // ARPHRD_*
  uint32_t mtu = 0;
  uint32_t tx_queue_length = 0;
  uint32_t gso_max_size = 0;
  uint32_t master = 0;  // the index of the bridge (or bond, ...) that it is a port of, or 0
  std::string mac;  // "02:00:00:00:00:01", as long as the hardware's addresses are; empty where it has none
  std::optional<uint8_t> address_generation;  // IN6_ADDR_GEN_MODE_*; absent without IPv6
  rtnl_link_stats64 stats{};
  std::optional<TunInfo> tun;  // absent for other kinds
};

/// What to change of a link; what is absent stays as it is.
struct LinkSettings {
  std::optional<std::string> name;
  std::optional<std::string> mac;
  std::optional<uint32_t> mtu;
  std::optional<uint32_t> tx_queue_length;
  std::optional<uint32_t> gso_max_size;       // of IPv4 as well
  std::optional<uint32_t> master;             // 0: none
  std::optional<uint8_t> address_generation;  // IN6_ADDR_GEN_MODE_*
  std::optional<bool> up;
  std::optional<int> netns;  // a descriptor of the namespace to move to
};

/// A link to make. Each kind uses some of what stands behind the settings.
struct LinkSpec {
  std::string kind;
  LinkSettings settings;
  LinkSettings peer;             // veth: the other end
  uint32_t parent = 0;           // the index of the link that carries it
  std::optional<uint32_t> id;    // vlan: the tag; vxlan: the network; gre: the key
  std::optional<uint32_t> mode;  // macvlan, macvtap: MACVLAN_MODE_*; ipvlan, ipvtap: IPVLAN_MODE_*
  IpAddress local;               // vxlan, gre, sit: this end of the tunnel
  IpAddress remote;              // vxlan (a group too), gre, sit: the other end
  std::optional<uint16_t> port;  // vxlan: of UDP, host order
  std::optional<uint8_t> ttl;    // vxlan, gre, sit
  uint32_t table = 0;            // vrf
};

/// Reads what follows the header of an RTM_NEWLINK or RTM_DELLINK message; false for bytes that are none.
bool ParseLink(Bytes payload, LinkInfo* link);

/// The fixed part of requests about a link, with its state up or down if that is given.
ifinfomsg LinkHeader(uint32_t index, const LinkSettings& settings);
/// Puts all settings but the state; false for a text that is no hardware address.
bool PutLinkSettings(NetlinkMessage* message, const LinkSettings& settings);
/// Puts all of a link to make but what its header has.
bool PutLinkSpec(NetlinkMessage* message, const LinkSpec& spec);

}  // namespace tunsock
