#pragma once

#include <linux/if_packet.h>
#include <sys/socket.h>

#include <cstddef>
#include <cstdint>

#include "core/io/batch.h"

namespace tunsock {

/// Takes what came with a packet but for its virtio header: where it came from, and its control data. Both
/// are as the kernel left them. `protocol` is the EtherType, 0 where there is none.
void ReadPacketMeta(msghdr* header, PacketMeta* meta, uint32_t* protocol);

}  // namespace tunsock
