#include "core/offload/crc32c.h"

#include <array>

namespace tunsock {
namespace {

constexpr uint32_t kPolynomial = 0x82f63b78;  // 0x1edc6f41, with its bits reversed

constexpr std::array<uint32_t, 256> MakeTable() {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; byte++) {
    uint32_t value = byte;
    for (int bit = 0; bit < 8; bit++) value = (value >> 1) ^ ((value & 1) != 0 ? kPolynomial : 0);
    table[byte] = value;
  }
  return table;
}

constexpr std::array<uint32_t, 256> kTable = MakeTable();

}  // namespace

uint32_t Crc32c(const uint8_t* bytes, size_t size) {
  uint32_t value = UINT32_MAX;
  for (size_t i = 0; i < size; i++) value = (value >> 8) ^ kTable[(value ^ bytes[i]) & 0xff];
  return ~value;
}

}  // namespace tunsock
