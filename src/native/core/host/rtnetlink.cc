#include "core/host/rtnetlink.h"

#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <linux/nexthop.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <net/if.h>

#include <algorithm>
#include <utility>

namespace tunsock {
namespace {

/// How often a list is read that changes while it is read.
constexpr int kDumpAttempts = 8;
/// A group of nexthop objects has no groups in it; more than this many ways a route can't go.
constexpr size_t kMaxHops = 1024;
constexpr uint8_t kRejectingTypes[] = {RTN_BLACKHOLE, RTN_UNREACHABLE, RTN_PROHIBIT, RTN_THROW};

/// What tells a record from others of its list, in the answers of two dumps.
void Append(std::string* key, const IpPrefix& prefix) {
  key->append(reinterpret_cast<const char*>(prefix.address.bytes.data()), prefix.address.bytes.size());
  key->push_back(static_cast<char>(prefix.length));
  key->push_back(static_cast<char>(prefix.address.family));
}
void Append(std::string* key, const IpAddress& address) {
  Append(key, IpPrefix{address, 0});
}
void Append(std::string* key, uint32_t value) {
  key->append(reinterpret_cast<const char*>(&value), sizeof value);
}

std::string Key(const LinkInfo& link) {
  return std::to_string(link.index);
}
std::string Key(const AddressInfo& address) {
  std::string key;
  Append(&key, address.address);
  Append(&key, address.peer);
  return key;
}
std::string Key(const RouteInfo& route) {
  std::string key;
  Append(&key, route.destination);
  Append(&key, route.from);
  Append(&key, route.source);
  Append(&key, route.table);
  Append(&key, route.metric);
  Append(&key, route.next_hop_id);
  Append(&key, static_cast<uint32_t>(route.type << 16 | route.scope << 8 | route.tos));
  for (const NextHop& hop : route.hops) {
    Append(&key, hop.index);
    Append(&key, hop.gateway);
  }
  return key;
}
std::string Key(const NextHopObject& object) {
  return std::to_string(object.id);
}
std::string Key(const NeighbourInfo& neighbour) {
  return neighbour.address.ToString();
}
std::string Key(const QdiscInfo& qdisc) {
  return std::to_string(qdisc.parent) + ' ' + std::to_string(qdisc.handle);
}
/// As a request for it has it.
std::string Key(const RuleInfo& rule) {
  const NetlinkMessage message = RuleRequest(RTM_NEWRULE, 0, rule);
  const Bytes bytes = message.payload();
  return {reinterpret_cast<const char*>(bytes.data), bytes.size};
}

}  // namespace

SysResult Rtnetlink::Run(NetlinkMessage* message, const NetlinkSocket::Visitor& visit) {
  kernel_text_.clear();
  NetlinkSocket socket;
  SysResult result = NetlinkSocket::Open(&socket);
  if (result < 0) return result;
  result = socket.Request(message, visit);
  kernel_text_ = socket.kernel_text();
  datagrams_ = socket.datagrams();
  return result;
}

namespace {

/// The records of several readings of one list: each once, as it was read last, in the order in which they
/// were met. Sorted keys rather than a map, whose code lies in libstdc++ (src/native/runtime.cc).
template <typename Record>
class Readings {
 public:
  /// Takes in what was read, and leaves it empty; returns how many were new.
  size_t Add(std::vector<Record>* reading) {
    std::vector<Place> read;
    for (size_t i = 0; i < reading->size(); ++i) read.push_back({Key((*reading)[i]), i});
    std::sort(read.begin(), read.end(), [](const Place& a, const Place& b) {
      return a.key < b.key || (a.key == b.key && a.at < b.at);
    });
    std::vector<Place> fresh;
    for (size_t i = 0; i < read.size(); ++i) {
      if (i + 1 < read.size() && read[i + 1].key == read[i].key) continue;  // the last one counts
      const auto known = std::lower_bound(places_.begin(), places_.end(), read[i], KeyLess);
      if (known != places_.end() && known->key == read[i].key) {
        records_[known->at] = std::move((*reading)[read[i].at]);
      } else {
        fresh.push_back(std::move(read[i]));
      }
    }
    std::sort(fresh.begin(), fresh.end(), [](const Place& a, const Place& b) { return a.at < b.at; });
    for (Place& place : fresh) {
      records_.push_back(std::move((*reading)[place.at]));
      places_.push_back({std::move(place.key), records_.size() - 1});
    }
    std::sort(places_.begin(), places_.end(), KeyLess);
    reading->clear();
    return fresh.size();
  }

  std::vector<Record>& records() { return records_; }

 private:
  struct Place {
    std::string key;
    size_t at;
  };
  static bool KeyLess(const Place& a, const Place& b) { return a.key < b.key; }

  std::vector<Record> records_;
  std::vector<Place> places_;
};

}  // namespace

template <typename Record, typename Take>
SysResult Rtnetlink::Dump(NetlinkMessage message, std::vector<Record>* records, Take take, Order order) {
  std::vector<Record> reading;
  Readings<Record> readings;
  for (int attempt = 0; attempt < kDumpAttempts; ++attempt) {
    reading.clear();
    const SysResult result = Run(&message, [&](uint16_t, Bytes payload) {
      Record record;
      if (take(payload, &record)) reading.push_back(std::move(record));
    });
    if (result < 0 && result != -EINTR) return result;
    // Between two datagrams of a list that the kernel finds its place in by counting, a change can hide a
    // record that did not change, and the kernel may tell of that change too late to mark the list. So a
    // list of several is read until a reading has nothing new.
    const bool whole = result == 0 && (datagrams_ <= 1 || order == Order::kByKey);
    if (attempt == 0 && whole) {
      std::move(reading.begin(), reading.end(), std::back_inserter(*records));
      return 0;
    }
    const size_t news = readings.Add(&reading);
    if (attempt > 0 && result == 0 && news == 0) break;
  }
  std::move(readings.records().begin(), readings.records().end(), std::back_inserter(*records));
  return 0;
}

SysResult Rtnetlink::GetLink(uint32_t index, const std::string& name, LinkInfo* link) {
  NetlinkMessage message(RTM_GETLINK, 0, LinkHeader(index, {}));
  // A name that fits is looked for among both kinds of name.
  if (index == 0) message.PutString(name.size() < IFNAMSIZ ? IFLA_IFNAME : IFLA_ALT_IFNAME, name);
  bool found = false;
  const SysResult result = Run(&message, [&](uint16_t, Bytes payload) { found = ParseLink(payload, link); });
  return result == 0 && !found ? -ENODEV : result;
}

SysResult Rtnetlink::ListLinks(std::vector<LinkInfo>* links) {
  return Dump(NetlinkMessage(RTM_GETLINK, NLM_F_DUMP, LinkHeader(0, {})), links, ParseLink);
}

Failure Rtnetlink::CreateLink(const LinkSpec& spec, const std::vector<AddressSpec>& addresses,
                              LinkInfo* made) {
  kernel_text_.clear();
  LinkSpec first = spec;
  LinkSettings later;
  // A link has IPv6 only once it is there, and an address as soon as it is up.
  if (spec.settings.address_generation.has_value()) {
    std::swap(first.settings.address_generation, later.address_generation);
    std::swap(first.settings.up, later.up);
  }
  NetlinkMessage create(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, LinkHeader(0, first.settings));
  if (!PutLinkSpec(&create, first) || !spec.settings.name.has_value()) return {-EINVAL, "RTM_NEWLINK"};
  NetlinkSocket socket;
  SysResult result = NetlinkSocket::Open(&socket);
  if (result < 0) return {result, "socket"};
  const auto ask = [&](NetlinkMessage* message, const NetlinkSocket::Visitor& visit) {
    const SysResult answer = socket.Request(message, visit);
    if (answer < 0) kernel_text_ = socket.kernel_text();
    return answer;
  };
  const NetlinkSocket::Visitor ignore = [](uint16_t, Bytes) {};
  result = ask(&create, ignore);
  if (result < 0) return {result, "RTM_NEWLINK"};

  const char* step = "RTM_GETLINK";
  NetlinkMessage get(RTM_GETLINK, 0, LinkHeader(0, {}));
  get.PutString(IFLA_IFNAME, *spec.settings.name);
  bool found = false;
  result = ask(&get, [&](uint16_t, Bytes payload) { found = ParseLink(payload, made); });
  if (result == 0 && !found) result = -ENODEV;
  if (result == 0 && later.address_generation.has_value()) {
    step = "RTM_SETLINK";
    NetlinkMessage change(RTM_SETLINK, 0, LinkHeader(made->index, later));
    PutLinkSettings(&change, later);
    result = ask(&change, ignore);
  }
  for (const AddressSpec& address : addresses) {
    if (result < 0) break;
    step = "RTM_NEWADDR";
    NetlinkMessage add = NewAddressRequest(made->index, address);
    result = ask(&add, ignore);
  }
  if (result == 0) return {};
  NetlinkMessage remove(RTM_DELLINK, 0, LinkHeader(0, {}));
  remove.PutString(IFLA_IFNAME, *spec.settings.name);
  // What led here is the failure to tell, whatever becomes of this.
  (void)socket.Request(&remove, ignore);
  return {result, step};
}

SysResult Rtnetlink::ChangeLink(uint32_t index, const LinkSettings& settings) {
  NetlinkMessage message(RTM_SETLINK, 0, LinkHeader(index, settings));
  return PutLinkSettings(&message, settings) ? Run(&message) : -EINVAL;
}

SysResult Rtnetlink::ChangeAlternativeName(Change change, uint32_t index, const std::string& name) {
  const bool add = change == Change::kAdd;
  NetlinkMessage message(add ? RTM_NEWLINKPROP : RTM_DELLINKPROP,
                         add ? NLM_F_CREATE | NLM_F_EXCL | NLM_F_APPEND : 0, LinkHeader(index, {}));
  const size_t properties = message.Begin(IFLA_PROP_LIST | NLA_F_NESTED);
  message.PutString(IFLA_ALT_IFNAME, name);
  message.End(properties);
  return Run(&message);
}

SysResult Rtnetlink::DeleteLink(uint32_t index) {
  NetlinkMessage message(RTM_DELLINK, 0, LinkHeader(index, {}));
  return Run(&message);
}

SysResult Rtnetlink::AddAddress(uint32_t index, const AddressSpec& spec) {
  NetlinkMessage message = NewAddressRequest(index, spec);
  return Run(&message);
}

SysResult Rtnetlink::RemoveAddress(uint32_t index, const AddressSpec& spec) {
  std::vector<AddressInfo> addresses;
  const SysResult result = ListAddresses(index, &addresses);
  if (result < 0) return result;
  for (const AddressInfo& address : addresses) {
    if (!Matches(spec, address)) continue;
    NetlinkMessage message = RemoveAddressRequest(address);
    return Run(&message);
  }
  return -EADDRNOTAVAIL;
}

SysResult Rtnetlink::HasAddress(uint32_t index, const AddressSpec& spec) {
  std::vector<AddressInfo> addresses;
  const SysResult result = ListAddresses(index, &addresses);
  if (result < 0) return result;
  return std::any_of(addresses.begin(), addresses.end(), [&](const AddressInfo& address) {
    return Matches(spec, address) && spec.peer == address.peer;
  });
}

SysResult Rtnetlink::ListAddresses(uint32_t index, std::vector<AddressInfo>* addresses) {
  ifaddrmsg header{};
  header.ifa_index = index;
  return Dump(NetlinkMessage(RTM_GETADDR, NLM_F_DUMP, header), addresses,
              [index](Bytes payload, AddressInfo* address) {
                return ParseAddress(payload, address) && address->index == index;
              });
}

SysResult Rtnetlink::AddRoute(uint32_t index, const RouteSpec& spec, bool replace) {
  const int mode = NLM_F_CREATE | (replace ? NLM_F_REPLACE : NLM_F_EXCL);
  NetlinkMessage message = RouteRequest(RTM_NEWROUTE, static_cast<uint16_t>(mode), Complete(index, spec));
  return Run(&message);
}

SysResult Rtnetlink::RemoveRoute(uint32_t index, const RouteSpec& spec) {
  std::vector<RouteInfo> routes;
  const SysResult result = ListCandidates(index, spec, &routes);
  if (result < 0) return result;
  for (const RouteInfo& route : routes) {
    if (!Matches(index, spec, route)) continue;
    NetlinkMessage message = RouteRequest(RTM_DELROUTE, 0, route);
    return Run(&message);
  }
  return -ESRCH;
}

SysResult Rtnetlink::HasRoute(uint32_t index, const RouteSpec& spec) {
  std::vector<RouteInfo> routes;
  const SysResult result = ListCandidates(index, spec, &routes);
  if (result < 0) return result;
  const RouteInfo wanted = Complete(index, spec);
  return std::any_of(routes.begin(), routes.end(), [&](const RouteInfo& route) {
    return Matches(index, spec, route) && route.metric == wanted.metric && route.tos == wanted.tos &&
           (!spec.hops.empty() || route.hops == wanted.hops);
  });
}

SysResult Rtnetlink::ListRoutes(uint32_t index, std::optional<uint32_t> table,
                                std::vector<RouteInfo>* routes) {
  std::vector<RouteInfo> all;
  for (const int family : {AF_INET, AF_INET6}) {
    SysResult result = DumpRoutes(family, index, table, std::nullopt, &all);
    if (result < 0) return result;
    for (const uint8_t type : kRejectingTypes) {
      result = DumpRoutes(family, index, table, type, &all);
      if (result < 0) return result;
    }
  }
  std::copy_if(std::make_move_iterator(all.begin()), std::make_move_iterator(all.end()),
               std::back_inserter(*routes),
               [&](const RouteInfo& route) { return table.has_value() || route.table != RT_TABLE_LOCAL; });
  return 0;
}

SysResult Rtnetlink::ListCandidates(uint32_t index, const RouteSpec& spec, std::vector<RouteInfo>* routes) {
  const std::optional<uint8_t> type =
      spec.type.has_value() && IsRejecting(*spec.type) ? spec.type : std::nullopt;
  return DumpRoutes(spec.destination.address.family, index, spec.table.value_or(RT_TABLE_MAIN), type, routes);
}

SysResult Rtnetlink::DumpRoutes(int family, uint32_t index, std::optional<uint32_t> table,
                                std::optional<uint8_t> type, std::vector<RouteInfo>* routes) {
  rtmsg header{};
  header.rtm_family = static_cast<uint8_t>(family);
  header.rtm_type = type.value_or(RTN_UNSPEC);
  NetlinkMessage message(RTM_GETROUTE, NLM_F_DUMP, header);
  if (!type.has_value()) message.PutU32(RTA_OIF, index);
  if (table.has_value()) message.PutU32(RTA_TABLE, *table);
  std::vector<RouteInfo> found;
  // What an older kernel does not filter is filtered here.
  const SysResult result = Dump(
      std::move(message), &found,
      [&](Bytes payload, RouteInfo* route) {
        if (!ParseRoute(payload, route) || route->destination.address.family != family) return false;
        if (table.has_value() && route->table != *table) return false;
        if (type.has_value()) return route->type == *type;
        return !IsRejecting(route->type) &&
               (route->next_hop_id != 0 ||
                std::any_of(route->hops.begin(), route->hops.end(),
                            [&](const NextHop& hop) { return hop.index == index; }));
      },
      family == AF_INET ? Order::kByKey : Order::kByPosition);
  // A table is made with its first route.
  if (result == -ENOENT) return 0;
  if (result < 0) return result;
  const SysResult resolved = type.has_value() ? 0 : ResolveNextHops(index, &found);
  std::move(found.begin(), found.end(), std::back_inserter(*routes));
  return resolved;
}

SysResult Rtnetlink::ResolveNextHops(uint32_t index, std::vector<RouteInfo>* routes) {
  const auto nameless = [](const RouteInfo& route) { return route.next_hop_id != 0 && route.hops.empty(); };
  if (std::none_of(routes->begin(), routes->end(), nameless)) return 0;
  std::vector<NextHopObject> objects;
  const SysResult result =
      Dump(NetlinkMessage(RTM_GETNEXTHOP, NLM_F_DUMP, nhmsg{}), &objects, ParseNextHopObject);
  if (result < 0) return result;
  std::sort(objects.begin(), objects.end(),
            [](const NextHopObject& a, const NextHopObject& b) { return a.id < b.id; });
  const auto find = [&](uint32_t id) -> const NextHopObject* {
    const auto found =
        std::lower_bound(objects.begin(), objects.end(), id,
                         [](const NextHopObject& object, uint32_t wanted) { return object.id < wanted; });
    return found != objects.end() && found->id == id ? &*found : nullptr;
  };
  for (RouteInfo& route : *routes) {
    if (!nameless(route)) continue;
    const NextHopObject* found = find(route.next_hop_id);
    if (found == nullptr) continue;
    if (found->members.empty()) route.hops.push_back(found->hop);
    for (const NextHopObject::Member& member : found->members) {
      const NextHopObject* part = find(member.id);
      if (part == nullptr || route.hops.size() == kMaxHops) continue;
      route.hops.push_back(part->hop);
      route.hops.back().weight = member.weight;
    }
  }
  routes->erase(std::remove_if(routes->begin(), routes->end(),
                               [&](const RouteInfo& route) {
                                 return std::none_of(route.hops.begin(), route.hops.end(),
                                                     [&](const NextHop& hop) { return hop.index == index; });
                               }),
                routes->end());
  return 0;
}

SysResult Rtnetlink::ChangeNeighbour(Change change, uint32_t index, const IpAddress& address,
                                     const std::string& mac) {
  ndmsg header{};
  header.ndm_family = static_cast<uint8_t>(address.family);
  header.ndm_ifindex = static_cast<int>(index);
  header.ndm_state = NUD_PERMANENT;
  const bool add = change == Change::kAdd;
  NetlinkMessage message(add ? RTM_NEWNEIGH : RTM_DELNEIGH, add ? NLM_F_CREATE | NLM_F_REPLACE : 0, header);
  message.Put(NDA_DST, address.bytes.data(), address.size());
  if (add) {
    MacAddress bytes{};
    if (!ParseMac(mac, &bytes)) return -EINVAL;
    message.Put(NDA_LLADDR, bytes.data(), bytes.size());
  }
  return Run(&message);
}

SysResult Rtnetlink::ListNeighbours(uint32_t index, std::vector<NeighbourInfo>* neighbours) {
  NetlinkMessage message(RTM_GETNEIGH, NLM_F_DUMP, ndmsg{});
  message.PutU32(NDA_IFINDEX, index);
  return Dump(std::move(message), neighbours, [index](Bytes payload, NeighbourInfo* neighbour) {
    // NUD_NOARP and NUD_NONE are the kernel's own book-keeping (multicast, loopback).
    return ParseNeighbour(payload, neighbour) && neighbour->index == index && neighbour->state != NUD_NONE &&
           (neighbour->state & NUD_NOARP) == 0;
  });
}

SysResult Rtnetlink::AddRule(const RuleInfo& rule) {
  NetlinkMessage message = RuleRequest(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, rule);
  return Run(&message);
}

SysResult Rtnetlink::RemoveRule(const RuleInfo& rule) {
  std::vector<RuleInfo> rules;
  const SysResult result = ListRules(&rules);
  if (result < 0) return result;
  for (const RuleInfo& present : rules) {
    if (!Matches(rule, present)) continue;
    NetlinkMessage message = RuleRequest(RTM_DELRULE, 0, present);
    return Run(&message);
  }
  return -ENOENT;
}

SysResult Rtnetlink::ListRules(std::vector<RuleInfo>* rules) {
  for (const int family : {AF_INET, AF_INET6}) {
    rtmsg header{};  // as long as fib_rule_hdr, and what a strict kernel wants
    header.rtm_family = static_cast<uint8_t>(family);
    const SysResult result =
        Dump(NetlinkMessage(RTM_GETRULE, NLM_F_DUMP, header), rules, [family](Bytes payload, RuleInfo* rule) {
          return ParseRule(payload, rule) && rule->family == family;
        });
    // A kernel without policy routing, or without IPv6.
    if (result < 0 && result != -EAFNOSUPPORT && result != -EOPNOTSUPP) return result;
  }
  return 0;
}

SysResult Rtnetlink::SetImpairment(uint32_t index, const std::optional<Impairment>& impairment) {
  std::vector<QdiscInfo> qdiscs;
  const SysResult result = Dump(ListQdiscsRequest(index), &qdiscs, [index](Bytes payload, QdiscInfo* qdisc) {
    return ParseQdisc(payload, qdisc) && qdisc->index == index && qdisc->parent == TC_H_ROOT;
  });
  if (result < 0) return result;
  const auto netem = std::find_if(qdiscs.begin(), qdiscs.end(),
                                  [](const QdiscInfo& qdisc) { return qdisc.kind == "netem"; });
  if (!impairment.has_value()) {
    if (netem == qdiscs.end()) return 0;
    NetlinkMessage message = RemoveQdiscRequest(index, netem->handle);
    return Run(&message);
  }
  NetlinkMessage message = netem == qdiscs.end()
                               ? NetemRequest(NLM_F_CREATE | NLM_F_EXCL, index, 0, *impairment)
                               : NetemRequest(0, index, netem->handle, *impairment);
  return Run(&message);
}

}  // namespace tunsock
