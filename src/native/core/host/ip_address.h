#pragma once

#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace tunsock {

/// An IPv4 or IPv6 address; `family` AF_UNSPEC is none.
struct IpAddress {
  int family = AF_UNSPEC;
  std::array<uint8_t, 16> bytes{};

  /// Takes the forms of inet_pton(3). Returns false, and leaves `address` alone, for what is no address.
  static bool Parse(const std::string& text, IpAddress* address);
  /// From `size` raw bytes of the wire: false when that is not the size of an address of this family.
  static bool Read(int family, const uint8_t* data, size_t size, IpAddress* address);

  [[nodiscard]] bool valid() const { return family != AF_UNSPEC; }
  [[nodiscard]] size_t size() const { return family == AF_INET6 ? 16 : family == AF_INET ? 4 : 0; }
  [[nodiscard]] std::string ToString() const;
  /// As numbers: `fd00::1` is `FD00:0:0::1`. No address is like no other of its family.
  [[nodiscard]] bool operator==(const IpAddress& other) const {
    return family == other.family && bytes == other.bytes;
  }
};

/// An address and the length of its network's prefix in bits.
struct IpPrefix {
  IpAddress address;
  uint8_t length = 0;

  /// Takes "10.0.0.1/24". Returns false, and leaves `prefix` alone, for what is no prefix.
  static bool Parse(const std::string& text, IpPrefix* prefix);
  /// From `size` raw bytes of the wire: false for a wrong size, and for a length that no address of this
  /// family has.
  static bool Read(int family, const uint8_t* data, size_t size, uint8_t length, IpPrefix* prefix);
  /// All of a family: 0.0.0.0/0 or ::/0.
  static IpPrefix All(int family);

  /// The same with the bits behind the prefix cleared.
  [[nodiscard]] IpPrefix Network() const;
  [[nodiscard]] std::string ToString() const;
  [[nodiscard]] bool operator==(const IpPrefix& other) const {
    return address == other.address && length == other.length;
  }
};

}  // namespace tunsock
