#pragma once

#include <vector>

#include "core/host/netlink_message.h"

namespace tunsock {

/// What came beside the bytes of a message on an AF_UNIX socket. All numbers are descriptors that this
/// process has from then on, and that only the message knows of.
struct ControlInfo {
  /// SCM_RIGHTS, in the order in which they were sent.
  std::vector<int> descriptors;
  /// What the kernel adds where the socket was set up for it (SCM_PIDFD): descriptors that nobody has sent.
  std::vector<int> added;
  /// SCM_CREDENTIALS: with SO_PASSCRED each message has them, and the end of a connection has none.
  bool credentials = false;
};

/// Reads the control data of a message as recvmsg(2) gave it, with the length that it gave. What is no whole
/// control message ends it; of one that says that it is longer than the data, what is there counts. unix(7),
/// cmsg(3), net/core/scm.c.
ControlInfo ParseControl(Bytes control);

}  // namespace tunsock
