#include "core/offload/checksum.h"

#include <arpa/inet.h>

#include <algorithm>
#include <memory>

#include "check.h"
#include "packet_spec.h"
#include "suites.h"

namespace tunsock::test {

namespace {

/// The sum of `size` bytes at `alignment`, with nothing readable behind them.
uint16_t FastSum(const uint8_t* bytes, size_t size, size_t alignment) {
  const std::unique_ptr<uint8_t[]> exact(new uint8_t[alignment + size]);
  for (size_t i = 0; i < size; i++) exact[alignment + i] = bytes[i];
  return ntohs(FoldSum(InternetSum(exact.get() + alignment, size)));
}

/// The same while they are copied to the alignment, with nothing writable behind the copy.
uint16_t CopiedSum(const uint8_t* bytes, size_t size, size_t alignment) {
  const std::unique_ptr<uint8_t[]> exact(new uint8_t[alignment + size]);
  const uint16_t sum = ntohs(FoldSum(CopyAndSum(exact.get() + alignment, bytes, size)));
  CHECK(std::equal(bytes, bytes + size, exact.get() + alignment),
        "a copy of " + std::to_string(size) + " bytes");
  return sum;
}

void Compare(const Bytes& bytes, size_t size) {
  const uint16_t slow = SlowSum(bytes.data(), size);
  for (size_t alignment = 0; alignment < 16; alignment++) {
    const std::string where = std::to_string(size) + " bytes at alignment " + std::to_string(alignment);
    CHECK(FastSum(bytes.data(), size, alignment) == slow, "sum of " + where);
    CHECK(CopiedSum(bytes.data(), size, alignment) == slow, "sum of a copy of " + where);
  }
}

}  // namespace

void TestChecksum() {
  const Bytes random = Pattern(65600);
  for (size_t size = 0; size <= 2048; size++) Compare(random, size);
  for (size_t size = 2049; size < 65500; size += 1021) Compare(random, size);
  for (size_t size = 65500; size <= 65600; size++) Compare(random, size);

  for (const uint8_t fill : {0x00, 0xff}) {
    const Bytes uniform(65600, fill);
    for (const size_t size : {0, 1, 2, 3, 4, 31, 32, 33, 65534, 65535, 65600}) Compare(uniform, size);
  }

  for (size_t cut = 0; cut <= 128; cut += 2) {
    const uint64_t both = InternetSum(random.data() + cut, 4001 - cut, InternetSum(random.data(), cut));
    CHECK(ntohs(FoldSum(both)) == SlowSum(random.data(), 4001), "a sum in two pieces");
  }
  // More than a vector's lanes hold without a break.
  const Bytes ones(3'000'001, 0xff);
  CHECK(ntohs(FoldSum(InternetSum(ones.data(), ones.size()))) == SlowSum(ones.data(), ones.size()),
        "three megabytes");
  CHECK(FoldSum(0) == 0 && FoldSum(UINT64_MAX) == 0xffff && FoldSum(0x1'0000'0000) == 1, "folding");
  CHECK(FoldSum(0xffff'fffe'ffff'0001) == 0xffff, "folding with carries in each step");
  CHECK(FinishSum(0xffff) == 0 && FinishSum(0) == 0xffff, "the complement");
}

}  // namespace tunsock::test
