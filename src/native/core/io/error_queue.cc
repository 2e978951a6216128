#include "core/io/error_queue.h"

#include <sys/socket.h>

#include <cstring>
#include <new>
#include <utility>

#include "core/io/receive_rules.h"

namespace tunsock {

void ErrorQueue::Put(const uint8_t* bytes, const PacketDetails& details) {
  const size_t size = details.copied;
  while (!messages_.empty() && (messages_.size() >= kMessages || bytes_ + size > kBytes)) DropOldest();
  Message message{std::unique_ptr<uint8_t[]>(new (std::nothrow) uint8_t[size]), details};
  if (message.bytes == nullptr) return;
  if (size != 0) std::memcpy(message.bytes.get(), bytes, size);
  messages_.push_back(std::move(message));
  bytes_ += size;
}

void ErrorQueue::Take(const iovec* views, int count, PacketDetails* details) {
  const Message& message = messages_.front();
  *details = message.details;
  details->copied =
      static_cast<uint32_t>(CopyToViews(message.bytes.get(), message.details.copied, views, count));
  if (details->copied < details->size) details->flags |= MSG_TRUNC;
  DropOldest();
}

void ErrorQueue::DropOldest() {
  bytes_ -= messages_.front().details.copied;
  messages_.pop_front();
}

}  // namespace tunsock
