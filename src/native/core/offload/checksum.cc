#include "core/offload/checksum.h"

#include "core/offload/byte_order.h"

namespace tunsock {

// Eight sums of 32-bit words side by side, in plain C++. Tried on an AMD EPYC with g++ 12, 1448 bytes took 25
// ns so, 48 by add-with-carry and 15 by AVX2: ten nanoseconds of a packet's 600 don't pay for a second code
// path. With four sums it was 22 or 44 ns, by the address that the loop was linked at.
uint64_t InternetSum(const uint8_t* bytes, size_t size, uint64_t sum) {
  uint64_t lanes[8] = {0, 0, 0, 0, 0, 0, 0, 0};
  while (size >= 64) {
    for (size_t lane = 0; lane < 8; lane++) {
      const auto word = LoadWord<uint64_t>(bytes + 8 * lane);
      lanes[lane] += (word & 0xffffffff) + (word >> 32);
    }
    bytes += 64;
    size -= 64;
  }
  for (const uint64_t lane : lanes) sum += lane;
  while (size >= 4) {
    sum += LoadWord<uint32_t>(bytes);
    bytes += 4;
    size -= 4;
  }
  uint8_t tail[4] = {0, 0, 0, 0};
  for (size_t i = 0; i < size; i++) tail[i] = bytes[i];
  return sum + LoadWord<uint32_t>(tail);
}

uint64_t SumOfWord(uint16_t value) {
  return htons(value);
}

uint16_t FoldSum(uint64_t sum) {
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(sum);
}

}  // namespace tunsock
