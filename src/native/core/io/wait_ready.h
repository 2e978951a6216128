#pragma once

#include <sys/socket.h>

#include "core/io/packet_io.h"
#include "core/sys/poll_wait.h"

namespace tunsock {

/// Makes `attempt`, and when it returns -EAGAIN waits for `wanted` (POLLIN, POLLOUT) of `io`, for
/// `timeout_ms` at most, and makes it once more. Not with MSG_DONTWAIT or MSG_ERRQUEUE in `flags`. JavaScript
/// loops over short waits, so that a Worker that is blocked here can still be terminated.
template <typename Attempt>
SysResult AttemptWhenReady(PacketIo* io, short wanted, int flags, int timeout_ms, Attempt attempt) {
  const SysResult result = attempt();
  if (result != -EAGAIN || (flags & (MSG_DONTWAIT | MSG_ERRQUEUE)) != 0) return result;
  if (!io->Arm(wanted)) {
    const PollTarget target = io->Target(wanted);
    if (PollWait(target.fd, target.events, timeout_ms) <= 0) return -EAGAIN;
    (void)io->Acknowledge(wanted);
  }
  const SysResult again = attempt();
  if (again != -EAGAIN) return again;
  // What is no packet may have ended the wait, and would end the next one: it is taken out of the way.
  const SysResult error = io->PendingError();
  return error < 0 && (wanted & POLLIN) != 0 ? error : again;
}

}  // namespace tunsock
