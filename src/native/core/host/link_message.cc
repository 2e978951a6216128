#include "core/host/link_message.h"

#include <arpa/inet.h>
#include <linux/if.h>
#include <linux/if_tunnel.h>
#include <linux/veth.h>

#include <algorithm>

#include "core/host/mac_address.h"

namespace tunsock {
namespace {

/// IFLA_GSO_IPV4_MAX_SIZE of linux/if_link.h since Linux 6.3; older kernels take no notice of it.
constexpr uint16_t kGsoIpv4MaxSize = 63;

void TakeTun(Bytes bytes, LinkInfo* link) {
  const AttributeTable<IFLA_TUN_NUM_DISABLED_QUEUES> data(bytes);
  const Bytes packet_info = data.Get(IFLA_TUN_PI);
  if (packet_info.size == 0) return;
  TunInfo tun;
  tun.packet_info = packet_info.data[0] != 0;
  if (data.Has(IFLA_TUN_OWNER)) tun.owner = data.U32(IFLA_TUN_OWNER);
  if (data.Has(IFLA_TUN_GROUP)) tun.group = data.U32(IFLA_TUN_GROUP);
  tun.persist = data.U8(IFLA_TUN_PERSIST) != 0;
  tun.queues = data.U32(IFLA_TUN_NUM_QUEUES, 1);
  tun.disabled_queues = data.U32(IFLA_TUN_NUM_DISABLED_QUEUES);
  link->tun = tun;
}

void TakeAlternativeNames(Bytes properties, LinkInfo* link) {
  uint16_t type = 0;
  Bytes value;
  while (NextAttribute(&properties, &type, &value)) {
    if (type != IFLA_ALT_IFNAME) continue;
    const char* const text = reinterpret_cast<const char*>(value.data);
    link->alternative_names.emplace_back(text, ::strnlen(text, value.size));
  }
}

void PutVxlan(NetlinkMessage* message, const LinkSpec& spec) {
  const auto address = [&](const IpAddress& ip, uint16_t type4, uint16_t type6) {
    if (ip.valid()) message->Put(ip.family == AF_INET6 ? type6 : type4, ip.bytes.data(), ip.size());
  };
  message->PutU32(IFLA_VXLAN_ID, spec.id.value_or(0));
  if (spec.parent != 0) message->PutU32(IFLA_VXLAN_LINK, spec.parent);
  address(spec.local, IFLA_VXLAN_LOCAL, IFLA_VXLAN_LOCAL6);
  address(spec.remote, IFLA_VXLAN_GROUP, IFLA_VXLAN_GROUP6);
  if (spec.port.has_value()) message->PutU16(IFLA_VXLAN_PORT, htons(*spec.port));
  if (spec.ttl.has_value()) message->PutU8(IFLA_VXLAN_TTL, *spec.ttl);
}

void PutGre(NetlinkMessage* message, const LinkSpec& spec) {
  if (spec.parent != 0) message->PutU32(IFLA_GRE_LINK, spec.parent);
  if (spec.local.valid()) message->Put(IFLA_GRE_LOCAL, spec.local.bytes.data(), spec.local.size());
  if (spec.remote.valid()) message->Put(IFLA_GRE_REMOTE, spec.remote.bytes.data(), spec.remote.size());
  if (spec.ttl.has_value()) message->PutU8(IFLA_GRE_TTL, *spec.ttl);
  if (spec.id.has_value()) {
    message->PutU16(IFLA_GRE_IFLAGS, GRE_KEY);
    message->PutU16(IFLA_GRE_OFLAGS, GRE_KEY);
    message->PutU32(IFLA_GRE_IKEY, htonl(*spec.id));
    message->PutU32(IFLA_GRE_OKEY, htonl(*spec.id));
  }
}

void PutSit(NetlinkMessage* message, const LinkSpec& spec) {
  if (spec.parent != 0) message->PutU32(IFLA_IPTUN_LINK, spec.parent);
  if (spec.local.valid()) message->Put(IFLA_IPTUN_LOCAL, spec.local.bytes.data(), spec.local.size());
  if (spec.remote.valid()) message->Put(IFLA_IPTUN_REMOTE, spec.remote.bytes.data(), spec.remote.size());
  if (spec.ttl.has_value()) message->PutU8(IFLA_IPTUN_TTL, *spec.ttl);
}

bool PutPeer(NetlinkMessage* message, const LinkSettings& peer) {
  const size_t nest = message->Begin(VETH_INFO_PEER);
  message->PutFixed(LinkHeader(0, peer));
  const bool put = PutLinkSettings(message, peer);
  message->End(nest);
  return put;
}

/// What stands in IFLA_INFO_DATA, which each kind has its own attributes for.
bool PutKindData(NetlinkMessage* message, const LinkSpec& spec) {
  if (spec.kind == "veth") return PutPeer(message, spec.peer);
  if (spec.kind == "vlan") {
    message->PutU16(IFLA_VLAN_ID, static_cast<uint16_t>(spec.id.value_or(0)));
  } else if (spec.kind == "macvlan" || spec.kind == "macvtap") {
    if (spec.mode.has_value()) message->PutU32(IFLA_MACVLAN_MODE, *spec.mode);
  } else if (spec.kind == "ipvlan" || spec.kind == "ipvtap") {
    if (spec.mode.has_value()) message->PutU16(IFLA_IPVLAN_MODE, static_cast<uint16_t>(*spec.mode));
  } else if (spec.kind == "vxlan") {
    PutVxlan(message, spec);
  } else if (spec.kind == "vrf") {
    message->PutU32(IFLA_VRF_TABLE, spec.table);
  } else if (spec.kind == "gre") {
    PutGre(message, spec);
  } else if (spec.kind == "sit") {
    PutSit(message, spec);
  }
  return true;
}

/// Tunnels name the link that carries them among their own attributes.
bool IsTunnel(const std::string& kind) {
  return kind == "vxlan" || kind == "gre" || kind == "sit";
}

}  // namespace

bool ParseLink(Bytes payload, LinkInfo* link) {
  ifinfomsg header;
  if (!payload.Read(&header)) return false;
  *link = {};
  const AttributeTable<IFLA_PROP_LIST> attributes(payload.Skip(NLMSG_ALIGN(sizeof header)));
  link->index = static_cast<uint32_t>(header.ifi_index);
  link->name = attributes.String(IFLA_IFNAME);
  TakeAlternativeNames(attributes.Get(IFLA_PROP_LIST), link);
  const AttributeTable<IFLA_INFO_DATA> kind(attributes.Get(IFLA_LINKINFO));
  link->kind = kind.String(IFLA_INFO_KIND);
  if (link->kind == "tun") TakeTun(kind.Get(IFLA_INFO_DATA), link);
  link->flags = header.ifi_flags;
  link->hardware_type = header.ifi_type;
  link->mtu = attributes.U32(IFLA_MTU);
  link->tx_queue_length = attributes.U32(IFLA_TXQLEN);
  link->gso_max_size = attributes.U32(IFLA_GSO_MAX_SIZE);
  link->master = attributes.U32(IFLA_MASTER);
  link->mac = FormatMac(attributes.Get(IFLA_ADDRESS));
  const AttributeTable<AF_INET6> families(attributes.Get(IFLA_AF_SPEC));
  const AttributeTable<IFLA_INET6_ADDR_GEN_MODE> ipv6(families.Get(AF_INET6));
  if (ipv6.Has(IFLA_INET6_ADDR_GEN_MODE)) link->address_generation = ipv6.U8(IFLA_INET6_ADDR_GEN_MODE);
  // Its length is the kernel's version of it, which may be shorter or longer than this one.
  const Bytes stats = attributes.Get(IFLA_STATS64);
  if (stats.data != nullptr) std::memcpy(&link->stats, stats.data, std::min(stats.size, sizeof link->stats));
  return true;
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

bool PutLinkSettings(NetlinkMessage* message, const LinkSettings& settings) {
  if (settings.name.has_value()) message->PutString(IFLA_IFNAME, *settings.name);
  if (settings.mtu.has_value()) message->PutU32(IFLA_MTU, *settings.mtu);
  if (settings.tx_queue_length.has_value()) message->PutU32(IFLA_TXQLEN, *settings.tx_queue_length);
  if (settings.gso_max_size.has_value()) {
    message->PutU32(IFLA_GSO_MAX_SIZE, *settings.gso_max_size);
    message->PutU32(kGsoIpv4MaxSize, *settings.gso_max_size);
  }
  if (settings.master.has_value()) message->PutU32(IFLA_MASTER, *settings.master);
  if (settings.netns.has_value()) message->PutU32(IFLA_NET_NS_FD, static_cast<uint32_t>(*settings.netns));
  if (settings.mac.has_value()) {
    MacAddress mac{};
    if (!ParseMac(*settings.mac, &mac)) return false;
    message->Put(IFLA_ADDRESS, mac.data(), mac.size());
  }
  if (settings.address_generation.has_value()) {
    const size_t families = message->Begin(IFLA_AF_SPEC);
    const size_t ipv6 = message->Begin(AF_INET6);
    message->PutU8(IFLA_INET6_ADDR_GEN_MODE, *settings.address_generation);
    message->End(ipv6);
    message->End(families);
  }
  return true;
}

bool PutLinkSpec(NetlinkMessage* message, const LinkSpec& spec) {
  if (!PutLinkSettings(message, spec.settings)) return false;
  if (spec.parent != 0 && !IsTunnel(spec.kind)) message->PutU32(IFLA_LINK, spec.parent);
  const size_t info = message->Begin(IFLA_LINKINFO);
  message->PutString(IFLA_INFO_KIND, spec.kind);
  const size_t data = message->Begin(IFLA_INFO_DATA);
  const bool put = PutKindData(message, spec);
  message->End(data);
  message->End(info);
  return put;
}

}  // namespace tunsock
