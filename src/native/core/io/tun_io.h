#pragma once

#include <memory>

#include "core/io/packet_io.h"

namespace tunsock {

/// What each read and write of a tun descriptor carries, as TUNSETIFF settled it.
struct TunFraming {
  bool ethernet = false;     // IFF_TAP
  bool packet_info = false;  // struct tun_pi in front (no IFF_NO_PI); the caller's buffers hold it
  size_t virtio_header = 0;  // bytes of virtio_net_hdr (IFF_VNET_HDR), kept apart from the caller's buffers
};

/// The contract of the kernel's tun_sendmsg and tun_recvmsg (drivers/net/tun.c) over readv and writev, since
/// the descriptor itself refuses sendmsg and recvmsg with ENOTSOCK. The descriptor is O_NONBLOCK.
class TunIo final : public PacketIo {
 public:
  TunIo(int fd, TunFraming framing) : fd_(fd), framing_(framing) {}

  SysResult Receive(const iovec* views, int count, int flags, PacketDetails* details) override;
  SysResult Send(const iovec* views, int count, int flags, const PacketMeta* meta) override;
  SysResult ReceiveBatch(const Batch& batch, int flags, SysResult* behind) override;
  SysResult SendBatch(const Batch& batch, uint32_t start, uint32_t end, int flags) override;
  [[nodiscard]] ReceiveRules rules() const override { return {false, false, framing_.packet_info}; }
  [[nodiscard]] PollTarget Target(short wanted) const override { return {fd_, wanted}; }
  /// A tun descriptor polls POLLERR while it has no device: -EBADFD.
  SysResult PendingError() override;

 private:
  /// One readv(2) into `views` and, for its true length, what spills over.
  SysResult ReadPacket(const iovec* views, int count, PacketMeta* meta);
  /// The same by way of scratch_.
  SysResult ReadSmall(const iovec* views, int count, PacketMeta* meta);
  /// For a packet in a batch, which has memory before it.
  SysResult ReadSlot(uint8_t* slot, size_t room, PacketMeta* meta);
  SysResult WritePacket(const iovec* views, int count, size_t total, const PacketMeta* meta);
  SysResult WriteSlot(uint8_t* packet, size_t length, const PacketMeta* meta);
  /// 0, or why a packet of that length can't be sent.
  [[nodiscard]] SysResult CheckLength(size_t total) const;

  int fd_;
  TunFraming framing_;
  std::unique_ptr<uint8_t[]> scratch_;
};

}  // namespace tunsock
