#pragma once

#include "core/io/error_queue.h"
#include "core/io/socket_io.h"

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

/// An AF_PACKET socket. -ENETDOWN is told once when the interface goes down; -EBADFD, from then on, when it
/// is deleted and the queue is empty. net/packet/af_packet.c.
class PacketSocketIo final : public SocketIo {
 public:
  PacketSocketIo(int fd, SocketFraming framing) : SocketIo(fd, framing.virtio_header), framing_(framing) {}

  /// With MSG_ERRQUEUE, what PendingError() has taken out of the error queue comes first.
  SysResult Receive(const iovec* views, int count, int flags, PacketDetails* details) override;
  /// SO_ERROR, which reading clears; -EBADFD when the interface is deleted. What is in the error queue is
  /// taken out, and waits here for a receive call with MSG_ERRQUEUE.
  SysResult PendingError() override;
  /// Takes in the kernel's counters.
  [[nodiscard]] const IoStats& stats() override;

 private:
  void ReadMeta(msghdr* header, PacketMeta* meta, uint32_t* protocol) const override;
  /// Puts the VLAN tag of a received frame where it belongs.
  SysResult PutBack(const iovec* views, int count, SysResult size, PacketMeta* meta) const override;
  void EmptyErrorQueue();
  [[nodiscard]] bool Addresses(const Batch& batch) const override { return batch.has_destinations; }
  SysResult PrepareSend(const PacketMeta* offload, const PacketMeta* own, const iovec& first, SendRoom* room,
                        msghdr* header) const override;
  /// Says what a result of the kernel means for a socket whose interface may be gone.
  SysResult Settle(SysResult result) override;
  /// A packet that no virtio header describes: of a tunnel, say. virtio_net_hdr_from_skb() in
  /// include/linux/virtio_net.h.
  [[nodiscard]] bool Undescribed(SysResult result) const override {
    return result == -EINVAL && framing_.virtio_header != 0;
  }
  /// The address to send a packet to that starts with `first`; empty when it needs none.
  socklen_t AddressOf(const Destination& destination, const iovec& first, sockaddr_ll* address) const;
  [[nodiscard]] bool Gone() const;

  SocketFraming framing_;
  ErrorQueue error_queue_;
  /// The interface may be down, and so may be deleted too: nothing has gone in or out since it was.
  bool may_be_down_ = true;
};

}  // namespace tunsock
