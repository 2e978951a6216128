#pragma once

#include <linux/if_packet.h>
#include <sys/socket.h>

#include <memory>

#include "core/io/error_queue.h"
#include "core/io/packet_io.h"
#include "core/io/receive_headers.h"

namespace tunsock {

/// Where a packet goes that does not say so itself, or not all of it.
struct Destination {
  uint32_t interface_index = 0;  // 0: the one that the socket is bound to
  uint8_t address[8] = {};
  uint8_t length = 0;     // bytes of `address`; 0: as the packet's own link header says
  uint16_t protocol = 0;  // EtherType, host order; 0: the socket's, or as the packet itself says
};

/// What is fixed about a packet socket when it is open.
struct SocketFraming {
  uint32_t interface_index = 0;  // 0: all interfaces
  uint16_t protocol = 0;         // EtherType, host order, as bound
  bool tags_inline = false;      // a frame's VLAN tag is put back into its bytes (PACKET_AUXDATA is on)
  size_t virtio_header = 0;      // bytes of it (PACKET_VNET_HDR), kept apart from the caller's buffers
  Destination destination;       // of what is sent with none of its own
};

/// sendmsg(2), recvmsg(2), sendmmsg(2) and recvmmsg(2) on an AF_PACKET socket. Never blocks, whatever the
/// descriptor's own mode: each call has MSG_DONTWAIT. -ENETDOWN is told once when the interface goes down;
/// -EBADFD, from then on, when it is deleted and the queue is empty. net/packet/af_packet.c.
class SocketIo final : public PacketIo {
 public:
  SocketIo(int fd, SocketFraming framing) : fd_(fd), framing_(framing) {}

  SysResult Receive(const iovec* views, int count, int flags, PacketDetails* details) override;
  SysResult Send(const iovec* views, int count, int flags, const PacketMeta* meta) override;
  SysResult ReceiveBatch(const Batch& batch, int flags, SysResult* behind) override;
  SysResult SendBatch(const Batch& batch, uint32_t start, uint32_t end, int flags) override;
  [[nodiscard]] ReceiveRules rules() const override { return {true, true, false}; }
  [[nodiscard]] PollTarget Target(short wanted) const override { return {fd_, wanted}; }
  /// SO_ERROR, which reading clears; -EBADFD when the interface is deleted. What is in the error queue is
  /// taken out, and waits here for a receive call with MSG_ERRQUEUE.
  SysResult PendingError() override;
  /// Takes in the kernel's counters.
  [[nodiscard]] const IoStats& stats() override;

 private:
  SysResult ReceiveOne(const iovec* views, int count, int flags, PacketDetails* details);
  /// Puts the VLAN tag of a received frame of `size` bytes where it belongs; the length that it has then.
  SysResult PutTagBack(const iovec* views, int count, SysResult size, PacketMeta* meta) const;
  void EmptyErrorQueue();
  SysResult SendOne(const iovec* views, int count, const PacketMeta* meta);
  /// One recvmsg(2) that leaves out packets which no virtio header describes.
  SysResult ReceiveDescribed(const iovec* views, int count, int flags, PacketDetails* details);
  /// Whether `result` is that of such a packet, which the kernel has dropped: then it is counted.
  bool Undescribed(SysResult result, int flags);
  /// As many packets as recvmmsg(2) takes at once, into slots from `start` on.
  SysResult ReceiveChunk(const Batch& batch, uint32_t start, uint32_t count);
  SysResult SendChunk(const Batch& batch, uint32_t start, uint32_t end);
  /// The address to send a packet to that starts with `first`; empty when it needs none.
  socklen_t AddressOf(const Destination& destination, const uint8_t* first, size_t length,
                      sockaddr_ll* address) const;
  /// Says what a result of the kernel means for a socket whose interface may be gone.
  SysResult Settle(SysResult result);
  [[nodiscard]] bool Gone() const;

  int fd_;
  SocketFraming framing_;
  ErrorQueue error_queue_;
  /// Made for the first batch: most sockets receive packets by one or by batch, not both.
  std::unique_ptr<ReceiveHeaders> receive_headers_;
  /// The interface may be down, and so may be deleted too: nothing has gone in or out since it was.
  bool may_be_down_ = true;
};

}  // namespace tunsock
