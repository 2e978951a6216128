#include "core/vhost/packet_rings.h"

#include <endian.h>

#include <algorithm>
#include <cstring>

namespace tunsock {
namespace {

constexpr size_t kNumBuffersOffset = 10;

uint16_t NumBuffers(const uint8_t* header) {
  uint16_t count;
  std::memcpy(&count, header + kNumBuffersOffset, sizeof count);
  return le16toh(count);
}

/// Writes bytes over the buffers of a chain, one behind another.
class ChainWriter {
 public:
  ChainWriter(const Vring& ring, uint16_t head) : ring_(ring), id_(head) {}

  void Write(const uint8_t* bytes, size_t size) {
    while (size > 0) {
      if (at_ == ring_.buffer_bytes()) {
        id_ = ring_.next(id_);
        at_ = 0;
      }
      const size_t length = std::min(size, ring_.buffer_bytes() - at_);
      std::memcpy(ring_.buffer(id_) + at_, bytes, length);
      at_ += length;
      bytes += length;
      size -= length;
    }
  }

 private:
  const Vring& ring_;
  uint16_t id_;
  size_t at_ = 0;
};

}  // namespace

SysResult SendRing::Put(const uint8_t* header, const iovec* views, int count, size_t total) {
  if (ring_.state() < 0) return ring_.state();
  const uint32_t needed = BuffersFor(total);
  if (needed > ring_.size()) return -EMSGSIZE;
  if (needed > ring_.free()) {
    const SysResult reaped = Reap();
    if (reaped < 0) return reaped;
    if (needed > ring_.free()) return -EAGAIN;
  }
  const size_t before_last = size_t{needed - 1} * ring_.buffer_bytes();
  const uint16_t head = ring_.Take(needed, static_cast<uint32_t>(kRingPacketHeader + total - before_last));
  ChainWriter writer(ring_, head);
  writer.Write(header, kRingPacketHeader);
  for (int i = 0; i < count; ++i)
    writer.Write(static_cast<const uint8_t*>(views[i].iov_base), views[i].iov_len);
  ring_.Expose(head);
  return 0;
}

SysResult SendRing::Reap() {
  const SysResult pending = ring_.Pending();
  for (SysResult left = pending; left > 0; --left) {
    UsedChain chain;
    const SysResult result = ring_.Next(&chain);
    if (result < 0) return result;
    ring_.Release(chain.head);
  }
  return pending;
}

ReceiveRing::ReceiveRing(uint8_t* memory, uint32_t size, uint8_t* buffers, uint32_t buffer_bytes)
    : ring_(memory, size, buffers, buffer_bytes, Vring::Direction::kFromDevice) {
  parts_.reserve(size);
  taken_.reserve(size);
  while (ring_.free() > 0) ring_.Expose(ring_.Take(1, buffer_bytes));
}

SysResult ReceiveRing::Next(RingPacket* packet) {
  const SysResult pending = ring_.Pending();
  if (pending <= 0) return pending;
  parts_.clear();
  *packet = {};
  SysResult wanted = 1;
  for (SysResult index = 0; index < wanted; ++index) {
    UsedChain chain;
    const SysResult result = ring_.Next(&chain);
    if (result < 0) return result;
    taken_.push_back(chain.head);
    uint8_t* bytes = ring_.buffer(chain.head);
    size_t length = chain.written;
    if (index == 0) {
      if (length < kRingPacketHeader) return ring_.Break();
      packet->header = bytes;
      wanted = NumBuffers(bytes);
      if (wanted == 0 || wanted > pending) return ring_.Break();
      bytes += kRingPacketHeader;
      length -= kRingPacketHeader;
    }
    parts_.push_back({bytes, length});
    packet->size += length;
  }
  packet->parts = parts_.data();
  packet->count = static_cast<int>(parts_.size());
  return 1;
}

void ReceiveRing::Recycle() {
  for (const uint16_t head : taken_) ring_.Expose(head);
  taken_.clear();
}

}  // namespace tunsock
