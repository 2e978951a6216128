#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <linux/nexthop.h>
#include <linux/rtnetlink.h>

#include <cerrno>
#include <string>
#include <vector>

#include "check.h"
#include "core/host/address_message.h"
#include "core/host/link_message.h"
#include "core/host/netlink_answer.h"
#include "core/host/qdisc_message.h"
#include "core/host/route_message.h"
#include "core/host/rule_message.h"
#include "suites.h"

namespace tunsock::test {

namespace {

using Raw = std::vector<uint8_t>;

/// Bytes of a message, written by hand so that any of them can be wrong.
class Writer {
 public:
  template <typename Fixed>
  explicit Writer(const Fixed& fixed) {
    Fix(fixed);
  }
  template <typename Fixed>
  Writer& Fix(const Fixed& fixed) {
    const auto* const bytes = reinterpret_cast<const uint8_t*>(&fixed);
    raw_.insert(raw_.end(), bytes, bytes + sizeof fixed);
    return *this;
  }
  /// An attribute that says it is `said` bytes of value long.
  Writer& Attribute(uint16_t type, const Raw& value, int said = -1) {
    const nlattr header{static_cast<uint16_t>(NLA_HDRLEN + (said < 0 ? value.size() : static_cast<size_t>(said))), type};
    Fix(header);
    raw_.insert(raw_.end(), value.begin(), value.end());
    raw_.resize(NLA_ALIGN(raw_.size()));
    return *this;
  }
  Writer& U32(uint16_t type, uint32_t value) {
    const auto* const bytes = reinterpret_cast<const uint8_t*>(&value);
    return Attribute(type, Raw(bytes, bytes + sizeof value));
  }
  [[nodiscard]] const Raw& raw() const { return raw_; }
  [[nodiscard]] Bytes bytes() const { return {raw_.data(), raw_.size()}; }

 private:
  Raw raw_;
};

Raw Text(const std::string& text) { return {text.begin(), text.end()}; }

rtmsg RouteHeader(int family, uint8_t length) {
  rtmsg header{};
  header.rtm_family = static_cast<uint8_t>(family);
  header.rtm_dst_len = length;
  header.rtm_table = RT_TABLE_MAIN;
  header.rtm_type = RTN_UNICAST;
  return header;
}

IpAddress Ip(const std::string& text) {
  IpAddress address;
  CHECK(IpAddress::Parse(text, &address), "an address: " + text);
  return address;
}

IpPrefix Prefix(const std::string& text) {
  IpPrefix prefix;
  CHECK(IpPrefix::Parse(text, &prefix), "a prefix: " + text);
  return prefix;
}

void TestAddresses() {
  CHECK(Ip("fd00::1") == Ip("FD00:0:0::1") && !(Ip("fd00::1") == Ip("fd00::2")), "addresses as numbers");
  CHECK(Ip("fd00:7::1.2.3.4") == Ip("fd00:7::102:304"), "an IPv4 tail");
  CHECK(Prefix("10.8.0.1/024") == Prefix("10.8.0.1/24"), "a length with a zero");
  CHECK(Prefix("10.1.2.3/15").Network() == Prefix("10.0.0.0/15"), "a network that ends inside a byte");
  CHECK(Prefix("fd00::ffff/127").Network() == Prefix("fd00::fffe/127"), "a network of two");
  CHECK(Prefix("10.1.2.3/32").Network() == Prefix("10.1.2.3/32"), "a network of one");
  CHECK(Prefix("10.1.2.3/0").Network() == IpPrefix::All(AF_INET), "all");

  ifaddrmsg header{};
  header.ifa_family = AF_INET;
  header.ifa_prefixlen = 24;
  header.ifa_index = 7;
  AddressInfo address;
  CHECK(ParseAddress(Writer(header).Attribute(IFA_LOCAL, {10, 0, 0, 1}).Attribute(IFA_ADDRESS, {10, 0, 0, 2}).bytes(),
                     &address) &&
            address.address == Prefix("10.0.0.1/24") && address.peer == Ip("10.0.0.2") && address.index == 7,
        "a peer address");
  CHECK(!ParseAddress(Writer(header).bytes(), &address), "no address");
  CHECK(!ParseAddress(Writer(header).Attribute(IFA_LOCAL, {10, 0, 0}).bytes(), &address), "three bytes of one");
  CHECK(!ParseAddress(Writer(header).Attribute(IFA_LOCAL, {10, 0, 0, 1}, 5).bytes(), &address),
        "an attribute that is longer than the message");
  CHECK(!ParseAddress({reinterpret_cast<const uint8_t*>(&header), sizeof header - 1}, &address), "half a header");
  header.ifa_prefixlen = 33;
  CHECK(!ParseAddress(Writer(header).Attribute(IFA_LOCAL, {10, 0, 0, 1}).bytes(), &address), "a prefix of 33 bits");

  ndmsg neighbour_header{};
  neighbour_header.ndm_family = AF_INET;
  neighbour_header.ndm_state = NUD_STALE;
  NeighbourInfo neighbour;
  CHECK(ParseNeighbour(Writer(neighbour_header).Attribute(NDA_DST, {10, 0, 0, 9}).bytes(), &neighbour) &&
            neighbour.mac.empty() && neighbour.state == NUD_STALE,
        "a neighbour without hardware address");
}

void TestLinks() {
  ifinfomsg header{};
  header.ifi_index = 3;
  LinkInfo link;
  const Writer names = Writer(header)
                           .Attribute(IFLA_IFNAME, Text("eth0"))  // no NUL
                           .Attribute(IFLA_ADDRESS, {2, 0, 0, 0, 0, 0xab})
                           .Attribute(IFLA_STATS64, {1, 0, 0, 0, 0, 0, 0, 0});
  CHECK(ParseLink(names.bytes(), &link) && link.name == "eth0" && link.index == 3, "a name that has no end");
  CHECK(link.mac == "02:00:00:00:00:ab" && link.stats.rx_packets == 1 && link.stats.tx_packets == 0,
        "counters of an older kernel");
  Writer properties(nlattr{NLA_HDRLEN, IFLA_IFNAME});
  properties.Attribute(IFLA_ALT_IFNAME, Text(std::string(127, 'x') + '\0'));
  CHECK(ParseLink(Writer(header).Attribute(IFLA_PROP_LIST | NLA_F_NESTED, properties.raw()).bytes(), &link) &&
            link.name.empty() && link.alternative_names.size() == 1 && link.alternative_names[0] == std::string(127, 'x'),
        "a long alternative name");
  CHECK(!link.address_generation.has_value(), "a link without IPv6");
  CHECK(!ParseLink({}, &link), "no bytes");
}

void TestRoutes() {
  RouteInfo route;
  const Raw via = {AF_INET6, 0, 0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  CHECK(ParseRoute(Writer(RouteHeader(AF_INET, 16))
                       .Attribute(RTA_DST, {10, 5, 0, 0})
                       .U32(RTA_OIF, 4)
                       .Attribute(RTA_VIA, via)
                       .bytes(),
                   &route) &&
            route.destination == Prefix("10.5.0.0/16") && route.hops.size() == 1 &&
            (route.hops[0] == NextHop{4, Ip("fe80::1"), 1, false}),
        "IPv4 by an IPv6 router");
  CHECK(ParseRoute(Writer(RouteHeader(AF_INET6, 0)).U32(RTA_TABLE, 51820).bytes(), &route) &&
            route.destination == Prefix("::/0") && route.table == 51820 && route.hops.empty(),
        "a default route of no link in a table over 255");
  CHECK(!ParseRoute(Writer(RouteHeader(AF_INET, 16)).bytes(), &route), "a length, and no destination");
  CHECK(!ParseRoute(Writer(RouteHeader(AF_INET, 33)).Attribute(RTA_DST, {10, 5, 0, 0}).bytes(), &route),
        "a prefix of 33 bits");
  CHECK(!ParseRoute(Writer(RouteHeader(AF_UNSPEC, 0)).bytes(), &route), "no family");
  rtmsg cached = RouteHeader(AF_INET6, 0);
  cached.rtm_flags = RTM_F_CLONED;
  CHECK(!ParseRoute(Writer(cached).bytes(), &route), "an entry of the cache");

  rtnexthop hop{};
  hop.rtnh_len = sizeof hop;
  hop.rtnh_ifindex = 9;
  hop.rtnh_hops = 255;
  rtnexthop lying = hop;
  for (const uint16_t length : {uint16_t{0}, uint16_t{7}, uint16_t{9}, uint16_t{0xffff}}) {
    lying.rtnh_len = length;
    const Raw hops = Writer(hop).Fix(lying).raw();
    CHECK(ParseRoute(Writer(RouteHeader(AF_INET, 0)).Attribute(RTA_MULTIPATH, hops).bytes(), &route) &&
              route.hops.size() == 1 && route.hops[0].index == 9 && route.hops[0].weight == 256,
          "a way whose length is " + std::to_string(length));
  }

  NextHopObject object;
  const Raw group = Writer(nexthop_grp{7, 1, 0, 0}).Fix(nexthop_grp{8, 0, 0, 0}).raw();
  CHECK(ParseNextHopObject(Writer(nhmsg{}).U32(NHA_ID, 9).Attribute(NHA_GROUP, group).bytes(), &object) &&
            object.members.size() == 2 && object.members[0].id == 7 && object.members[0].weight == 2,
        "a group of nexthop objects");
  CHECK(!ParseNextHopObject(Writer(nhmsg{}).bytes(), &object), "a nexthop object without a number");

  RouteSpec spec;
  spec.destination = Prefix("10.5.0.0/16");
  spec.gateway = Ip("10.0.0.2");
  RouteInfo made = Complete(4, spec);
  CHECK(made.scope == RT_SCOPE_UNIVERSE && made.metric == 0 && Matches(4, spec, made), "what is made matches");
  made.hops[0].gateway = Ip("10.0.0.3");
  CHECK(!Matches(4, spec, made), "another gateway");
  spec.gateway = {};
  CHECK(Matches(4, spec, made), "any gateway");
  spec.source = Ip("10.0.0.1");
  CHECK(!Matches(4, spec, made), "a source that it hasn't");
  spec = {};
  spec.destination = Prefix("FD70:0::1/64");
  made = Complete(4, spec);
  CHECK(made.metric == 1024, "the metric that IPv6 chooses");
  spec.metric = 0;
  CHECK(Matches(4, spec, made), "the same, asked for by 0");
  spec.metric = 5;
  CHECK(!Matches(4, spec, made), "another metric");
}

void TestRules() {
  fib_rule_hdr header{};
  header.family = AF_INET;
  header.src_len = 24;
  header.action = FR_ACT_TO_TBL;
  RuleInfo rule;
  CHECK(ParseRule(Writer(header).Attribute(FRA_SRC, {10, 0, 0, 0}).U32(FRA_TABLE, 51820).bytes(), &rule) &&
            rule.from == Prefix("10.0.0.0/24") && rule.table == 51820U && rule.priority == 0U && !rule.mark.has_value(),
        "a rule by source");
  CHECK(!ParseRule(Writer(header).bytes(), &rule), "a length, and no source");
  header.src_len = 0;
  header.flags = FIB_RULE_INVERT;
  CHECK(ParseRule(Writer(header).U32(FRA_FWMARK, 7).U32(FRA_SUPPRESS_PREFIXLEN, UINT32_MAX).bytes(), &rule) &&
            rule.mark == 7U && rule.invert == true && !rule.suppress_prefix_length.has_value(),
        "a rule for all but a mark");
  CHECK(ParseRule(Writer(header).Attribute(FRA_UID_RANGE, {1, 0, 0, 0}).bytes(), &rule) && !rule.users.has_value(),
        "half a range");
  header.family = AF_UNSPEC;
  CHECK(!ParseRule(Writer(header).bytes(), &rule), "no family");

  RuleInfo wanted;
  RuleInfo has;
  has.priority = 5;
  has.mark = 1;
  has.from = Prefix("10.0.0.0/8");
  CHECK(Matches(wanted, has), "nothing is asked for");
  wanted.from = Prefix("10.9.9.9/8");
  CHECK(Matches(wanted, has), "the same network");
  wanted.table = 1;
  CHECK(!Matches(wanted, has), "a table that it hasn't");
}

SysResult Answer(const Raw& raw, std::string* text = nullptr, bool* interrupted = nullptr, size_t* visited = nullptr) {
  NetlinkAnswer answer(1);
  size_t count = 0;
  const SysResult result = answer.Take({raw.data(), raw.size()}, [&](uint16_t, Bytes) { count++; });
  if (text != nullptr) *text = answer.kernel_text();
  if (interrupted != nullptr) *interrupted = answer.interrupted();
  if (visited != nullptr) *visited = count;
  return result;
}

nlmsghdr Header(size_t size, uint16_t type, uint16_t flags = 0, uint32_t sequence = 1) {
  return {static_cast<uint32_t>(sizeof(nlmsghdr) + size), type, flags, sequence, 0};
}

void TestAnswers() {
  CHECK(Answer(Writer(Header(sizeof(nlmsgerr), NLMSG_ERROR)).Fix(nlmsgerr{}).raw()) == 1, "an acknowledgement");
  nlmsgerr refused{};
  refused.error = -EPERM;
  CHECK(Answer(Writer(Header(sizeof refused, NLMSG_ERROR)).Fix(refused).raw()) == -EPERM, "a refusal");
  for (const int error : {1, 4096, -4096, INT32_MIN}) {
    nlmsgerr odd{};
    odd.error = error;
    CHECK(Answer(Writer(Header(sizeof odd, NLMSG_ERROR)).Fix(odd).raw()) == -EBADMSG,
          "an errno of " + std::to_string(error));
  }
  const Raw why = Text("because");
  const size_t attribute = NLA_HDRLEN + 8;
  std::string text;
  CHECK(Answer(Writer(Header(sizeof refused + attribute, NLMSG_ERROR, NLM_F_CAPPED | NLM_F_ACK_TLVS))
                   .Fix(refused)
                   .Attribute(NLMSGERR_ATTR_MSG, why)
                   .raw(),
               &text) == -EPERM &&
            text == "because",
        "the kernel's reason");
  refused.msg.nlmsg_len = sizeof(nlmsghdr) + 4;
  CHECK(Answer(Writer(Header(sizeof refused + 4 + attribute, NLMSG_ERROR, NLM_F_ACK_TLVS))
                   .Fix(refused)
                   .Fix(uint32_t{0})
                   .Attribute(NLMSGERR_ATTR_MSG, why)
                   .raw(),
               &text) == -EPERM &&
            text == "because",
        "the reason behind the whole request");
  refused.msg.nlmsg_len = 0xfffffff0;
  CHECK(Answer(Writer(Header(sizeof refused + attribute, NLMSG_ERROR, NLM_F_ACK_TLVS))
                   .Fix(refused)
                   .Attribute(NLMSGERR_ATTR_MSG, why)
                   .raw(),
               &text) == -EPERM &&
            text.empty(),
        "a request that is longer than its refusal");
  for (const uint32_t length : {0U, 15U, 21U, UINT32_MAX}) {
    nlmsghdr lying = Header(4, RTM_NEWLINK);
    lying.nlmsg_len = length;
    CHECK(Answer(Writer(lying).Fix(uint32_t{0}).raw()) == -EBADMSG, "a length of " + std::to_string(length));
  }
  bool interrupted = false;
  size_t visited = 0;
  const Raw dump = Writer(Header(0, RTM_NEWLINK, NLM_F_MULTI))
                       .Fix(Header(0, RTM_NEWLINK, NLM_F_MULTI | NLM_F_DUMP_INTR))
                       .Fix(Header(0, RTM_NEWLINK, 0, 2))
                       .Fix(Header(4, NLMSG_DONE, NLM_F_MULTI))
                       .Fix(int32_t{0})
                       .raw();
  CHECK(Answer(dump, nullptr, &interrupted, &visited) == 1 && interrupted && visited == 2,
        "a dump with somebody else's answer in it");
  CHECK(Answer(Writer(Header(4, NLMSG_DONE)).Fix(int32_t{-ENOENT}).raw()) == -ENOENT, "a dump that failed");
  CHECK(Answer({}) == 0, "nothing yet");
}

}  // namespace

void TestNetlink() {
  TestAddresses();
  TestLinks();
  TestRoutes();
  TestRules();
  TestAnswers();
}

}  // namespace tunsock::test
