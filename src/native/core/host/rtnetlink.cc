#include "core/host/rtnetlink.h"

#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstdio>
#include <utility>

namespace tunsock {
namespace {

/// How often a list is read anew that changed while it was read.
constexpr int kDumpAttempts = 8;
constexpr size_t kMacSize = 6;

bool ParseMac(const std::string& text, std::array<uint8_t, kMacSize>* mac) {
  if (text.size() != kMacSize * 3 - 1) return false;
  for (size_t i = 0; i < kMacSize; ++i) {
    unsigned int byte = 0;
    if (std::sscanf(text.c_str() + i * 3, "%2x", &byte) != 1) return false;
    (*mac)[i] = static_cast<uint8_t>(byte);
  }
  return true;
}

std::string FormatMac(Bytes bytes) {
  std::string text;
  for (size_t i = 0; i < bytes.size; ++i) {
    char byte[4];
    std::snprintf(byte, sizeof byte, i == 0 ? "%02x" : ":%02x", bytes.data[i]);
    text += byte;
  }
  return text;
}

void PutAddress(NetlinkMessage* message, uint16_t type, const IpAddress& address) {
  if (address.valid()) message->Put(type, address.bytes.data(), address.size());
}

ifinfomsg LinkHeader(uint32_t index, const LinkSettings& settings) {
  ifinfomsg header{};
  header.ifi_family = AF_UNSPEC;
  header.ifi_index = static_cast<int>(index);
  if (settings.up.has_value()) {
    header.ifi_change = IFF_UP;
    header.ifi_flags = *settings.up ? IFF_UP : 0;
  }
  return header;
}

bool PutSettings(NetlinkMessage* message, const LinkSettings& settings) {
  if (settings.name.has_value()) message->PutString(IFLA_IFNAME, *settings.name);
  if (settings.mtu.has_value()) message->PutU32(IFLA_MTU, *settings.mtu);
  if (settings.tx_queue_length.has_value()) message->PutU32(IFLA_TXQLEN, *settings.tx_queue_length);
  if (settings.master.has_value()) message->PutU32(IFLA_MASTER, *settings.master);
  if (settings.netns.has_value()) message->PutU32(IFLA_NET_NS_FD, static_cast<uint32_t>(*settings.netns));
  if (settings.mac.has_value()) {
    std::array<uint8_t, kMacSize> mac{};
    if (!ParseMac(*settings.mac, &mac)) return false;
    message->Put(IFLA_ADDRESS, mac.data(), mac.size());
  }
  return true;
}

}  // namespace

bool TakeLink(Bytes payload, LinkInfo* link) {
  ifinfomsg header;
  if (!payload.Read(&header)) return false;
  const AttributeTable<IFLA_STATS64> attributes(payload.Skip(NLMSG_ALIGN(sizeof header)));
  link->index = static_cast<uint32_t>(header.ifi_index);
  link->name = attributes.String(IFLA_IFNAME);
  const AttributeTable<IFLA_INFO_DATA> kind(attributes.Get(IFLA_LINKINFO));
  link->kind = kind.String(IFLA_INFO_KIND);
  if (link->kind == "tun") {
    const AttributeTable<IFLA_TUN_NUM_DISABLED_QUEUES> data(kind.Get(IFLA_INFO_DATA));
    const Bytes packet_info = data.Get(IFLA_TUN_PI);
    if (packet_info.size != 0) {
      link->tun = TunInfo{packet_info.data[0] != 0,
                          data.U32(IFLA_TUN_NUM_QUEUES, 1) + data.U32(IFLA_TUN_NUM_DISABLED_QUEUES)};
    }
  }
  link->flags = header.ifi_flags;
  link->mtu = attributes.U32(IFLA_MTU);
  link->tx_queue_length = attributes.U32(IFLA_TXQLEN);
  link->master = attributes.U32(IFLA_MASTER);
  link->mac = FormatMac(attributes.Get(IFLA_ADDRESS));
  // Its length is the kernel's version of it, which may be shorter or longer than this one.
  const Bytes stats = attributes.Get(IFLA_STATS64);
  if (stats.data != nullptr) std::memcpy(&link->stats, stats.data, std::min(stats.size, sizeof link->stats));
  return true;
}

namespace {

/// Answers to requests about the family AF_BRIDGE can be RTM_NEWLINK too, but nothing here asks for them.
void TakeLinks(Bytes payload, std::vector<LinkInfo>* links) {
  LinkInfo link;
  if (TakeLink(payload, &link)) links->push_back(std::move(link));
}

}  // namespace

void TakeAddress(uint32_t index, Bytes payload, std::vector<IpPrefix>* addresses) {
  ifaddrmsg header;
  if (!payload.Read(&header) || header.ifa_index != index) return;
  const AttributeTable<IFA_LOCAL> attributes(payload.Skip(NLMSG_ALIGN(sizeof header)));
  // IFA_ADDRESS is the other end's address where the two differ.
  const Bytes bytes = attributes.Get(attributes.Has(IFA_LOCAL) ? IFA_LOCAL : IFA_ADDRESS);
  IpPrefix address;
  address.length = header.ifa_prefixlen;
  if (IpAddress::Read(header.ifa_family, bytes.data, bytes.size, &address.address))
    addresses->push_back(address);
}

namespace {

/// A route of several next hops (RTA_MULTIPATH) gives one for each that leaves by the link.
void TakeNextHops(uint32_t index, Bytes hops, RouteInfo route, std::vector<RouteInfo>* routes) {
  rtnexthop hop;
  while (hops.Read(&hop) && hop.rtnh_len >= sizeof hop && hop.rtnh_len <= hops.size) {
    const Bytes gateway =
        AttributeTable<RTA_GATEWAY>({hops.data + sizeof hop, hop.rtnh_len - sizeof hop}).Get(RTA_GATEWAY);
    route.gateway = {};
    IpAddress::Read(route.destination.address.family, gateway.data, gateway.size, &route.gateway);
    if (static_cast<uint32_t>(hop.rtnh_ifindex) == index) routes->push_back(route);
    hops = hops.Skip(RTNH_ALIGN(hop.rtnh_len));
  }
}

}  // namespace

void TakeRoute(uint32_t index, Bytes payload, std::vector<RouteInfo>* routes) {
  rtmsg header;
  if (!payload.Read(&header) || header.rtm_type != RTN_UNICAST || (header.rtm_flags & RTM_F_CLONED) != 0)
    return;
  const int family = header.rtm_family;
  if (family != AF_INET && family != AF_INET6) return;
  const AttributeTable<RTA_TABLE> attributes(payload.Skip(NLMSG_ALIGN(sizeof header)));
  if (attributes.U32(RTA_TABLE, header.rtm_table) != RT_TABLE_MAIN) return;

  const auto address = [&](uint16_t type, IpAddress* target) {
    const Bytes bytes = attributes.Get(type);
    IpAddress::Read(family, bytes.data, bytes.size, target);
  };
  RouteInfo route;
  route.destination.address.family = family;  // of a default route, which has no RTA_DST
  route.destination.length = header.rtm_dst_len;
  route.metric = attributes.U32(RTA_PRIORITY);
  address(RTA_DST, &route.destination.address);
  address(RTA_GATEWAY, &route.gateway);
  address(RTA_PREFSRC, &route.source);
  if (attributes.Has(RTA_MULTIPATH)) {
    TakeNextHops(index, attributes.Get(RTA_MULTIPATH), route, routes);
  } else if (attributes.U32(RTA_OIF) == index) {
    routes->push_back(route);
  }
}

namespace {

void TakeNeighbour(uint32_t index, Bytes payload, std::vector<NeighbourInfo>* neighbours) {
  ndmsg header;
  if (!payload.Read(&header) || static_cast<uint32_t>(header.ndm_ifindex) != index) return;
  // NUD_NOARP and NUD_NONE are the kernel's own book-keeping (multicast, loopback).
  if (header.ndm_state == NUD_NONE || (header.ndm_state & NUD_NOARP) != 0) return;
  const AttributeTable<NDA_LLADDR> attributes(payload.Skip(NLMSG_ALIGN(sizeof header)));
  const Bytes address = attributes.Get(NDA_DST);
  NeighbourInfo neighbour;
  neighbour.mac = FormatMac(attributes.Get(NDA_LLADDR));
  neighbour.state = header.ndm_state;
  if (IpAddress::Read(header.ndm_family, address.data, address.size, &neighbour.address)) {
    neighbours->push_back(std::move(neighbour));
  }
}

}  // namespace

SysResult Rtnetlink::Run(NetlinkMessage* message, const NetlinkSocket::Visitor& visit) {
  kernel_text_.clear();
  NetlinkSocket socket;
  SysResult result = NetlinkSocket::Open(&socket);
  if (result < 0) return result;
  result = socket.Request(message, visit);
  kernel_text_ = socket.kernel_text();
  return result;
}

template <typename Record, typename Take>
SysResult Rtnetlink::Dump(NetlinkMessage* message, std::vector<Record>* records, Take take) {
  for (int attempt = 0; attempt < kDumpAttempts; ++attempt) {
    records->clear();
    const SysResult result = Run(message, [&](uint16_t, Bytes payload) { take(payload, records); });
    if (result != -EINTR) return result;
  }
  return -EAGAIN;
}

SysResult Rtnetlink::GetLink(uint32_t index, const std::string& name, LinkInfo* link) {
  NetlinkMessage message(RTM_GETLINK, 0, LinkHeader(index, {}));
  if (index == 0) message.PutString(IFLA_IFNAME, name);
  bool found = false;
  const SysResult result = Run(&message, [&](uint16_t, Bytes payload) { found = TakeLink(payload, link); });
  return result == 0 && !found ? -ENODEV : result;
}

SysResult Rtnetlink::ListLinks(std::vector<LinkInfo>* links) {
  NetlinkMessage message(RTM_GETLINK, NLM_F_DUMP, LinkHeader(0, {}));
  return Dump(&message, links, TakeLinks);
}

SysResult Rtnetlink::CreateLink(const LinkSpec& spec) {
  NetlinkMessage message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, LinkHeader(0, spec.settings));
  if (!PutSettings(&message, spec.settings)) return -EINVAL;
  if (spec.parent != 0) message.PutU32(IFLA_LINK, spec.parent);
  const size_t info = message.Begin(IFLA_LINKINFO);
  message.PutString(IFLA_INFO_KIND, spec.kind);
  const size_t data = message.Begin(IFLA_INFO_DATA);
  if (spec.kind == "veth") {
    const size_t peer = message.Begin(VETH_INFO_PEER);
    message.PutFixed(LinkHeader(0, spec.peer));
    if (!PutSettings(&message, spec.peer)) return -EINVAL;
    message.End(peer);
  } else if (spec.kind == "vlan") {
    message.PutU16(IFLA_VLAN_ID, spec.vlan_id);
  }
  message.End(data);
  message.End(info);
  return Run(&message);
}

SysResult Rtnetlink::ChangeLink(uint32_t index, const LinkSettings& settings) {
  NetlinkMessage message(RTM_SETLINK, 0, LinkHeader(index, settings));
  if (!PutSettings(&message, settings)) return -EINVAL;
  return Run(&message);
}

SysResult Rtnetlink::DeleteLink(uint32_t index) {
  NetlinkMessage message(RTM_DELLINK, 0, LinkHeader(index, {}));
  return Run(&message);
}

SysResult Rtnetlink::ChangeAddress(Change change, uint32_t index, const IpPrefix& address) {
  ifaddrmsg header{};
  header.ifa_family = static_cast<uint8_t>(address.address.family);
  header.ifa_prefixlen = address.length;
  header.ifa_index = index;
  const bool add = change == Change::kAdd;
  const bool ipv4 = address.address.family == AF_INET;
  // 127.0.0.0/8 never leaves the host; the kernel refuses (EINVAL) a network's second address of another
  // scope.
  if (add && ipv4 && address.address.bytes[0] == IN_LOOPBACKNET) header.ifa_scope = RT_SCOPE_HOST;
  NetlinkMessage message(add ? RTM_NEWADDR : RTM_DELADDR, add ? NLM_F_CREATE | NLM_F_EXCL : 0, header);
  PutAddress(&message, IFA_LOCAL, address.address);
  // The other end's; to remove a point-to-point link's address, that must not be asked for.
  if (add) PutAddress(&message, IFA_ADDRESS, address.address);
  // Usable at once: no wait for an answer to duplicate address detection.
  if (add && !ipv4) message.PutU32(IFA_FLAGS, IFA_F_NODAD);
  return Run(&message);
}

SysResult Rtnetlink::ListAddresses(uint32_t index, std::vector<IpPrefix>* addresses) {
  NetlinkMessage message(RTM_GETADDR, NLM_F_DUMP, ifaddrmsg{});
  return Dump(&message, addresses,
              [&](Bytes payload, auto* records) { TakeAddress(index, payload, records); });
}

SysResult Rtnetlink::ChangeRoute(Change change, uint32_t index, const RouteInfo& route) {
  const bool add = change == Change::kAdd;
  rtmsg header{};
  header.rtm_family = static_cast<uint8_t>(route.destination.address.family);
  header.rtm_dst_len = route.destination.length;
  header.rtm_table = RT_TABLE_MAIN;
  if (add) {
    header.rtm_protocol = RTPROT_STATIC;
    header.rtm_type = RTN_UNICAST;
    header.rtm_scope = route.gateway.valid() ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK;
  } else {
    header.rtm_scope = RT_SCOPE_NOWHERE;  // any
  }
  NetlinkMessage message(add ? RTM_NEWROUTE : RTM_DELROUTE, add ? NLM_F_CREATE | NLM_F_EXCL : 0, header);
  if (route.destination.length > 0) PutAddress(&message, RTA_DST, route.destination.address);
  PutAddress(&message, RTA_GATEWAY, route.gateway);
  PutAddress(&message, RTA_PREFSRC, route.source);
  if (route.metric != 0) message.PutU32(RTA_PRIORITY, route.metric);
  message.PutU32(RTA_OIF, index);
  return Run(&message);
}

SysResult Rtnetlink::ListRoutes(uint32_t index, std::vector<RouteInfo>* routes) {
  NetlinkMessage message(RTM_GETROUTE, NLM_F_DUMP, rtmsg{});
  return Dump(&message, routes, [&](Bytes payload, auto* records) { TakeRoute(index, payload, records); });
}

SysResult Rtnetlink::ChangeNeighbour(Change change, uint32_t index, const IpAddress& address,
                                     const std::string& mac) {
  ndmsg header{};
  header.ndm_family = static_cast<uint8_t>(address.family);
  header.ndm_ifindex = static_cast<int>(index);
  header.ndm_state = NUD_PERMANENT;
  const bool add = change == Change::kAdd;
  NetlinkMessage message(add ? RTM_NEWNEIGH : RTM_DELNEIGH, add ? NLM_F_CREATE | NLM_F_REPLACE : 0, header);
  PutAddress(&message, NDA_DST, address);
  if (add) {
    std::array<uint8_t, kMacSize> bytes{};
    if (!ParseMac(mac, &bytes)) return -EINVAL;
    message.Put(NDA_LLADDR, bytes.data(), bytes.size());
  }
  return Run(&message);
}

SysResult Rtnetlink::ListNeighbours(uint32_t index, std::vector<NeighbourInfo>* neighbours) {
  NetlinkMessage message(RTM_GETNEIGH, NLM_F_DUMP, ndmsg{});
  return Dump(&message, neighbours,
              [&](Bytes payload, auto* records) { TakeNeighbour(index, payload, records); });
}

}  // namespace tunsock
