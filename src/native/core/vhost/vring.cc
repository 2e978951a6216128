#include "core/vhost/vring.h"

#include <endian.h>

#include <atomic>
#include <cstring>

namespace tunsock {
namespace {

constexpr size_t kRingHeader = 2 * sizeof(uint16_t);  // flags and index
constexpr size_t kIndexOffset = sizeof(uint16_t);

/// struct vring_desc and struct vring_used_elem of linux/virtio_ring.h, which is no C++.
struct Descriptor {
  uint64_t address;
  uint32_t length;
  uint16_t flags;
  uint16_t next;
};
struct UsedElement {
  uint32_t id;
  uint32_t length;
};
static_assert(sizeof(Descriptor) == 16 && sizeof(UsedElement) == 8, "the structs are the wire format");

constexpr uint16_t kDescriptorNext = 1;
constexpr uint16_t kDescriptorWrite = 2;

size_t AvailableBytes(uint32_t size) {
  return kRingHeader + size_t{size} * sizeof(uint16_t) + sizeof(uint16_t);
}

size_t Aligned(size_t offset) {
  return (offset + Vring::kAlignment - 1) & ~(Vring::kAlignment - 1);
}

size_t UsedOffset(uint32_t size) {
  return Aligned(size_t{size} * sizeof(Descriptor) + AvailableBytes(size));
}

/// Words that the other side reads or writes at the same time. All of the ring is little-endian.
uint16_t Load16(const uint8_t* at, int order) {
  return le16toh(__atomic_load_n(reinterpret_cast<const uint16_t*>(at), order));
}
uint32_t Load32(const uint8_t* at) {
  return le32toh(__atomic_load_n(reinterpret_cast<const uint32_t*>(at), __ATOMIC_RELAXED));
}
void Store16(uint8_t* at, uint16_t value, int order) {
  __atomic_store_n(reinterpret_cast<uint16_t*>(at), htole16(value), order);
}

/// Whether the index passed `event` on its way from `before` to `now` (virtio 1.2, 2.7.7.2).
bool NeedsEvent(uint16_t event, uint16_t now, uint16_t before) {
  return static_cast<uint16_t>(now - event - 1) < static_cast<uint16_t>(now - before);
}

}  // namespace

size_t Vring::Bytes(uint32_t size) {
  const size_t used = kRingHeader + size_t{size} * sizeof(UsedElement) + sizeof(uint16_t);
  return Aligned(UsedOffset(size) + used);
}

Vring::Vring(uint8_t* memory, uint32_t size, uint8_t* buffers, uint32_t buffer_bytes, Direction direction)
    : memory_(memory),
      available_(memory + size_t{size} * sizeof(Descriptor)),
      used_(memory + UsedOffset(size)),
      buffers_(buffers),
      size_(size),
      buffer_bytes_(buffer_bytes),
      device_writes_(direction == Direction::kFromDevice),
      next_(size),
      chains_(size),
      free_(size) {
  std::memset(memory, 0, Bytes(size));
  for (uint32_t id = 0; id < size; ++id) next_[id] = static_cast<uint16_t>(id + 1);
}

uint16_t Vring::Take(uint32_t count, uint32_t last_bytes) {
  const uint16_t head = free_head_;
  uint16_t id = head;
  for (uint32_t left = count; left > 0; --left) {
    const bool last = left == 1;
    Descriptor descriptor{};
    descriptor.address = htole64(reinterpret_cast<uintptr_t>(buffer(id)));
    descriptor.length = htole32(last ? last_bytes : buffer_bytes_);
    descriptor.flags = htole16(
        static_cast<uint16_t>((device_writes_ ? kDescriptorWrite : 0) | (last ? 0 : kDescriptorNext)));
    descriptor.next = htole16(last ? uint16_t{0} : next_[id]);
    std::memcpy(memory_ + size_t{id} * sizeof descriptor, &descriptor, sizeof descriptor);
    if (last) free_head_ = next_[id];
    id = next_[id];
  }
  free_ -= count;
  chains_[head] = {(count - 1) * buffer_bytes_ + last_bytes, static_cast<uint16_t>(count), false};
  return head;
}

void Vring::Expose(uint16_t head) {
  const size_t slot = available_index_ & (size_ - 1);
  Store16(available_ + kRingHeader + slot * sizeof(uint16_t), head, __ATOMIC_RELAXED);
  chains_[head].with_device = true;
  available_index_++;
  exposed_++;
}

bool Vring::Publish() {
  if (published_index_ == available_index_) return false;
  const uint16_t before = published_index_;
  published_index_ = available_index_;
  Store16(available_ + kIndexOffset, published_index_, __ATOMIC_RELEASE);
  // The other side writes what it waits for and then looks at the index once more; one of the two sees the
  // other's store.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const uint8_t* event = used_ + kRingHeader + size_t{size_} * sizeof(UsedElement);
  return NeedsEvent(Load16(event, __ATOMIC_RELAXED), published_index_, before);
}

SysResult Vring::Break() {
  state_ = -EPROTO;
  return state_;
}

SysResult Vring::ReadUsedIndex() {
  if (state_ < 0) return state_;
  const uint16_t index = Load16(used_ + kIndexOffset, __ATOMIC_ACQUIRE);
  const auto back = static_cast<uint16_t>(index - taken_index_);
  const auto known = static_cast<uint16_t>(used_index_ - taken_index_);
  if (back > exposed_ || back < known) return Break();
  used_index_ = index;
  return back;
}

SysResult Vring::Pending() {
  return ReadUsedIndex();
}

SysResult Vring::Next(UsedChain* chain) {
  if (state_ < 0) return state_;
  if (taken_index_ == used_index_) return -EAGAIN;
  const size_t slot = taken_index_ & (size_ - 1);
  const uint8_t* element = used_ + kRingHeader + slot * sizeof(UsedElement);
  const uint32_t id = Load32(element + offsetof(UsedElement, id));
  const uint32_t written = Load32(element + offsetof(UsedElement, length));
  if (id >= size_ || !chains_[id].with_device) return Break();
  if (device_writes_ && written > chains_[id].bytes) return Break();
  chains_[id].with_device = false;
  taken_index_++;
  exposed_--;
  chain->head = static_cast<uint16_t>(id);
  chain->written = written;
  return 0;
}

void Vring::Release(uint16_t head) {
  const uint16_t count = chains_[head].count;
  uint16_t last = head;
  for (uint16_t left = count; left > 1; --left) last = next_[last];
  next_[last] = free_head_;
  free_head_ = head;
  free_ += count;
}

void Vring::DisableCalls() {
  uint8_t* event = available_ + kRingHeader + size_t{size_} * sizeof(uint16_t);
  // Behind where the used index is, which comes by there again in 65536 chains.
  Store16(event, static_cast<uint16_t>(taken_index_ - 1), __ATOMIC_RELAXED);
}

SysResult Vring::EnableCalls(uint32_t count) {
  uint8_t* event = available_ + kRingHeader + size_t{size_} * sizeof(uint16_t);
  Store16(event, static_cast<uint16_t>(taken_index_ + count - 1), __ATOMIC_RELAXED);
  // As in Publish(), the other way round.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const SysResult back = ReadUsedIndex();
  return back < 0 ? back : static_cast<SysResult>(back >= static_cast<SysResult>(count));
}

}  // namespace tunsock
