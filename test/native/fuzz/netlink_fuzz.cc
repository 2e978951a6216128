#include <linux/rtnetlink.h>

#include <memory>

#include "check.h"
#include "core/host/address_message.h"
#include "core/host/link_message.h"
#include "core/host/netlink_answer.h"
#include "core/host/qdisc_message.h"
#include "core/host/route_message.h"
#include "core/host/rule_message.h"
#include "fuzz_target.h"

// Input: which parser (1 byte), then what it reads.

namespace tunsock::test {

namespace {

enum Parser : uint8_t { kLink, kAddress, kNeighbour, kRoute, kNextHop, kRule, kQdisc, kAnswer, kParsers };

Bytes Seed(Parser parser, const tunsock::Bytes& payload) {
  Bytes input = {parser};
  input.insert(input.end(), payload.data, payload.data + payload.size);
  return input;
}

IpPrefix Prefix(const std::string& text) {
  IpPrefix prefix;
  CHECK(IpPrefix::Parse(text, &prefix), "a prefix: " + text);
  return prefix;
}

void FuzzRoute(tunsock::Bytes payload) {
  RouteInfo route;
  if (!ParseRoute(payload, &route)) return;
  const NetlinkMessage message = RouteRequest(RTM_NEWROUTE, 0, route);
  RouteInfo again;
  CHECK(ParseRoute(message.payload(), &again), "a request for a route is one");
  CHECK(route.destination.Network() == again.destination.Network() && route.table == again.table &&
            route.metric == again.metric && route.type == again.type && route.source == again.source,
        "the same route");
  if (route.next_hop_id != 0) return;
  CHECK(route.hops.size() == again.hops.size(), "as many ways");
  for (size_t i = 0; i < route.hops.size(); i++) {
    // Of a single way, the weight means nothing.
    if (route.hops.size() == 1) route.hops[i].weight = 1;
    CHECK(route.hops[i] == again.hops[i], "the same way");
  }
}

void FuzzRule(tunsock::Bytes payload) {
  RuleInfo rule;
  if (!ParseRule(payload, &rule)) return;
  const NetlinkMessage message = RuleRequest(RTM_NEWRULE, 0, rule);
  RuleInfo again;
  CHECK(ParseRule(message.payload(), &again) && Matches(rule, again) && Matches(again, rule), "the same rule");
}

void FuzzAddress(tunsock::Bytes payload) {
  AddressInfo address;
  if (!ParseAddress(payload, &address)) return;
  CHECK(address.address.length <= address.address.address.size() * 8, "no more bits than an address has");
  IpPrefix again;
  CHECK(IpPrefix::Parse(address.address.ToString(), &again) && again == address.address, "the same as text");
}

void FuzzLink(tunsock::Bytes payload) {
  LinkInfo link;
  if (!ParseLink(payload, &link)) return;
  CHECK(link.name.size() <= payload.size && link.mac.size() <= payload.size * 3, "names within the message");
}

void FuzzAnswer(tunsock::Bytes datagram) {
  NetlinkAnswer answer(1);
  size_t bytes = 0;
  const SysResult result = answer.Take(datagram, [&](uint16_t, tunsock::Bytes payload) { bytes += payload.size; });
  CHECK(result <= 1 && result >= -4095, "an errno, or whether there is more");
  CHECK(bytes <= datagram.size && answer.kernel_text().size() <= datagram.size, "payloads within the datagram");
}

}  // namespace

std::vector<Bytes> SeedInputs() {
  std::vector<Bytes> inputs;
  LinkSpec link;
  link.kind = "tun";
  link.settings.name = "tun0";
  link.settings.mac = "02:00:00:00:00:01";
  link.settings.mtu = 1500;
  link.settings.address_generation = 1;
  NetlinkMessage link_message(RTM_NEWLINK, 0, LinkHeader(3, link.settings));
  CHECK(PutLinkSpec(&link_message, link), "a link");
  const size_t names = link_message.Begin(IFLA_PROP_LIST);
  link_message.PutString(IFLA_ALT_IFNAME, "another-name-of-the-link");
  link_message.End(names);
  inputs.push_back(Seed(kLink, link_message.payload()));

  for (const char* const text : {"10.0.0.1/24", "fd00::1/64"}) {
    AddressSpec address;
    address.address = Prefix(text);
    address.valid_lifetime = 100;
    address.no_prefix_route = true;
    inputs.push_back(Seed(kAddress, NewAddressRequest(3, address).payload()));

    RouteSpec route;
    route.destination = Prefix(text).Network();
    route.gateway = Prefix("fd00::2/128").address;
    route.source = Prefix(text).address;
    route.mtu = 1400;
    route.table = 51820;
    inputs.push_back(Seed(kRoute, RouteRequest(RTM_NEWROUTE, 0, Complete(3, route)).payload()));
    route.hops = {{3, route.gateway, 2, true}, {4, {}, 256, false}};
    inputs.push_back(Seed(kRoute, RouteRequest(RTM_NEWROUTE, 0, Complete(3, route)).payload()));

    RuleInfo rule;
    rule.family = Prefix(text).address.family;
    rule.from = rule.to = Prefix(text).Network();
    rule.input = "eth0";
    rule.mark = 1;
    rule.mask = 0xff;
    rule.table = 51820;
    rule.users = Range{0, 1000};
    rule.protocol = 17;
    rule.source_ports = Range{1, 1024};
    rule.suppress_prefix_length = 0;
    rule.invert = true;
    inputs.push_back(Seed(kRule, RuleRequest(RTM_NEWRULE, 0, rule).payload()));
  }
  inputs.push_back(Seed(kQdisc, NetemRequest(0, 3, 1, {}).payload()));

  Bytes answer = {kAnswer};
  const auto put = [&](const auto& fixed) {
    const auto* const bytes = reinterpret_cast<const uint8_t*>(&fixed);
    answer.insert(answer.end(), bytes, bytes + sizeof fixed);
  };
  put(nlmsghdr{sizeof(nlmsghdr) + 4, RTM_NEWLINK, NLM_F_MULTI | NLM_F_DUMP_INTR, 1, 0});
  put(uint32_t{0});
  nlmsgerr error{};
  error.error = -1;
  error.msg.nlmsg_len = sizeof(nlmsghdr) + 4;
  put(nlmsghdr{sizeof(nlmsghdr) + sizeof error + 4 + NLA_HDRLEN + 4, NLMSG_ERROR, NLM_F_ACK_TLVS, 1, 0});
  put(error);
  put(uint32_t{0});
  put(nlattr{NLA_HDRLEN + 4, NLMSGERR_ATTR_MSG});
  put(uint32_t{0x00636261});
  inputs.push_back(answer);
  return inputs;
}

}  // namespace tunsock::test

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tunsock;
  if (size == 0) return 0;
  // Exactly as long as it is, so that nothing behind it can be read.
  const std::unique_ptr<uint8_t[]> exact(new uint8_t[size - 1]);
  std::copy(data + 1, data + size, exact.get());
  const Bytes payload{exact.get(), size - 1};
  NeighbourInfo neighbour;
  NextHopObject object;
  QdiscInfo qdisc;
  switch (data[0] % test::kParsers) {
    case test::kLink:
      test::FuzzLink(payload);
      break;
    case test::kAddress:
      test::FuzzAddress(payload);
      break;
    case test::kNeighbour:
      ParseNeighbour(payload, &neighbour);
      break;
    case test::kRoute:
      test::FuzzRoute(payload);
      break;
    case test::kNextHop:
      ParseNextHopObject(payload, &object);
      break;
    case test::kRule:
      test::FuzzRule(payload);
      break;
    case test::kQdisc:
      ParseQdisc(payload, &qdisc);
      break;
    default:
      test::FuzzAnswer(payload);
  }
  return 0;
}
