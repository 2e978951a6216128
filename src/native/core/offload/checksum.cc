#include "core/offload/checksum.h"

// The tests try the portable sum too.
#if defined(__x86_64__) && !defined(TUNSOCK_PORTABLE_SUM)
#define TUNSOCK_AVX2_SUM
#include <immintrin.h>
#endif

#include <algorithm>

#include "core/offload/byte_order.h"

namespace tunsock {
namespace {

/// What is left of a packet behind the last whole block, and packets that are shorter than one.
uint64_t SumTail(const uint8_t* bytes, size_t size, uint64_t sum) {
  while (size >= 4) {
    sum += LoadWord<uint32_t>(bytes);
    bytes += 4;
    size -= 4;
  }
  uint8_t tail[4] = {0, 0, 0, 0};
  for (size_t i = 0; i < size; i++) tail[i] = bytes[i];
  return sum + LoadWord<uint32_t>(tail);
}

constexpr size_t kBlock = 64;

/// Sums whole blocks: eight sums of 32-bit words side by side, in plain C++. With four of them the speed hung
/// on the address that the loop was linked at.
uint64_t SumBlocks(const uint8_t* bytes, size_t size) {
  uint64_t lanes[8] = {0, 0, 0, 0, 0, 0, 0, 0};
  for (size_t at = 0; at < size; at += kBlock) {
    for (size_t lane = 0; lane < 8; lane++) {
      const auto word = LoadWord<uint64_t>(bytes + at + 8 * lane);
      lanes[lane] += (word & 0xffffffff) + (word >> 32);
    }
  }
  uint64_t sum = 0;
  for (const uint64_t lane : lanes) sum += lane;
  return sum;
}

#ifdef TUNSOCK_AVX2_SUM

const bool g_has_avx2 = __builtin_cpu_supports("avx2") != 0;

/// Blocks after which a 32-bit lane could overflow.
constexpr size_t kMostBlocks = 1 << 14;

/// The sum of 16-bit words, 32 bytes at a time. pmaddwd adds pairs of signed words, so each word has 2^15
/// taken away, and the sum gets them back.
template <bool kCopy>
__attribute__((target("avx2"))) uint64_t SumBlocksAvx2(uint8_t* to, const uint8_t* bytes, size_t size) {
  const __m256i offset = _mm256_set1_epi16(INT16_MIN);
  const __m256i ones = _mm256_set1_epi16(1);
  uint64_t sum = 0;
  while (size != 0) {
    const size_t run = std::min(size, kMostBlocks * kBlock);
    __m256i even = _mm256_setzero_si256();
    __m256i odd = _mm256_setzero_si256();
    for (size_t at = 0; at < run; at += kBlock) {
      const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes + at));
      const __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes + at + 32));
      if (kCopy) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + at), a);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + at + 32), b);
      }
      even = _mm256_add_epi32(even, _mm256_madd_epi16(_mm256_xor_si256(a, offset), ones));
      odd = _mm256_add_epi32(odd, _mm256_madd_epi16(_mm256_xor_si256(b, offset), ones));
    }
    alignas(32) int32_t lanes[16];
    _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), even);
    _mm256_store_si256(reinterpret_cast<__m256i*>(lanes + 8), odd);
    int64_t signed_sum = 0;
    for (const int32_t lane : lanes) signed_sum += lane;
    sum += static_cast<uint64_t>(signed_sum + static_cast<int64_t>(run / 2) * 0x8000);
    if (kCopy) to += run;
    bytes += run;
    size -= run;
  }
  return sum;
}

#endif

}  // namespace

// On an AMD EPYC with g++ 12, 1448 bytes took 41 ns in plain C++ and 19 ns with AVX2; summed and copied to
// another place 83 ns in two steps and 45 in one. A segment is summed twice on its way through a forwarder.

uint64_t InternetSum(const uint8_t* bytes, size_t size, uint64_t sum) {
  const size_t blocks = size & ~(kBlock - 1);
  if (blocks != 0) {
#ifdef TUNSOCK_AVX2_SUM
    sum += g_has_avx2 ? SumBlocksAvx2<false>(nullptr, bytes, blocks) : SumBlocks(bytes, blocks);
#else
    sum += SumBlocks(bytes, blocks);
#endif
  }
  return SumTail(bytes + blocks, size - blocks, sum);
}

uint64_t CopyAndSum(uint8_t* to, const uint8_t* bytes, size_t size, uint64_t sum) {
#ifdef TUNSOCK_AVX2_SUM
  if (g_has_avx2) {
    const size_t blocks = size & ~(kBlock - 1);
    sum += SumBlocksAvx2<true>(to, bytes, blocks);
    std::memcpy(to + blocks, bytes + blocks, size - blocks);
    return SumTail(bytes + blocks, size - blocks, sum);
  }
#endif
  std::memcpy(to, bytes, size);
  return InternetSum(to, size, sum);
}

}  // namespace tunsock
