#include "core/host/inet_socket.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstring>
#include <utility>

#include "core/host/ip_address.h"
#include "core/host/unix_address.h"

namespace tunsock {
namespace {

SysResult SetOption(int fd, int level, int option, int value) {
  return CallOnce([&] { return ::setsockopt(fd, level, option, &value, sizeof value); });
}

Failure UsePath(int fd, const SocketSpec& spec) {
  const char* const name = spec.connect ? "connect" : "bind";
  UnixAddress address;
  if (!address.Set(spec.address)) return {-ENAMETOOLONG, name};
  return {CallOnce([&] { return (spec.connect ? ::connect : ::bind)(fd, address.get(), address.size); }),
          name};
}

Failure BindAddress(int fd, const SocketSpec& spec, unsigned int zone) {
  IpAddress ip;
  if (!IpAddress::Parse(spec.address, &ip) || ip.family != spec.family) return {-EINVAL, "bind"};
  if (spec.family == AF_INET) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(spec.port);
    std::memcpy(&address.sin_addr, ip.bytes.data(), ip.size());
    return {CallOnce([&] { return ::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address); }),
            "bind"};
  }
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_port = htons(spec.port);
  address.sin6_scope_id = zone;
  std::memcpy(&address.sin6_addr, ip.bytes.data(), ip.size());
  return {CallOnce([&] { return ::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address); }),
          "bind"};
}

Failure SetOptions(int fd, const SocketSpec& spec) {
  const std::pair<bool, std::pair<int, int>> options[] = {
      {spec.reuse_address, {SOL_SOCKET, SO_REUSEADDR}},
      {spec.reuse_port, {SOL_SOCKET, SO_REUSEPORT}},
      {spec.ipv6_only, {IPPROTO_IPV6, IPV6_V6ONLY}},
  };
  for (const auto& [wanted, option] : options) {
    const SysResult result = wanted ? SetOption(fd, option.first, option.second, 1) : 0;
    if (result < 0) return {result, "setsockopt"};
  }
  return {};
}

}  // namespace

Failure OpenSocket(const SocketSpec& spec, UniqueFd* socket) {
  const SysResult fd =
      CallOnce([&] { return ::socket(spec.family, spec.type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0); });
  if (fd < 0) return {fd, "socket"};
  UniqueFd opened(static_cast<int>(fd));
  Failure failure = SetOptions(opened.get(), spec);
  if (failure.error < 0) return failure;
  unsigned int zone = 0;
  if (!spec.interface.empty()) {
    zone = ::if_nametoindex(spec.interface.c_str());
    if (zone == 0) return {-ENODEV, "if_nametoindex"};
    // Whoever connects it names no zone, since names of interfaces are those of a thread's namespace.
    const SysResult bound = SetOption(opened.get(), SOL_SOCKET, SO_BINDTOIFINDEX, static_cast<int>(zone));
    if (bound < 0) return {bound, "setsockopt"};
  }
  if (spec.family == AF_UNIX && (spec.bind || spec.connect)) {
    failure = UsePath(opened.get(), spec);
  } else if (spec.bind) {
    failure = BindAddress(opened.get(), spec, zone);
  }
  if (failure.error < 0) return failure;
  *socket = std::move(opened);
  return {};
}

}  // namespace tunsock
