#include "core/host/mac_address.h"

#include <cstdio>

namespace tunsock {

bool ParseMac(const std::string& text, MacAddress* mac) {
  if (text.size() != mac->size() * 3 - 1) return false;
  for (size_t i = 0; i < mac->size(); ++i) {
    unsigned int byte = 0;
    if (std::sscanf(text.c_str() + i * 3, "%2x", &byte) != 1) return false;
    (*mac)[i] = static_cast<uint8_t>(byte);
  }
  return true;
}

std::string FormatMac(Bytes bytes) {
  std::string text;
  for (size_t i = 0; i < bytes.size; ++i) {
    char byte[4];
    std::snprintf(byte, sizeof byte, i == 0 ? "%02x" : ":%02x", bytes.data[i]);
    text += byte;
  }
  return text;
}

}  // namespace tunsock
