#pragma once

#include <arpa/inet.h>

#include <cstdint>
#include <cstring>

namespace tunsock {

/// Words at any alignment, as they lie in memory and in network order (Be). The caller has checked that the
/// bytes are there.

template <typename Word>
Word LoadWord(const uint8_t* from) {
  Word word;
  std::memcpy(&word, from, sizeof word);
  return word;
}

template <typename Word>
void StoreWord(uint8_t* to, Word word) {
  std::memcpy(to, &word, sizeof word);
}

inline uint16_t LoadBe16(const uint8_t* from) {
  return ntohs(LoadWord<uint16_t>(from));
}
inline uint32_t LoadBe32(const uint8_t* from) {
  return ntohl(LoadWord<uint32_t>(from));
}
inline void StoreBe16(uint8_t* to, uint16_t value) {
  StoreWord(to, htons(value));
}
inline void StoreBe32(uint8_t* to, uint32_t value) {
  StoreWord(to, htonl(value));
}

}  // namespace tunsock
