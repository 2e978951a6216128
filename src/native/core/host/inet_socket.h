#pragma once

#include <cstdint>
#include <string>

#include "core/sys/failure.h"
#include "core/sys/unique_fd.h"

namespace tunsock {

/// A socket to make: of AF_INET, AF_INET6 or AF_UNIX.
struct SocketSpec {
  int family = 0;
  int type = 0;           // SOCK_STREAM, SOCK_DGRAM
  std::string interface;  // the zone of a link-local address; empty: any
  bool reuse_address = false;
  bool reuse_port = false;
  bool ipv6_only = false;
  bool bind = false;
  bool connect = false;  // AF_UNIX alone, where it never waits: -EAGAIN when the server's backlog is full
  std::string
      address;  // an IP address without its zone, or a path, which begins with NUL where it is abstract
  uint16_t port = 0;
};

/// Makes a socket in the calling thread's network namespace, where it stays, and binds or connects it if that
/// is wanted. It is non-blocking and close-on-exec. Changes `socket` only when all went well.
Failure OpenSocket(const SocketSpec& spec, UniqueFd* socket);

}  // namespace tunsock
