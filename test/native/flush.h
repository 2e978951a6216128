#pragma once

#include <vector>

#include "core/offload/gro_table.h"
#include "packet_spec.h"

namespace tunsock::test {

/// One write, as the device would see it.
struct Written {
  VirtioNetHdr header;
  Bytes bytes;
  std::vector<uint16_t> members;
};

/// Adds `packets` (at most kMaxPackets), gathers every group into memory, and clears the table. Checks that
/// each packet is in one group, that groups stand in the order of their first packets, and the sizes given.
std::vector<Written> Flush(GroTable& table, const std::vector<Bytes>& packets);

/// Cuts `write` as its virtio header says.
std::vector<Bytes> Split(const Written& write, Framing framing);

/// Whether `segments` are the packets `write` was made of: bit for bit, but that where all had the same IPv4
/// id and DF the ids count up, and that UDP over IPv4 without a checksum has got the right one.
bool GivenBack(const std::vector<Bytes>& segments, const std::vector<Bytes>& packets, const Written& write,
               Framing framing);

}  // namespace tunsock::test
