#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <cstddef>
#include <cstring>
#include <string>

namespace tunsock {

/// The address of an AF_UNIX socket: a path, or NUL and an abstract name. unix(7).
struct UnixAddress {
  sockaddr_un address{};
  socklen_t size = 0;

  /// False for a name that is too long.
  bool Set(const std::string& path) {
    // An abstract name has no NUL at its end: its length alone says where it ends.
    const bool abstract = !path.empty() && path[0] == '\0';
    const size_t length = path.size() + (abstract ? 0 : 1);
    if (length > sizeof address.sun_path) return false;
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length);
    return true;
  }

  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&address); }
};

}  // namespace tunsock
