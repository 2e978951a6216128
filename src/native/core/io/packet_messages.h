#pragma once

#include <linux/if_packet.h>
#include <sys/socket.h>

#include <cstddef>
#include <cstdint>

#include "core/io/batch.h"

namespace tunsock {

/// Room for all control data that the kernel may send with one packet: whoever opened the descriptor, or
/// shares it, may have asked for more than we have, and what comes first would push ours out.
struct alignas(cmsghdr) ControlRoom {
  static constexpr size_t kTime = CMSG_SPACE(2 * sizeof(int64_t));      // SO_TIMESTAMP or its NS form
  static constexpr size_t kTimes = CMSG_SPACE(6 * sizeof(int64_t));     // SO_TIMESTAMPING
  static constexpr size_t kHardware = CMSG_SPACE(4 * sizeof(int32_t));  // SCM_TIMESTAMPING_PKTINFO
  static constexpr size_t kWords = 4 * CMSG_SPACE(sizeof(int32_t));     // drops, mark, priority, Wi-Fi
  static constexpr size_t kError = CMSG_SPACE(4 * sizeof(int32_t));  // sock_extended_err of the error queue
  static constexpr size_t kPacket = CMSG_SPACE(sizeof(tpacket_auxdata));
  uint8_t bytes[kTime + kTimes + kHardware + kWords + kError + kPacket];
};

/// Takes what came with a packet but for its virtio header: where it came from, and its control data. Both
/// are as the kernel left them. `protocol` is the EtherType, 0 where there is none.
void ReadMeta(msghdr* header, PacketMeta* meta, uint32_t* protocol);

}  // namespace tunsock
