#include "ring_device.h"

#include <algorithm>

#include "core/offload/byte_order.h"

namespace tunsock::test {

namespace {

constexpr size_t kDescriptor = 16;
constexpr uint16_t kNext = 1;

}  // namespace

RingMemory::RingMemory(uint32_t size, uint32_t buffer_bytes)
    : ring_bytes(new uint8_t[Vring::Bytes(size) + Vring::kAlignment]),
      buffers(new uint8_t[size_t{size} * buffer_bytes]) {
  void* start = ring_bytes.get();
  size_t room = Vring::Bytes(size) + Vring::kAlignment;
  ring_start = static_cast<uint8_t*>(std::align(Vring::kAlignment, Vring::Bytes(size), start, room));
}

size_t RingDevice::available() const {
  return static_cast<uint16_t>(LoadWord<uint16_t>(ring_.available() + 2) - taken_index_);
}

uint16_t RingDevice::Take() {
  const size_t slot = taken_index_++ % ring_.size();
  return LoadWord<uint16_t>(ring_.available() + 4 + 2 * slot);
}

Bytes RingDevice::Read(uint16_t head) const {
  Bytes bytes;
  for (uint16_t id = head;;) {
    const uint8_t* descriptor = ring_.descriptors() + id * kDescriptor;
    const auto* from = reinterpret_cast<const uint8_t*>(LoadWord<uint64_t>(descriptor));
    bytes.insert(bytes.end(), from, from + LoadWord<uint32_t>(descriptor + 8));
    if ((Flags(id) & kNext) == 0) return bytes;
    id = LoadWord<uint16_t>(descriptor + 14);
  }
}

uint32_t RingDevice::Write(uint16_t head, const Bytes& bytes) const {
  std::copy(bytes.begin(), bytes.end(), ring_.buffer(head));
  return static_cast<uint32_t>(bytes.size());
}

uint16_t RingDevice::Flags(uint16_t id) const {
  return LoadWord<uint16_t>(ring_.descriptors() + id * kDescriptor + 12);
}

void RingDevice::PutElement(uint16_t index, uint32_t id, uint32_t written) const {
  uint8_t* element = ring_.used() + 4 + size_t{8} * (index % ring_.size());
  StoreWord(element, id);
  StoreWord(element + 4, written);
}

void RingDevice::SetUsedIndex(uint16_t index) {
  used_index_ = index;
  StoreWord(ring_.used() + 2, index);
}

void RingDevice::SetEvent(uint16_t index) const {
  StoreWord(ring_.used() + 4 + size_t{8} * ring_.size(), index);
}

uint16_t RingDevice::event() const {
  return LoadWord<uint16_t>(ring_.available() + 4 + size_t{2} * ring_.size());
}

}  // namespace tunsock::test
