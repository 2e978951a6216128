#include "core/host/ip_address.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>

namespace tunsock {

bool IpAddress::Parse(const std::string& text, IpAddress* address) {
  IpAddress parsed;
  parsed.family = text.find(':') == std::string::npos ? AF_INET : AF_INET6;
  if (::inet_pton(parsed.family, text.c_str(), parsed.bytes.data()) != 1) return false;
  *address = parsed;
  return true;
}

bool IpAddress::Read(int family, const uint8_t* data, size_t size, IpAddress* address) {
  IpAddress read;
  read.family = family;
  if (read.size() == 0 || size != read.size()) return false;
  std::copy_n(data, size, read.bytes.begin());
  *address = read;
  return true;
}

std::string IpAddress::ToString() const {
  char text[INET6_ADDRSTRLEN] = "";
  return ::inet_ntop(family, bytes.data(), text, sizeof text) == nullptr ? std::string() : std::string(text);
}

bool IpPrefix::Parse(const std::string& text, IpPrefix* prefix) {
  const size_t slash = text.find('/');
  IpPrefix parsed;
  if (slash == std::string::npos || !IpAddress::Parse(text.substr(0, slash), &parsed.address)) return false;
  const char* const end = text.data() + text.size();
  const auto number = std::from_chars(text.data() + slash + 1, end, parsed.length);
  if (number.ec != std::errc() || number.ptr != end || parsed.length > parsed.address.size() * 8)
    return false;
  *prefix = parsed;
  return true;
}

bool IpPrefix::Read(int family, const uint8_t* data, size_t size, uint8_t length, IpPrefix* prefix) {
  IpPrefix read;
  if (!IpAddress::Read(family, data, size, &read.address) || length > size * 8) return false;
  read.length = length;
  *prefix = read;
  return true;
}

IpPrefix IpPrefix::All(int family) {
  IpPrefix all;
  all.address.family = family;
  return all;
}

IpPrefix IpPrefix::Network() const {
  IpPrefix network = *this;
  for (size_t bit = length; bit < address.size() * 8; ++bit) {
    network.address.bytes[bit / 8] &= static_cast<uint8_t>(~(0x80U >> bit % 8));
  }
  return network;
}

std::string IpPrefix::ToString() const {
  return address.ToString() + '/' + std::to_string(length);
}

}  // namespace tunsock
