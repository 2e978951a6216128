#pragma once

#include <poll.h>
#include <sys/uio.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "core/io/batch.h"
#include "core/io/receive_rules.h"
#include "core/sys/sys_result.h"

namespace tunsock {

/// The largest packet that the kernel hands over: an IP packet, and an Ethernet header with one VLAN tag.
constexpr size_t kMaxIpPacket = 65535;
constexpr size_t kMaxLinkHeader = 18;
constexpr size_t kMaxPacket = kMaxIpPacket + kMaxLinkHeader;

/// What one call may gather or scatter: IOV_MAX less the spill area that TunIo adds.
constexpr int kMaxViews = 1023;

/// The bytes of several buffers.
inline size_t TotalLength(const iovec* views, int count) {
  size_t total = 0;
  for (int i = 0; i < count; ++i) total += views[i].iov_len;
  return total;
}

/// 0, or why a packet of `total` bytes, of which up to `headers` stand before IP, can't be sent: it is empty,
/// or (which the kernel takes on a tun device, up to 131072 bytes) longer than any receiver can take.
inline SysResult CheckPacketLength(size_t total, size_t headers) {
  if (total == 0) return -EINVAL;
  return total > kMaxIpPacket + headers ? -EMSGSIZE : 0;
}

/// What a system call that moved a packet behind a virtio header of `header` bytes returned, without these.
inline SysResult WithoutHeader(SysResult result, size_t header) {
  return result < 0 ? result : std::max<SysResult>(0, result - static_cast<SysResult>(header));
}

/// What goes before a packet of `meta`, which may be null: its virtio header, or one that says nothing.
inline iovec HeaderView(const PacketMeta* meta, size_t header) {
  static constexpr PacketMeta kWholePacket{};
  const uint8_t* bytes = (meta != nullptr ? meta : &kWholePacket)->virtio_header;
  return {const_cast<uint8_t*>(bytes), header};
}

/// What goes in and out, counted where it happens. Never read or written from two threads.
struct IoStats {
  struct Direction {
    uint64_t packets = 0;
    uint64_t bytes = 0;
    uint64_t truncated = 0;
    uint64_t would_block = 0;
    uint64_t errors = 0;
    uint64_t dropped = 0;  // by the kernel, for want of room in the socket's queue
    uint64_t arrived = 0;  // what the kernel queued or dropped
  };
  Direction received;
  Direction sent;
};

/// What OffloadIo did, beside the packets that its caller saw.
struct OffloadStats {
  static constexpr uint32_t kTso4 = 0x02;  // as TUN_F_* has them
  static constexpr uint32_t kTso6 = 0x04;
  static constexpr uint32_t kUso = 0x60;

  uint64_t received = 0;  // superpackets that were cut
  uint64_t sent = 0;      // superpackets that were made
  uint32_t refused = 0;   // kinds that the kernel refused, and that are not made any more
};

/// One packet to send, in the terms of PacketIo::Send().
struct Message {
  const iovec* views = nullptr;
  int count = 0;
  const PacketMeta* meta = nullptr;
};

/// A descriptor, and the poll(2) events of it that are waited for. It stays the same for the life of an io.
struct PollTarget {
  int fd = -1;
  short events = 0;
};

/// Moves packets through one descriptor, one packet a message, and never blocks: what would block returns
/// -EAGAIN. Does not own the descriptor. Errors are negative errnos. `flags` are those of sendmsg(2) and
/// recvmsg(2).
class PacketIo {
 public:
  PacketIo() = default;
  PacketIo(const PacketIo&) = delete;
  PacketIo& operator=(const PacketIo&) = delete;
  virtual ~PacketIo() = default;

  /// Scatters the next packet into `views`. Returns the bytes copied, or with MSG_TRUNC in `flags` the
  /// packet's true length. `details` is filled when the result is not negative.
  virtual SysResult Receive(const iovec* views, int count, int flags, PacketDetails* details) = 0;

  /// Gathers `views` into one packet. Returns the bytes sent. `meta` may be null.
  virtual SysResult Send(const iovec* views, int count, int flags, const PacketMeta* meta) = 0;

  /// Fills `batch` from empty with what is queued. Returns the number of packets, or the error when there is
  /// not one. An error that was met behind packets goes into `behind`, which is otherwise left as it is.
  virtual SysResult ReceiveBatch(const Batch& batch, int flags, SysResult* behind) = 0;

  /// Sends packets `start` to `end` - 1 of `batch`. Returns how many were sent, or the error when it is not
  /// one.
  virtual SysResult SendBatch(const Batch& batch, uint32_t start, uint32_t end, int flags) = 0;

  /// Sends several packets, each of them gathered. Returns how many were sent, or the error when it is not
  /// one.
  virtual SysResult SendMessages(const Message* messages, uint32_t count, int flags) {
    for (uint32_t i = 0; i < count; ++i) {
      const SysResult sent = Send(messages[i].views, messages[i].count, flags, messages[i].meta);
      if (sent < 0) return i != 0 ? static_cast<SysResult>(i) : sent;
    }
    return static_cast<SysResult>(count);
  }

  /// How its receive calls differ from others'.
  [[nodiscard]] virtual ReceiveRules rules() const = 0;

  /// Packets that were taken from the descriptor and wait for a receive call. poll(2) does not see them.
  [[nodiscard]] virtual size_t Held() const { return 0; }

  /// Throws away what is held.
  virtual void Discard() {}

  /// What to poll for `wanted` (POLLIN: packets, POLLOUT: room to send).
  [[nodiscard]] virtual PollTarget Target(short wanted) const = 0;

  /// To be called before going to sleep for `wanted`: from here on the target shows it. True where it would
  /// be slept over: there are packets, or there is room, already.
  virtual bool Arm(short wanted) { return (wanted & POLLIN) != 0 && Held() != 0; }

  /// To be called when the target was ready with `ready`; returns which of POLLIN and POLLOUT may have come.
  virtual short Acknowledge(short ready) { return ready; }

  /// The error behind a POLLERR, as a negative errno; 0 where there is none (any more), or where what showed
  /// as one was taken out of the way.
  virtual SysResult PendingError() = 0;

  /// Where sending ends later than the call: waits until all that was sent has left, `timeout_ms` at most.
  /// Returns how many packets have not, or a negative errno.
  virtual SysResult Drain(int /*timeout_ms*/) { return 0; }

  /// The interface's mtu has changed: nothing longer is made of what is sent.
  virtual void SetMtu(size_t /*bytes*/) {}

  [[nodiscard]] virtual const IoStats& stats() { return stats_; }

  /// Null where nothing is cut or merged.
  [[nodiscard]] virtual const OffloadStats* offload_stats() const { return nullptr; }

 protected:
  /// Counts one operation in `direction` and returns its result as it is.
  static SysResult Count(IoStats::Direction* direction, SysResult result) {
    if (result >= 0) {
      direction->packets += 1;
      direction->bytes += static_cast<uint64_t>(result);
    } else if (result == -EAGAIN) {
      direction->would_block += 1;
    } else {
      direction->errors += 1;
    }
    return result;
  }

  IoStats stats_;
};

}  // namespace tunsock
