#pragma once

#include <sys/uio.h>

#include <cstddef>

#include "core/io/batch.h"

namespace tunsock {

/// Bytes of a VLAN tag in a frame: its own EtherType, and priority and number. They stand behind the two
/// addresses (IEEE 802.1Q).
constexpr size_t kVlanTag = 4;

/// Whether the kernel took a tag out of a frame, as PACKET_AUXDATA told.
[[nodiscard]] bool HasVlanTag(const PacketMeta& meta);

/// Puts the tag that the kernel took out of a frame back into its bytes, which are scattered in `views`, and
/// moves the offsets in its virtio header (of `header` bytes) by as much. `room`: how many bytes of `views`
/// the frame takes with its tag. What it pushes out behind them is gone.
void PutVlanTagBack(const iovec* views, int count, size_t room, size_t header, PacketMeta* meta);

}  // namespace tunsock
