#pragma once

#include <sys/types.h>

#include <cerrno>

namespace tunsock {

/// A count (0 or more), or a negative errno. What every core function that makes a system call returns.
using SysResult = ssize_t;

/// Runs a system call until it is not interrupted by a signal (EINTR).
template <typename Call>
SysResult RetryOnSignal(Call call) {
  for (;;) {
    const SysResult result = call();
    if (result >= 0) return result;
    if (errno != EINTR) return -errno;
  }
}

/// The same for a call that a signal can't interrupt, or that must not be made twice.
template <typename Call>
SysResult CallOnce(Call call) {
  const SysResult result = call();
  return result >= 0 ? result : -errno;
}

}  // namespace tunsock
