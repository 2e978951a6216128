#include "core/io/vlan_tag.h"

#include <linux/if_ether.h>
#include <linux/if_packet.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "core/offload/byte_order.h"
#include "core/offload/virtio_net_hdr.h"

namespace tunsock {
namespace {

/// Where the tag stands: behind the addresses.
constexpr size_t kAt = size_t{2} * ETH_ALEN;

/// Fields of struct virtio_net_hdr_v1_hash_tunnel beyond VirtioNetHdr: little-endian offsets.
constexpr size_t kOuterTransport = 20;
constexpr size_t kInnerNetwork = 22;

void MoveTunnelOffset(uint8_t* at) {
  const uint32_t offset = at[0] | static_cast<uint32_t>(at[1]) << 8;
  if (offset == 0) return;
  at[0] = static_cast<uint8_t>(offset + kVlanTag);
  at[1] = static_cast<uint8_t>((offset + kVlanTag) >> 8);
}

void MoveOffsets(uint8_t* bytes, size_t size) {
  if (size < VirtioNetHdr::kSize) return;
  VirtioNetHdr header = VirtioNetHdr::Decode(bytes);
  if (header.needs_checksum()) header.csum_start = static_cast<uint16_t>(header.csum_start + kVlanTag);
  if (header.hdr_len != 0) header.hdr_len = static_cast<uint16_t>(header.hdr_len + kVlanTag);
  std::memcpy(bytes, &header, VirtioNetHdr::kSize);
  if (size < kMaxVirtioHeader) return;
  MoveTunnelOffset(bytes + kOuterTransport);
  MoveTunnelOffset(bytes + kInnerNetwork);
}

/// Moves `size` bytes at `at` on by kVlanTag: those in `carry` come first, and those that have no room any
/// more are in it then.
void Shift(uint8_t* at, size_t size, uint8_t* carry) {
  uint8_t pushed[kVlanTag];
  if (size >= kVlanTag) {
    std::memcpy(pushed, at + size - kVlanTag, kVlanTag);
    std::memmove(at + kVlanTag, at, size - kVlanTag);
    std::memcpy(at, carry, kVlanTag);
  } else {
    std::memcpy(pushed, carry + size, kVlanTag - size);
    std::memcpy(pushed + kVlanTag - size, at, size);
    std::memcpy(at, carry, size);
  }
  std::memcpy(carry, pushed, kVlanTag);
}

}  // namespace

bool HasVlanTag(const PacketMeta& meta) {
  return (meta.status & TP_STATUS_VLAN_VALID) != 0;
}

void PutVlanTagBack(const iovec* views, int count, size_t room, size_t header, PacketMeta* meta) {
  MoveOffsets(meta->virtio_header, header);
  // Kernels before 3.14 had no other kind.
  const bool told = (meta->status & TP_STATUS_VLAN_TPID_VALID) != 0;
  uint8_t carry[kVlanTag];
  StoreBe16(carry, told ? meta->vlan_tpid : static_cast<uint16_t>(ETH_P_8021Q));
  StoreBe16(carry + 2, meta->vlan_tci);
  size_t position = 0;
  for (int i = 0; i < count && position < room; ++i) {
    const size_t size = std::min(views[i].iov_len, room - position);
    const size_t skipped = std::min(size, kAt - std::min(kAt, position));
    if (size > skipped) Shift(static_cast<uint8_t*>(views[i].iov_base) + skipped, size - skipped, carry);
    position += size;
  }
}

}  // namespace tunsock
