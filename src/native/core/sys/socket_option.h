#pragma once

#include <sys/socket.h>

#include "core/sys/sys_result.h"

namespace tunsock {

/// setsockopt(2): 0, or a negative errno.
template <typename Value>
SysResult SetSocketOption(int fd, int level, int option, const Value& value) {
  return CallOnce([&] { return ::setsockopt(fd, level, option, &value, sizeof value); });
}

/// getsockopt(2) of an option that is an int: its value, or a negative errno.
inline SysResult GetSocketOption(int fd, int level, int option) {
  int value = 0;
  socklen_t length = sizeof value;
  const SysResult result = CallOnce([&] { return ::getsockopt(fd, level, option, &value, &length); });
  return result < 0 ? result : value;
}

}  // namespace tunsock
