#pragma once

#include <arpa/inet.h>

#include <cstdint>
#include <cstring>

namespace tunsock {

/// Words in network order at any alignment. The caller has checked that the bytes are there.

inline uint16_t LoadBe16(const uint8_t* from) {
  uint16_t value;
  std::memcpy(&value, from, sizeof value);
  return ntohs(value);
}

inline uint32_t LoadBe32(const uint8_t* from) {
  uint32_t value;
  std::memcpy(&value, from, sizeof value);
  return ntohl(value);
}

inline void StoreBe16(uint8_t* to, uint16_t value) {
  value = htons(value);
  std::memcpy(to, &value, sizeof value);
}

inline void StoreBe32(uint8_t* to, uint32_t value) {
  value = htonl(value);
  std::memcpy(to, &value, sizeof value);
}

}  // namespace tunsock
