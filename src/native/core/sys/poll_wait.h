#pragma once

#include <poll.h>

#include "core/sys/sys_result.h"

namespace tunsock {

/// Waits until `fd` has one of `events`, or an error, or `timeout_ms` has gone by. Returns 1 when there is
/// something to do, 0 when time ran out, or a negative errno; -EINTR too, so that the caller can count the
/// time anew.
inline SysResult PollWait(int fd, short events, int timeout_ms) {
  pollfd entry{fd, events, 0};
  return CallOnce([&] { return ::poll(&entry, 1, timeout_ms); });
}

}  // namespace tunsock
