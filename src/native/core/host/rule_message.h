#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/host/ip_address.h"
#include "core/host/netlink_message.h"

namespace tunsock {

/// A range of numbers, both ends in it.
struct Range {
  uint32_t first = 0;
  uint32_t last = 0;

  [[nodiscard]] bool operator==(const Range& other) const {
    return first == other.first && last == other.last;
  }
};

/// A rule of policy routing, as RTM_NEWRULE tells. ip-rule(8), net/core/fib_rules.c. Of one to add or to look
/// for, what is absent is the kernel's own choice, or any.
struct RuleInfo {
  int family = AF_INET;
  std::optional<uint32_t> priority;
  std::optional<IpPrefix> from;
  std::optional<IpPrefix> to;
  std::optional<std::string> input;   // the interface that a packet came by; "lo" for this host's own
  std::optional<std::string> output;  // the interface that a socket is bound to
  std::optional<uint32_t> mark;
  std::optional<uint32_t> mask;
  std::optional<uint32_t> table;
  std::optional<uint8_t> action;   // FR_ACT_*
  std::optional<uint32_t> target;  // FR_ACT_GOTO: the priority to go on with
  std::optional<uint32_t> suppress_prefix_length;
  std::optional<Range> users;
  std::optional<uint8_t> tos;
  std::optional<uint8_t> protocol;  // of IP
  std::optional<Range> source_ports;
  std::optional<Range> destination_ports;
  std::optional<bool> invert;
  uint8_t origin = 0;  // RTPROT_*: who made it
};

/// Reads what follows the header of an RTM_NEWRULE or RTM_DELRULE message; false for bytes that are none, and
/// for families other than IPv4 and IPv6.
bool ParseRule(Bytes payload, RuleInfo* rule);

/// Whether `rule` has all that `wanted` says of it.
bool Matches(const RuleInfo& wanted, const RuleInfo& rule);

/// An RTM_NEWRULE or RTM_DELRULE request.
NetlinkMessage RuleRequest(uint16_t type, uint16_t flags, const RuleInfo& rule);

}  // namespace tunsock
