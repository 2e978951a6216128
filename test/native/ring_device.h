#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/vhost/vring.h"
#include "packet_spec.h"

namespace tunsock::test {

/// Memory for a ring of `size` buffers of `buffer_bytes`, with nothing readable behind.
struct RingMemory {
  RingMemory(uint32_t size, uint32_t buffer_bytes);
  [[nodiscard]] uint8_t* ring() const { return ring_start; }

  std::unique_ptr<uint8_t[]> ring_bytes;
  uint8_t* ring_start;
  std::unique_ptr<uint8_t[]> buffers;
};

/// The other side of a ring, honest or not; virtio 1.2, 2.7, on a little-endian machine.
class RingDevice {
 public:
  explicit RingDevice(const Vring& ring) : ring_(ring) {}

  /// Heads that are available and that Take() has not taken.
  [[nodiscard]] size_t available() const;
  uint16_t Take();
  /// All bytes of a chain, as the descriptors say where they are.
  [[nodiscard]] Bytes Read(uint16_t head) const;
  /// Writes over the first buffer of a chain; returns the bytes written.
  uint32_t Write(uint16_t head, const Bytes& bytes) const;
  /// The flags of a descriptor.
  [[nodiscard]] uint16_t Flags(uint16_t id) const;

  /// Gives a chain back.
  void Use(uint32_t id, uint32_t written) {
    PutElement(used_index_, id, written);
    SetUsedIndex(static_cast<uint16_t>(used_index_ + 1));
  }
  void PutElement(uint16_t index, uint32_t id, uint32_t written) const;
  void SetUsedIndex(uint16_t index);
  /// The index of the available ring of which it wants to be told.
  void SetEvent(uint16_t index) const;
  /// The index of the used ring of which the driver wants to be told.
  [[nodiscard]] uint16_t event() const;

 private:
  const Vring& ring_;
  uint16_t taken_index_ = 0;
  uint16_t used_index_ = 0;
};

}  // namespace tunsock::test
