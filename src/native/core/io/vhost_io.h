#pragma once

#include <memory>
#include <utility>

#include "core/io/packet_io.h"
#include "core/sys/failure.h"
#include "core/sys/mapping.h"
#include "core/vhost/packet_rings.h"
#include "core/vhost/vhost_device.h"

namespace tunsock {

/// What VhostIo must know of the socket that it puts behind its rings.
struct VhostFraming {
  bool ethernet = false;  // packets start with an Ethernet header
  /// Bytes of the socket's own virtio header: kRingPacketHeader (TUNSETVNETHDRSZ), or 0 where it has none.
  size_t virtio_header = 0;
  /// As the socket's own receive calls go; packet info is not to be had.
  ReceiveRules rules;
};

struct VhostOptions {
  const char* path = "/dev/vhost-net";
  /// Buffers in each ring, of kVhostBuffer bytes: a power of two, at most Vring::kMaxSize.
  uint32_t ring_size = 256;
  VhostFraming framing;
};

/// Bytes of one buffer: a packet of an ordinary mtu and its headers fit one; what is longer takes several.
constexpr uint32_t kVhostBuffer = 2048;

/// Calls that went between this process and the kernel's thread: each is one system call of this side.
struct VhostCalls {
  uint64_t kicks = 0;  // to the thread
  uint64_t calls = 0;  // from the thread
};

/// A PacketIo over vhost-net: the kernel's thread calls the socket's own sendmsg and recvmsg
/// (drivers/vhost/net.c), and this side reads and writes rings. Packets are copied into and out of memory of
/// this object.
///
/// What differs from the socket's own calls: a packet that the device refuses (down, gone, malformed) is
/// dropped without an error, and sending ends after the call. Up to a ring of packets is taken out of the
/// device's queue before anybody receives; what waits here when the io is destroyed is lost, and what is
/// still to be sent too: Drain() first.
class VhostIo final : public PacketIo {
 public:
  /// Opens vhost-net and puts the socket `fd` behind it, which stays the caller's: while this io lives
  /// nothing else is to move its packets. A tun device needs its send buffer set first
  /// (VhostDevice::SetBackend()). -EINVAL in "vhost" for a ring size or virtio header that is none. Changes
  /// `io` only when all went well.
  static Failure Open(int fd, const VhostOptions& options, std::unique_ptr<VhostIo>* io);
  /// The kernel touches neither the socket nor the memory any more when this returns.
  ~VhostIo() override { device_.RemoveBackend(); }
  VhostIo(const VhostIo&) = delete;
  VhostIo& operator=(const VhostIo&) = delete;

  /// Who knows how the socket itself is: its errors, and what it has dropped. No packet goes that way.
  void SetSocket(std::unique_ptr<PacketIo> socket) { socket_ = std::move(socket); }

  SysResult Receive(const iovec* views, int count, int flags, PacketDetails* details) override;
  SysResult Send(const iovec* views, int count, int flags, const PacketMeta* meta) override;
  SysResult ReceiveBatch(const Batch& batch, int flags, SysResult* behind) override;
  SysResult SendBatch(const Batch& batch, uint32_t start, uint32_t end, int flags) override;
  [[nodiscard]] ReceiveRules rules() const override { return framing_.rules; }
  [[nodiscard]] size_t Held() const override { return looking_at_ ? 1 : 0; }
  /// The one event with which the kernel's thread tells of both rings.
  [[nodiscard]] PollTarget Target(short /*wanted*/) const override { return {device_.call_fd(), POLLIN}; }
  bool Arm(short wanted) override;
  short Acknowledge(short ready) override;
  /// -EPROTO when the rings are broken; else the socket's own.
  SysResult PendingError() override;

  SysResult Drain(int timeout_ms) override;

  [[nodiscard]] const IoStats& stats() override;

  [[nodiscard]] const VhostCalls& calls() const { return calls_; }

 private:
  VhostIo(Mapping&& memory, const VhostOptions& options);

  /// Sees to it that packet_ is the next packet: 0, -EAGAIN, or what PendingError() says.
  SysResult Look();
  /// Gives the buffers of packet_ back.
  void Took();
  /// What the metadata of packet_ and its first bytes say.
  void ReadMeta(PacketMeta* meta) const;
  [[nodiscard]] uint32_t ProtocolOf(const uint8_t* head, size_t length) const;
  SysResult Put(const iovec* views, int count, const PacketMeta* meta);
  void Publish(VhostQueue queue, Vring* ring);
  /// Lets the kernel's thread have the buffers that were given back.
  void PublishBuffers() { Publish(VhostQueue::kReceive, &receive_.ring()); }

  VhostFraming framing_;
  std::unique_ptr<PacketIo> socket_;  // may be null
  // The kernel's thread uses the memory until the device is closed, which is declared last and so goes first.
  Mapping memory_;
  ReceiveRing receive_;
  SendRing send_;
  VhostDevice device_;

  RingPacket packet_;
  bool looking_at_ = false;  // packet_ has been taken from the ring, and nobody has taken it
  uint32_t needed_ = 1;      // buffers that the packet needs for which there was no room
  VhostCalls calls_;
};

}  // namespace tunsock
