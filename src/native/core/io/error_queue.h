#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>

#include "core/io/batch.h"

namespace tunsock {

/// What was taken out of a socket's error queue, so that poll(2) stops showing it, and that nobody has asked
/// for yet: the newest messages. What there is no room for is lost, the oldest first.
class ErrorQueue {
 public:
  static constexpr size_t kMessages = 64;
  static constexpr size_t kBytes = size_t{256} * 1024;

  [[nodiscard]] bool empty() const { return messages_.empty(); }

  /// Keeps a copy of a message: `details.copied` bytes of it, and what it is.
  void Put(const uint8_t* bytes, const PacketDetails& details);

  /// Takes the oldest message, as recvmsg(2) would. There must be one.
  void Take(const iovec* views, int count, PacketDetails* details);

 private:
  struct Message {
    std::unique_ptr<uint8_t[]> bytes;
    PacketDetails details;
  };

  void DropOldest();

  std::deque<Message> messages_;
  size_t bytes_ = 0;
};

}  // namespace tunsock
