#pragma once

#include <poll.h>
#include <sys/socket.h>

#include "core/sys/sys_result.h"

namespace tunsock {

/// Waits until `fd` has one of `events`, or an error, or `timeout_ms` has gone by. Returns 1 when there is
/// something to do, 0 when time ran out, or a negative errno; -EINTR too, so that the caller can count the
/// time anew.
inline SysResult PollWait(int fd, short events, int timeout_ms) {
  pollfd entry{fd, events, 0};
  return CallOnce([&] { return ::poll(&entry, 1, timeout_ms); });
}

/// Makes `attempt`, and when it returns -EAGAIN waits until `fd` has one of `events`, for `timeout_ms` at
/// most, and makes it once more. Not with MSG_DONTWAIT or MSG_ERRQUEUE in `flags`. JavaScript loops over
/// short waits, so that a Worker that is blocked here can still be terminated.
template <typename Attempt>
SysResult AttemptWhenReady(int fd, short events, int flags, int timeout_ms, Attempt attempt) {
  const SysResult result = attempt();
  if (result != -EAGAIN || (flags & (MSG_DONTWAIT | MSG_ERRQUEUE)) != 0) return result;
  return PollWait(fd, events, timeout_ms) > 0 ? attempt() : -EAGAIN;
}

}  // namespace tunsock
