#include "core/offload/checksum.h"

#include <arpa/inet.h>

#include <algorithm>
#include <memory>

#include "check.h"
#include "core/offload/crc32c.h"
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

void TestCrc32c() {
  Bytes up(32);
  for (size_t i = 0; i < 32; i++) up[i] = static_cast<uint8_t>(i);
  const Bytes down(up.rbegin(), up.rend());
  const Bytes digits = {'1', '2', '3', '4', '5', '6', '7', '8', '9'};
  // RFC 3720, appendix B.4, whose sums are written as they lie in memory; and the usual check value.
  CHECK(Crc32c(Bytes(32, 0).data(), 32) == 0x8a9136aa, "32 bytes of zeros");
  CHECK(Crc32c(Bytes(32, 0xff).data(), 32) == 0x62a8ab43, "32 bytes of ones");
  CHECK(Crc32c(up.data(), 32) == 0x46dd794e, "32 bytes that go up");
  CHECK(Crc32c(down.data(), 32) == 0x113fdb5c, "32 bytes that go down");
  CHECK(Crc32c(digits.data(), 9) == 0xe3069283, "the digits from 1 to 9");
  CHECK(Crc32c(nullptr, 0) == 0, "nothing");
}

}  // namespace

void TestChecksum() {
  TestCrc32c();
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
