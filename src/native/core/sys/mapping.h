#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <utility>

#include "core/sys/sys_result.h"

namespace tunsock {

/// Owns whole pages of zeroed memory that nothing else lies on, for sharing with the kernel.
class Mapping {
 public:
  Mapping() = default;
  Mapping(Mapping&& other) noexcept
      : start_(std::exchange(other.start_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Mapping& operator=(Mapping&& other) noexcept {
    std::swap(start_, other.start_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() {
    if (start_ != nullptr) ::munmap(start_, bytes_);
  }

  /// Changes `mapping` only when there is memory: otherwise -ENOMEM, or -EAGAIN where locked memory is
  /// limited.
  static SysResult Make(size_t bytes, Mapping* mapping) {
    void* start = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) return -errno;
    Mapping made;
    made.start_ = static_cast<uint8_t*>(start);
    made.bytes_ = bytes;
    *mapping = std::move(made);
    return 0;
  }

  [[nodiscard]] uint8_t* data() const { return start_; }
  [[nodiscard]] size_t size() const { return bytes_; }

 private:
  uint8_t* start_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace tunsock
