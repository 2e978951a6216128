#pragma once

#include <sys/uio.h>

#include <vector>

#include "core/vhost/vring.h"

namespace tunsock {

/// The header before each packet in a ring: struct virtio_net_hdr_v1, whose last word is num_buffers (virtio
/// 1.2, 5.1.6).
constexpr size_t kRingPacketHeader = 12;

/// Packets on their way out: each is copied into a chain of buffers, its header first.
class SendRing {
 public:
  SendRing(uint8_t* memory, uint32_t size, uint8_t* buffers, uint32_t buffer_bytes)
      : ring_(memory, size, buffers, buffer_bytes, Vring::Direction::kToDevice) {}

  [[nodiscard]] Vring& ring() { return ring_; }

  /// Puts a packet of `total` bytes in; the other side does not see it before ring().Publish(). `header` is
  /// kRingPacketHeader bytes. 0, -EAGAIN when there is no room for now, -EMSGSIZE when there never is, or
  /// -EPROTO.
  SysResult Put(const uint8_t* header, const iovec* views, int count, size_t total);

  /// Buffers that a packet of `total` bytes needs, with its header.
  [[nodiscard]] uint32_t BuffersFor(size_t total) const {
    const size_t room = ring_.buffer_bytes();
    return static_cast<uint32_t>((kRingPacketHeader + total + room - 1) / room);
  }

  /// Takes back the buffers of packets that are sent. Returns how many packets these were, or -EPROTO.
  SysResult Reap();

 private:
  Vring ring_;
};

/// A packet that lies in a ring's buffers, until Recycle().
struct RingPacket {
  const uint8_t* header = nullptr;  // kRingPacketHeader bytes
  const iovec* parts = nullptr;     // of its bytes, without the header
  int count = 0;
  size_t size = 0;
};

/// Packets on their way in. All buffers are with the other side, but for those of one packet. A packet that
/// does not fit one buffer lies in several (VIRTIO_NET_F_MRG_RXBUF).
class ReceiveRing {
 public:
  ReceiveRing(uint8_t* memory, uint32_t size, uint8_t* buffers, uint32_t buffer_bytes);

  [[nodiscard]] Vring& ring() { return ring_; }

  /// The next packet: 1, 0 when there is none, or -EPROTO. What the other side says of it is checked: its
  /// header is whole, and its buffers are all back. Recycle() comes before the
  /// next call.
  SysResult Next(RingPacket* packet);

  /// Gives the buffers of the packet back; the other side does not see it before ring().Publish().
  void Recycle();

 private:
  Vring ring_;
  std::vector<iovec> parts_;
  std::vector<uint16_t> taken_;  // heads
};

}  // namespace tunsock
