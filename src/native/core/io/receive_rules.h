#pragma once

#include <linux/if_tun.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "core/io/batch.h"

namespace tunsock {

/// Where recvmsg(2) on a tun device and on a socket differ. Whoever hands out a packet that was read before
/// (a segment of a superpacket, what nobody took) goes by these, so that nobody can tell where it came from.
struct ReceiveRules {
  /// MSG_PEEK leaves the packet where it is. Otherwise the flag is refused.
  bool peek = false;
  /// A receive into 0 bytes takes a packet. Otherwise it returns 0, and the packet stays.
  bool empty_takes = false;
  /// Each packet starts with struct tun_pi: TUN_PKT_STRIP in it says that the packet was cut, and a receive
  /// into fewer bytes than it has is refused.
  bool packet_info = false;

  /// Whether a receive call with `flags` is for a packet. What else there is (the error queue, flags that are
  /// refused) is for the descriptor.
  [[nodiscard]] bool ForPacket(int flags) const {
    return (flags & ~(MSG_DONTWAIT | MSG_TRUNC | (peek ? MSG_PEEK : 0))) == 0;
  }

  /// The same for a call that fills a batch: with MSG_PEEK each packet would be the first one.
  [[nodiscard]] static bool ForBatch(int flags) { return (flags & ~(MSG_DONTWAIT | MSG_TRUNC)) == 0; }

  /// What a call that may take `room` bytes of the next packet is told before there is a look at one: 1 to go
  /// on, 0 for a call that takes none, or a negative errno.
  [[nodiscard]] SysResult BeforePacket(size_t room) const {
    if (room == 0 && !empty_takes) return 0;
    return packet_info && room < sizeof(tun_pi) ? -EINVAL : 1;
  }
};

/// Copies the first bytes of scattered buffers; returns how many there were.
inline size_t CopyFromViews(const iovec* views, int count, uint8_t* out, size_t wanted) {
  size_t copied = 0;
  for (int i = 0; i < count && copied < wanted; ++i) {
    const size_t part = std::min(views[i].iov_len, wanted - copied);
    // An empty view may have no address, which memcpy(3) may not be given.
    if (part > 0) std::memcpy(out + copied, views[i].iov_base, part);
    copied += part;
  }
  return copied;
}

/// Scatters bytes into buffers; returns how many had room.
inline size_t CopyToViews(const uint8_t* bytes, size_t length, const iovec* views, int count) {
  size_t copied = 0;
  for (int i = 0; i < count && copied < length; ++i) {
    const size_t part = std::min(views[i].iov_len, length - copied);
    if (part > 0) std::memcpy(views[i].iov_base, bytes + copied, part);
    copied += part;
  }
  return copied;
}

/// Copies from scattered buffers into others; returns how many bytes had room.
inline size_t CopyViews(const iovec* from, int from_count, const iovec* to, int to_count) {
  size_t copied = 0;
  size_t to_at = 0;
  int target = 0;
  for (int i = 0; i < from_count; ++i) {
    const auto* bytes = static_cast<const uint8_t*>(from[i].iov_base);
    for (size_t left = from[i].iov_len; left > 0;) {
      while (target < to_count && to_at == to[target].iov_len) {
        ++target;
        to_at = 0;
      }
      if (target == to_count) return copied;
      const size_t part = std::min(left, to[target].iov_len - to_at);
      std::memcpy(static_cast<uint8_t*>(to[target].iov_base) + to_at, bytes, part);
      bytes += part;
      left -= part;
      to_at += part;
      copied += part;
    }
  }
  return copied;
}

/// Sets TUN_PKT_STRIP in the struct tun_pi that starts in `views`: the kernel has not seen that the packet is
/// cut.
inline void MarkStripped(const iovec* views, int count) {
  uint16_t flags = 0;
  auto* bytes = reinterpret_cast<uint8_t*>(&flags);
  CopyFromViews(views, count, bytes, sizeof flags);
  flags |= TUN_PKT_STRIP;
  CopyToViews(bytes, sizeof flags, views, count);
}

/// What recvmsg(2) returns for a packet.
inline SysResult ReceivedBytes(const PacketDetails& details, int flags) {
  return (flags & MSG_TRUNC) != 0 ? details.size : details.copied;
}

}  // namespace tunsock
