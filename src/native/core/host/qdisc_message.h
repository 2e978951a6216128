#pragma once

#include <cstdint>
#include <string>

#include "core/host/netlink_message.h"

namespace tunsock {

/// A queueing discipline of a link, as RTM_NEWQDISC tells.
struct QdiscInfo {
  uint32_t index = 0;
  std::string kind;
  uint32_t parent = 0;  // TC_H_ROOT for the link's own
  uint32_t handle = 0;  // 0 for the kernel's default
};

/// What netem does to the packets that a link sends; 0 is nothing. Parts are of one, 0 to 1. tc-netem(8).
struct Impairment {
  uint64_t delay_ns = 0;
  uint64_t jitter_ns = 0;
  double loss = 0;
  double duplicate = 0;
  double reorder = 0;
  uint64_t rate_bytes = 0;  // in a second; 0: no limit
  uint32_t limit = 1000;    // packets that wait
};

/// Reads what follows the header of an RTM_NEWQDISC message; false for bytes that are none.
bool ParseQdisc(Bytes payload, QdiscInfo* qdisc);

/// A request that makes netem the link's own discipline (`flags` NLM_F_CREATE | NLM_F_EXCL), or changes it
/// (none).
NetlinkMessage NetemRequest(uint16_t flags, uint32_t index, uint32_t handle, const Impairment& impairment);
NetlinkMessage RemoveQdiscRequest(uint32_t index, uint32_t handle);
NetlinkMessage ListQdiscsRequest(uint32_t index);

}  // namespace tunsock
