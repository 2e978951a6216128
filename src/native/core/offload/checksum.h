#pragma once

#include <arpa/inet.h>

#include <cstddef>
#include <cstdint>

namespace tunsock {

/// The internet checksum (RFC 1071). Sums are kept unfolded in 64 bits, over words as they lie in memory, so
/// nothing is swapped on the way: a folded sum is stored with memcpy, as it is. A sum over n bytes grows by
/// less than n * 2^31, so no packet can overflow one.

/// Adds `size` bytes to `sum`. Where pieces are summed one by one, all but the last must be of even size.
uint64_t InternetSum(const uint8_t* bytes, size_t size, uint64_t sum = 0);

/// The same, and copies the bytes to `to`, which does not overlap with them: one way through memory for two.
uint64_t CopyAndSum(uint8_t* to, const uint8_t* bytes, size_t size, uint64_t sum = 0);

/// The term for a length or any other 16-bit number, given in host order.
inline uint64_t SumOfWord(uint16_t value) {
  return htons(value);
}

/// The 16-bit one's complement sum, in memory order: what a partial checksum field holds.
inline uint16_t FoldSum(uint64_t sum) {
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(sum);
}

/// The finished checksum: the complement of the folded sum, in memory order.
inline uint16_t FinishSum(uint64_t sum) {
  return static_cast<uint16_t>(~FoldSum(sum));
}

}  // namespace tunsock
