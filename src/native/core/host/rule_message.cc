#include "core/host/rule_message.h"

#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>

namespace tunsock {
namespace {

using Table = AttributeTable<FRA_DPORT_RANGE>;

std::optional<uint32_t> TakeU32(const Table& attributes, uint16_t type) {
  uint32_t value = 0;
  return attributes.Get(type).Read(&value) ? std::optional<uint32_t>(value) : std::nullopt;
}

/// Of ports and users: two numbers of the width that the kernel's structure has.
template <typename Kernel>
std::optional<Range> TakeRange(const Table& attributes, uint16_t type) {
  Kernel range;
  if (!attributes.Get(type).Read(&range)) return std::nullopt;
  return Range{range.start, range.end};
}

template <typename Kernel>
void PutRange(NetlinkMessage* message, uint16_t type, const std::optional<Range>& range) {
  if (!range.has_value()) return;
  Kernel kernel{};
  kernel.start = static_cast<decltype(kernel.start)>(range->first);
  kernel.end = static_cast<decltype(kernel.end)>(range->last);
  message->Put(type, &kernel, sizeof kernel);
}

void PutU32(NetlinkMessage* message, uint16_t type, const std::optional<uint32_t>& value) {
  if (value.has_value()) message->PutU32(type, *value);
}

void PutPrefix(NetlinkMessage* message, uint16_t type, const std::optional<IpPrefix>& prefix) {
  if (!prefix.has_value() || prefix->length == 0) return;
  const IpPrefix network = prefix->Network();
  message->Put(type, network.address.bytes.data(), network.address.size());
}

template <typename Value>
bool Agrees(const std::optional<Value>& wanted, const std::optional<Value>& has) {
  return !wanted.has_value() || wanted == has;
}

/// All is what a rule without a prefix is for.
bool Agrees(const std::optional<IpPrefix>& wanted, const std::optional<IpPrefix>& has) {
  if (!wanted.has_value()) return true;
  if (!has.has_value()) return wanted->length == 0;
  return wanted->Network() == has->Network();
}

}  // namespace

bool ParseRule(Bytes payload, RuleInfo* rule) {
  fib_rule_hdr header;
  if (!payload.Read(&header)) return false;
  if (header.family != AF_INET && header.family != AF_INET6) return false;
  *rule = {};
  const Table attributes(payload.Skip(NLMSG_ALIGN(sizeof header)));
  const auto prefix = [&](uint16_t type, uint8_t length, std::optional<IpPrefix>* target) {
    if (length == 0) return true;
    const Bytes bytes = attributes.Get(type);
    IpPrefix read;
    if (!IpPrefix::Read(header.family, bytes.data, bytes.size, length, &read)) return false;
    *target = read;
    return true;
  };
  rule->family = header.family;
  if (!prefix(FRA_SRC, header.src_len, &rule->from) || !prefix(FRA_DST, header.dst_len, &rule->to))
    return false;
  rule->priority = TakeU32(attributes, FRA_PRIORITY).value_or(0);
  if (attributes.Has(FRA_IIFNAME)) rule->input = attributes.String(FRA_IIFNAME);
  if (attributes.Has(FRA_OIFNAME)) rule->output = attributes.String(FRA_OIFNAME);
  rule->mark = TakeU32(attributes, FRA_FWMARK);
  rule->mask = TakeU32(attributes, FRA_FWMASK);
  rule->action = header.action;
  const uint32_t table = attributes.U32(FRA_TABLE, header.table);
  if (table != RT_TABLE_UNSPEC) rule->table = table;
  rule->target = TakeU32(attributes, FRA_GOTO);
  rule->suppress_prefix_length = TakeU32(attributes, FRA_SUPPRESS_PREFIXLEN);
  if (rule->suppress_prefix_length == UINT32_MAX) rule->suppress_prefix_length.reset();
  rule->users = TakeRange<fib_rule_uid_range>(attributes, FRA_UID_RANGE);
  if (header.tos != 0) rule->tos = header.tos;
  if (attributes.U8(FRA_IP_PROTO) != 0) rule->protocol = attributes.U8(FRA_IP_PROTO);
  rule->source_ports = TakeRange<fib_rule_port_range>(attributes, FRA_SPORT_RANGE);
  rule->destination_ports = TakeRange<fib_rule_port_range>(attributes, FRA_DPORT_RANGE);
  rule->invert = (header.flags & FIB_RULE_INVERT) != 0;
  rule->origin = attributes.U8(FRA_PROTOCOL);
  return true;
}

bool Matches(const RuleInfo& wanted, const RuleInfo& rule) {
  return wanted.family == rule.family && Agrees(wanted.priority, rule.priority) &&
         Agrees(wanted.from, rule.from) && Agrees(wanted.to, rule.to) && Agrees(wanted.input, rule.input) &&
         Agrees(wanted.output, rule.output) && Agrees(wanted.mark, rule.mark) &&
         Agrees(wanted.mask, rule.mask) && Agrees(wanted.table, rule.table) &&
         Agrees(wanted.action, rule.action) && Agrees(wanted.target, rule.target) &&
         Agrees(wanted.suppress_prefix_length, rule.suppress_prefix_length) &&
         Agrees(wanted.users, rule.users) && Agrees(wanted.tos, rule.tos) &&
         Agrees(wanted.protocol, rule.protocol) && Agrees(wanted.source_ports, rule.source_ports) &&
         Agrees(wanted.destination_ports, rule.destination_ports) && Agrees(wanted.invert, rule.invert);
}

NetlinkMessage RuleRequest(uint16_t type, uint16_t flags, const RuleInfo& rule) {
  fib_rule_hdr header{};
  header.family = static_cast<uint8_t>(rule.family);
  header.src_len = rule.from.has_value() ? rule.from->length : 0;
  header.dst_len = rule.to.has_value() ? rule.to->length : 0;
  header.tos = rule.tos.value_or(0);
  header.action = rule.action.value_or(FR_ACT_TO_TBL);
  header.flags = rule.invert.value_or(false) ? FIB_RULE_INVERT : 0;
  NetlinkMessage message(type, flags, header);
  PutU32(&message, FRA_PRIORITY, rule.priority);
  PutPrefix(&message, FRA_SRC, rule.from);
  PutPrefix(&message, FRA_DST, rule.to);
  if (rule.input.has_value()) message.PutString(FRA_IIFNAME, *rule.input);
  if (rule.output.has_value()) message.PutString(FRA_OIFNAME, *rule.output);
  PutU32(&message, FRA_FWMARK, rule.mark);
  PutU32(&message, FRA_FWMASK, rule.mask);
  PutU32(&message, FRA_TABLE, rule.table);
  PutU32(&message, FRA_GOTO, rule.target);
  PutU32(&message, FRA_SUPPRESS_PREFIXLEN, rule.suppress_prefix_length);
  PutRange<fib_rule_uid_range>(&message, FRA_UID_RANGE, rule.users);
  if (rule.protocol.has_value()) message.PutU8(FRA_IP_PROTO, *rule.protocol);
  PutRange<fib_rule_port_range>(&message, FRA_SPORT_RANGE, rule.source_ports);
  PutRange<fib_rule_port_range>(&message, FRA_DPORT_RANGE, rule.destination_ports);
  if (rule.origin != 0) message.PutU8(FRA_PROTOCOL, rule.origin);
  return message;
}

}  // namespace tunsock
