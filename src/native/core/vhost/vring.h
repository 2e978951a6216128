#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/sys/sys_result.h"

namespace tunsock {

/// What the other side has done with the buffers of one chain.
struct UsedChain {
  uint16_t head = 0;
  uint32_t written = 0;  // bytes that it wrote; in the ring of a sender nothing is to be read out of it
};

/// The driver's side of a split virtqueue (virtio 1.2, 2.7) with the event index (2.7.10), as pure code on
/// memory.
///
/// Buffer N belongs to descriptor N for good: `size` buffers of `buffer_bytes` lie one behind another. A
/// message is a chain of one or more of them. Chains go round: Take() it, fill it, Expose() it, and after
/// Publish() it is the other side's until Next() brings it back, which ends in Release(), or as it is in
/// Expose() again.
///
/// The other side is distrusted. What it writes is the used ring only, of which each word is read once and
/// checked before it means anything; which descriptors are free, chained or with the other side is remembered
/// in memory that it does not see. An index that runs backwards or ahead of what was exposed, an id that is
/// none, or that is not with the other side (as when it comes twice), and a length over what the chain has
/// room for are -EPROTO, and so is every later call: the ring is broken.
class Vring {
 public:
  enum class Direction { kToDevice, kFromDevice };

  /// The largest ring that there is (virtio 1.2, 2.7).
  static constexpr uint32_t kMaxSize = 32768;
  static constexpr size_t kAlignment = 64;

  /// Bytes of the descriptor table, the available ring and the used ring, for a power of two of entries.
  static size_t Bytes(uint32_t size);

  /// Lays an empty ring over Bytes(size) bytes at `memory`, aligned to kAlignment, and over `buffers`. Both
  /// outlive it, at the place where the other side sees them: descriptors hold their addresses.
  Vring(uint8_t* memory, uint32_t size, uint8_t* buffers, uint32_t buffer_bytes, Direction direction);

  [[nodiscard]] uint32_t size() const { return size_; }
  [[nodiscard]] uint32_t buffer_bytes() const { return buffer_bytes_; }
  [[nodiscard]] uint8_t* buffer(uint16_t id) const { return buffers_ + size_t{id} * buffer_bytes_; }
  /// The descriptor that follows `id` in its chain; meaningless behind the last.
  [[nodiscard]] uint16_t next(uint16_t id) const { return next_[id]; }
  [[nodiscard]] uint8_t* descriptors() const { return memory_; }
  [[nodiscard]] uint8_t* available() const { return available_; }
  [[nodiscard]] uint8_t* used() const { return used_; }

  /// Descriptors that can be taken.
  [[nodiscard]] uint32_t free() const { return free_; }
  /// Chains that are exposed and have not come back.
  [[nodiscard]] uint32_t exposed() const { return exposed_; }
  /// Of these, those that the other side does not see yet.
  [[nodiscard]] uint32_t unpublished() const {
    return static_cast<uint16_t>(available_index_ - published_index_);
  }
  /// 0, or -EPROTO once the other side has broken the ring.
  [[nodiscard]] SysResult state() const { return state_; }

  /// Takes a chain of `count` descriptors, at least 1 and at most free(), of which the last has `last_bytes`
  /// of its buffer and the others all. Returns its head.
  uint16_t Take(uint32_t count, uint32_t last_bytes);
  /// Puts a chain into the available ring; the other side does not look at it before Publish().
  void Expose(uint16_t head);
  /// Lets the other side see what was exposed. Returns whether it asked to be told (kicked).
  [[nodiscard]] bool Publish();

  /// Chains that have come back and wait for Next().
  [[nodiscard]] SysResult Pending();
  /// Takes the next of those that Pending() has seen; -EAGAIN when there are no more.
  SysResult Next(UsedChain* chain);
  /// Makes the descriptors of a chain that came back free again.
  void Release(uint16_t head);

  /// Declares the ring broken, for what a message in it says of itself. Returns -EPROTO.
  SysResult Break();

  /// Asks not to be told of what comes back. It may be told all the same.
  void DisableCalls();
  /// Asks to be told as soon as `count` more chains (at least 1) than have been taken by Next() are back.
  /// Returns whether so many are back already, of which the other side will not tell: then look at Pending()
  /// before going to sleep. Or -EPROTO.
  [[nodiscard]] SysResult EnableCalls(uint32_t count = 1);

 private:
  struct Chain {
    uint32_t bytes = 0;  // that it has room for
    uint16_t count = 0;  // of descriptors
    bool with_device = false;
  };

  /// Reads the index of the used ring and checks it.
  SysResult ReadUsedIndex();

  uint8_t* memory_;
  uint8_t* available_;
  uint8_t* used_;
  uint8_t* buffers_;
  uint32_t size_;
  uint32_t buffer_bytes_;
  bool device_writes_;

  std::vector<uint16_t> next_;  // of a chain, or of the free list
  std::vector<Chain> chains_;   // by head
  uint16_t free_head_ = 0;
  uint32_t free_;
  uint32_t exposed_ = 0;
  uint16_t available_index_ = 0;  // behind the last that was exposed
  uint16_t published_index_ = 0;
  uint16_t used_index_ = 0;  // as last read
  uint16_t taken_index_ = 0;
  SysResult state_ = 0;
};

}  // namespace tunsock
