#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "core/host/netlink_message.h"
#include "core/sys/sys_result.h"

namespace tunsock {

/// Reads the datagrams that answer one request. Only bytes: it is handed them, and makes no system call.
/// netlink(7).
class NetlinkAnswer {
 public:
  /// One message of an answer: its type and what follows the header, valid during the call.
  using Visitor = std::function<void(uint16_t type, Bytes payload)>;

  /// Of the request with this number; messages with others are not its answers.
  explicit NetlinkAnswer(uint32_t sequence) : sequence_(sequence) {}

  /// Takes one datagram: 1 when the answer is complete, 0 when more is to come, or a negative errno, which is
  /// the kernel's own or -EBADMSG for bytes that are no messages.
  SysResult Take(Bytes datagram, const Visitor& visit);

  /// Whether the kernel's tables changed while it dumped them.
  [[nodiscard]] bool interrupted() const { return interrupted_; }
  /// What the kernel said about a refusal (NETLINK_EXT_ACK); empty when it said nothing.
  [[nodiscard]] const std::string& kernel_text() const { return kernel_text_; }

 private:
  SysResult TakeError(const nlmsghdr& header, Bytes payload);

  uint32_t sequence_;
  bool interrupted_ = false;
  std::string kernel_text_;
};

}  // namespace tunsock
