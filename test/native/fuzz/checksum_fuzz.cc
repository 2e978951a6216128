#include <arpa/inet.h>

#include <algorithm>
#include <memory>

#include "check.h"
#include "core/offload/checksum.h"
#include "core/offload/crc32c.h"
#include "fuzz_target.h"

// Input: where in a word the bytes lie (1 byte), where they are cut (2 bytes), a sum to go on from (2 bytes),
// the bytes.

namespace tunsock::test {

namespace {

constexpr size_t kPrefix = 5;

/// RFC 9260, appendix A, bit by bit.
uint32_t SlowCrc(const uint8_t* bytes, size_t size) {
  uint32_t value = UINT32_MAX;
  for (size_t i = 0; i < size; i++) {
    value ^= bytes[i];
    for (int bit = 0; bit < 8; bit++) value = (value >> 1) ^ ((value & 1) != 0 ? 0x82f63b78 : 0);
  }
  return ~value;
}

/// In network order, as SlowSum() has them.
uint16_t Folded(uint64_t sum) {
  return ntohs(FoldSum(sum));
}

void SumAll(const uint8_t* bytes, size_t size, size_t alignment, size_t cut, uint16_t before) {
  // Nothing can be read or written behind them.
  const std::unique_ptr<uint8_t[]> from(new uint8_t[alignment + size]);
  const std::unique_ptr<uint8_t[]> to(new uint8_t[size]);
  const uint8_t* const at = std::copy(bytes, bytes + size, from.get() + alignment) - size;

  const uint16_t slow = SlowSum(bytes, size, before);
  const uint64_t start = SumOfWord(before);
  CHECK(Folded(InternetSum(at, size, start)) == slow, "the sum");
  CHECK(Folded(InternetSum(at + cut, size - cut, InternetSum(at, cut, start))) == slow,
        "the sum in two pieces");
  CHECK(ntohs(FinishSum(InternetSum(at, size, start))) == static_cast<uint16_t>(~slow), "the checksum");
  CHECK(Folded(CopyAndSum(to.get(), at, size, start)) == slow, "the sum of a copy");
  CHECK(std::equal(bytes, bytes + size, to.get()), "the copy");
  CHECK(Crc32c(at, size) == SlowCrc(bytes, size), "the sum of SCTP");
}

}  // namespace

std::vector<Bytes> SeedInputs() {
  std::vector<Bytes> inputs;
  for (const size_t size : {0, 1, 63, 64, 65, 200, 1500}) {
    for (const Bytes& bytes : {Pattern(size), Bytes(size, 0), Bytes(size, 0xff)}) {
      Bytes input = {static_cast<uint8_t>(size), 0, static_cast<uint8_t>(size / 2), 0xff, 0xfe};
      input.insert(input.end(), bytes.begin(), bytes.end());
      inputs.push_back(input);
    }
  }
  return inputs;
}

}  // namespace tunsock::test

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tunsock::test;
  if (size < kPrefix) return 0;
  const size_t length = size - kPrefix;
  const size_t alignment = data[0] % 32;
  // All pieces but the last are of even size.
  const size_t cut = static_cast<size_t>(data[1] << 8 | data[2]) % (length + 1) & ~size_t{1};
  SumAll(data + kPrefix, length, alignment, cut, static_cast<uint16_t>(data[3] << 8 | data[4]));
  return 0;
}
