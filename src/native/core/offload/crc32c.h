#pragma once

#include <cstddef>
#include <cstdint>

namespace tunsock {

/// CRC-32C (RFC 9260, appendix A; RFC 3720, appendix B.4): what SCTP has in place of an internet checksum,
/// stored with its lowest byte first.
uint32_t Crc32c(const uint8_t* bytes, size_t size);

}  // namespace tunsock
