#pragma once

#include <deque>

#include "core/io/socket_io.h"

namespace tunsock {

/// What is fixed about a UDP socket when it is open.
struct UdpFraming {
  bool six = false;       // AF_INET6: it may carry IPv4 too, in mapped addresses
  bool segments = false;  // UDP_GRO is on, and UDP_SEGMENT may be asked for
};

/// A socketaddr as DatagramMeta has it, IPv4 in a mapped address as IPv4.
void ReadAddress(const SocketAddress& address, socklen_t length, DatagramMeta* meta);

/// The address of `meta` for a socket of that family: its length, or a negative errno.
SysResult WriteAddress(const DatagramMeta& meta, bool six, SocketAddress* address);

/// A UDP socket. Each message is a datagram, or with `segments` several of one length. What the network tells
/// of datagrams that were sent (ICMP) is one error each, of a receive call, of PendingError(), or of a
/// receive call with MSG_ERRQUEUE, which also says whose; it never fails another send. udp(7), ip(7).
class UdpIo final : public SocketIo {
 public:
  UdpIo(int fd, UdpFraming framing) : SocketIo(fd, 0), framing_(framing) {}

  /// With MSG_ERRQUEUE, errors that were met by other calls come first, without what the kernel keeps of the
  /// datagram.
  SysResult Receive(const iovec* views, int count, int flags, PacketDetails* details) override;
  SysResult ReceiveBatch(const Batch& batch, int flags, SysResult* behind) override;
  SysResult SendBatch(const Batch& batch, uint32_t start, uint32_t end, int flags) override;
  /// SO_ERROR, which reading clears, and takes what there is out of the error queue, lest it be polled again.
  SysResult PendingError() override;
  /// Takes in the kernel's drop counter (SO_MEMINFO).
  [[nodiscard]] const IoStats& stats() override;

 private:
  void ReadMeta(msghdr* header, PacketMeta* meta, uint32_t* protocol) const override;
  [[nodiscard]] bool Addresses(const Batch& batch) const override { return batch.has_datagrams; }
  SysResult PrepareSend(const PacketMeta* offload, const PacketMeta* own, const iovec& first, SendRoom* room,
                        msghdr* header) const override;
  [[nodiscard]] bool MayBeOfAnother(SysResult result) const override;
  /// Takes messages out of the error queue, a bounded number of them. Returns how many were errors, and the
  /// first one's errno.
  uint32_t DrainErrors(SysResult* first);
  /// The same where a receive call has returned `told`.
  void TellErrors(SysResult told);

  UdpFraming framing_;
  /// What was taken out of the error queue, for whoever asks.
  std::deque<PacketMeta> errors_;
};

}  // namespace tunsock
