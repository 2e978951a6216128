#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/host/ip_address.h"
#include "core/host/mac_address.h"
#include "core/host/netlink_message.h"

namespace tunsock {

/// A lifetime that does not end (INFINITY_LIFE_TIME).
constexpr uint32_t kForever = 0xffffffff;

/// An address of a link, as RTM_NEWADDR tells.
struct AddressInfo {
  uint32_t index = 0;
  IpPrefix address;
  IpAddress peer;  // none but on point-to-point links, whose prefix it then is
  IpAddress broadcast;
  uint8_t scope = 0;                       // RT_SCOPE_*
  uint32_t flags = 0;                      // IFA_F_*
  std::string label;                       // IPv4
  uint32_t valid_lifetime = kForever;      // seconds
  uint32_t preferred_lifetime = kForever;  // seconds
};

/// An address to add, or what one has that is looked for: what is absent is the kernel's own choice, or any.
struct AddressSpec {
  IpPrefix address;
  IpAddress peer;
  IpAddress broadcast;
  std::optional<uint8_t> scope;
  std::optional<std::string> label;
  std::optional<uint32_t> valid_lifetime;
  std::optional<uint32_t> preferred_lifetime;
  bool no_prefix_route = false;
};

/// An entry of ARP or neighbour discovery, as RTM_NEWNEIGH tells.
struct NeighbourInfo {
  uint32_t index = 0;
  IpAddress address;
  std::string mac;     // empty while it isn't known
  uint16_t state = 0;  // NUD_*
};

/// Read what follows the header of RTM_NEWADDR and RTM_DELADDR, RTM_NEWNEIGH and RTM_DELNEIGH messages; false
/// for bytes that are none.
bool ParseAddress(Bytes payload, AddressInfo* address);
bool ParseNeighbour(Bytes payload, NeighbourInfo* neighbour);

/// Whether `address` has all that `spec` says of it, but for lifetimes, which run.
bool Matches(const AddressSpec& spec, const AddressInfo& address);

NetlinkMessage NewAddressRequest(uint32_t index, const AddressSpec& spec);
NetlinkMessage RemoveAddressRequest(const AddressInfo& address);

}  // namespace tunsock
