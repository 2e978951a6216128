#pragma once

#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/sys/failure.h"
#include "core/sys/sys_result.h"
#include "core/sys/unique_fd.h"

namespace tunsock {

/// A message, without its bytes.
struct ChannelMessage {
  size_t size = 0;
  /// There is none, and never will be: the peer has closed its end.
  bool ended = false;
  /// Close-on-exec, and owned from recvmsg(2) on.
  std::vector<UniqueFd> descriptors;
};

/// One end of a connection, or what waits for connections, on which messages carry descriptors: AF_UNIX,
/// SOCK_SEQPACKET. Nothing here waits. unix(7).
class DescriptorChannel {
 public:
  /// More in one message are refused by the kernel (SCM_MAX_FD in include/net/scm.h).
  static constexpr size_t kMaxDescriptors = 253;

  static Failure Connect(const std::string& path, DescriptorChannel* channel);
  static Failure Listen(const std::string& path, DescriptorChannel* channel);
  static Failure Pair(DescriptorChannel* one, DescriptorChannel* other);
  /// Takes a connected socket over. -EPROTOTYPE for another kind of socket; on failure it is still the
  /// caller's.
  static Failure Adopt(int fd, DescriptorChannel* channel);

  /// The next connection of what Listen made.
  Failure Accept(DescriptorChannel* channel);

  /// Sends one message. Its descriptors stay the caller's.
  SysResult Send(const uint8_t* data, size_t size, const int* descriptors, size_t count);

  /// Receives one message. A message that does not fit is lost, and its descriptors are closed: -EMSGSIZE for
  /// its bytes, -EMFILE where not all descriptors could be had. -ECONNRESET: the peer has closed its end
  /// without reading all; what it has sent before is still there to be received.
  SysResult Receive(uint8_t* memory, size_t capacity, ChannelMessage* message);

  /// Who the peer was when the connection was made (SO_PEERCRED).
  SysResult Credentials(ucred* credentials) const;

  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  /// Makes the end of a connection told from an empty message: see ControlInfo::credentials.
  static Failure Prepare(int fd);

  UniqueFd fd_;
};

/// Sets close-on-exec.
SysResult SetCloseOnExec(int fd);

}  // namespace tunsock
