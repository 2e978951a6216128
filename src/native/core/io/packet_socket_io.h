#pragma once

#include "core/io/socket_io.h"

namespace tunsock {

/// Where a packet without a link header goes.
struct Destination {
  uint8_t address[8] = {};
  uint8_t length = 0;     // bytes of `address`; 0: nowhere in particular
  uint16_t protocol = 0;  // EtherType, host order; 0: the socket's, or as the packet itself says
};

/// What is fixed about a packet socket when it is open.
struct SocketFraming {
  uint32_t interface_index = 0;  // 0: all interfaces
  uint16_t protocol = 0;         // EtherType, host order, as bound
  bool control = false;          // PACKET_AUXDATA or SO_TIMESTAMPNS is on
  size_t virtio_header = 0;      // bytes of it (PACKET_VNET_HDR), kept apart from the caller's buffers
  Destination destination;       // of what is sent with none of its own
};

/// An AF_PACKET socket. -ENETDOWN is told once when the interface goes down; -EBADFD, from then on, when it
/// is deleted and the queue is empty. net/packet/af_packet.c.
class PacketSocketIo final : public SocketIo {
 public:
  PacketSocketIo(int fd, SocketFraming framing)
      : SocketIo(fd, {framing.virtio_header, framing.control}), framing_(framing) {}

  /// SO_ERROR, which reading clears; -EBADFD when the interface is deleted.
  SysResult PendingError() override;
  /// Takes in the kernel's drop counter.
  [[nodiscard]] const IoStats& stats() override;

 private:
  void ReadMeta(msghdr* header, PacketMeta* meta, uint32_t* protocol) const override;
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
  /// The interface may be down, and so may be deleted too: nothing has gone in or out since it was.
  bool may_be_down_ = true;
};

}  // namespace tunsock
