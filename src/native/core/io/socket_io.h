#pragma once

#include <sys/socket.h>

#include <memory>

#include "core/io/packet_io.h"
#include "core/io/receive_headers.h"

namespace tunsock {

/// sendmsg(2), recvmsg(2), sendmmsg(2) and recvmmsg(2) on a socket; how addresses and control data are read
/// and written is for the subclass. Never blocks, whatever the descriptor's own mode: each call has
/// MSG_DONTWAIT.
class SocketIo : public PacketIo {
 public:
  /// `virtio_header`: bytes of it before each packet, kept apart from the caller's buffers.
  SocketIo(int fd, size_t virtio_header) : fd_(fd), virtio_header_(virtio_header) {}

  SysResult Receive(const iovec* views, int count, int flags, PacketDetails* details) override;
  SysResult Send(const iovec* views, int count, int flags, const PacketMeta* meta) override;
  SysResult ReceiveBatch(const Batch& batch, int flags, SysResult* behind) override;
  SysResult SendBatch(const Batch& batch, uint32_t start, uint32_t end, int flags) override;
  SysResult SendMessages(const Message* messages, uint32_t count, int flags) override;
  [[nodiscard]] ReceiveRules rules() const override { return {true, true, false}; }
  [[nodiscard]] PollTarget Target(short wanted) const override { return {fd_, wanted}; }

 protected:
  [[nodiscard]] int fd() const { return fd_; }

  /// Takes what came with a packet but for its virtio header. Name and control data of `header` are as the
  /// kernel left them.
  virtual void ReadMeta(msghdr* header, PacketMeta* meta, uint32_t* protocol) const = 0;

  /// Puts back into the bytes of a received packet of `size` bytes what the kernel took out of them; the
  /// length that it has then.
  virtual SysResult PutBack(const iovec* /*views*/, int /*count*/, SysResult size,
                            PacketMeta* /*meta*/) const {
    return size;
  }

  /// Whether what the metadata of `batch` says of where packets go is for this kind of socket.
  [[nodiscard]] virtual bool Addresses(const Batch& batch) const = 0;

  /// Puts name and control data into `header` for a packet that starts with `first`, in memory of `room`.
  /// `offload` (its virtio header) and `own` (where it goes) may be null. Returns 0, or why it can't be sent.
  virtual SysResult PrepareSend(const PacketMeta* offload, const PacketMeta* own, const iovec& first,
                                SendRoom* room, msghdr* header) const = 0;

  /// Says what a result of the kernel means.
  virtual SysResult Settle(SysResult result) { return result; }

  /// The same of one that was to send; `attempt` makes it once more.
  template <typename Attempt>
  SysResult SettleSent(Attempt attempt) {
    const SysResult result = Settle(RetryOnSignal(attempt));
    return result < 0 && MayBeOfAnother(result) ? Settle(RetryOnSignal(attempt)) : result;
  }

  /// Whether a send may have failed with what became of an earlier packet, and is to be made again.
  [[nodiscard]] virtual bool MayBeOfAnother(SysResult /*result*/) const { return false; }

  /// Whether a receive failed so because of a packet that can't be told, and which is gone.
  [[nodiscard]] virtual bool Undescribed(SysResult /*result*/) const { return false; }

  /// One recvmsg(2): the packet's true length, and the rest in `details`. What is in the error queue has
  /// neither virtio header nor anything to put back.
  SysResult ReceiveOne(const iovec* views, int count, int flags, PacketDetails* details);
  /// Whether `result` is that of a packet that can't be told: then it is counted.
  bool Dropped(SysResult result, int flags);

 private:
  SysResult SendOne(const iovec* views, int count, const PacketMeta* meta);
  /// One recvmsg(2) that leaves out packets which can't be told.
  SysResult ReceiveDescribed(const iovec* views, int count, int flags, PacketDetails* details);
  /// As many packets as recvmmsg(2) takes at once, into slots from `start` on.
  SysResult ReceiveChunk(const Batch& batch, uint32_t start, uint32_t count);
  SysResult SendChunk(const Batch& batch, uint32_t start, uint32_t end);

  int fd_;
  size_t virtio_header_;
  /// Made for the first batch: most sockets receive packets by one or by batch, not both.
  std::unique_ptr<ReceiveHeaders> receive_headers_;
};

}  // namespace tunsock
