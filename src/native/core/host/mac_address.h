#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "core/host/netlink_message.h"

namespace tunsock {

/// An Ethernet address.
using MacAddress = std::array<uint8_t, 6>;

/// Takes "02:00:00:00:00:01". Returns false for anything else.
bool ParseMac(const std::string& text, MacAddress* mac);
/// Of as many bytes as there are: other links have longer addresses.
std::string FormatMac(Bytes bytes);

}  // namespace tunsock
