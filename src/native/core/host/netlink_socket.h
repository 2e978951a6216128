#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "core/host/netlink_answer.h"
#include "core/host/netlink_message.h"
#include "core/sys/sys_result.h"
#include "core/sys/unique_fd.h"

namespace tunsock {

/// A NETLINK_ROUTE socket of the calling thread's network namespace. rtnetlink(7).
class NetlinkSocket {
 public:
  using Visitor = NetlinkAnswer::Visitor;

  static SysResult Open(NetlinkSocket* socket);

  /// Sends the request and hands each message of the answer to `visit`, up to the kernel's acknowledgement or
  /// the end of the dump. Returns 0 or a negative errno; -EINTR when the kernel's tables changed while it
  /// dumped them, so that what was visited may lack or repeat something.
  SysResult Request(NetlinkMessage* message, const Visitor& visit);

  /// Joins a multicast group (RTNLGRP_*), or leaves it. A socket that has joined one makes no requests: what
  /// is multicast meanwhile would be lost.
  SysResult SetMembership(int group, bool member);

  /// Hands each message of one datagram that was multicast to `visit`; never waits. Returns 0, or a negative
  /// errno: -EAGAIN when none is queued, -ENOBUFS when some were lost. Then what is queued is older than the
  /// loss, and nothing is queued any more until all of it was read.
  SysResult Hear(const Visitor& visit);

  [[nodiscard]] int fd() const { return fd_.get(); }

  /// What the kernel said about the last refusal (NETLINK_EXT_ACK); empty when it said nothing.
  [[nodiscard]] const std::string& kernel_text() const { return kernel_text_; }
  /// How many datagrams of the last answer had more in them than its end.
  [[nodiscard]] size_t datagrams() const { return datagrams_; }

 private:
  /// Reads one datagram of the kernel's; of anybody else's it is empty.
  SysResult Receive(int flags, Bytes* datagram);

  UniqueFd fd_;
  uint32_t sequence_ = 0;
  size_t datagrams_ = 0;
  std::string kernel_text_;
  /// Not cleared, so that pages of it which no answer reaches cost nothing.
  std::unique_ptr<uint8_t[]> buffer_;
};

}  // namespace tunsock
