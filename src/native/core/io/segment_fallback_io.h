#pragma once

#include <memory>

#include "core/io/packet_io.h"

namespace tunsock {

/// The most datagrams in one message: UDP_MAX_SEGMENTS of include/linux/udp.h, as it was before Linux 6.9.
constexpr uint32_t kMaxSegments = 64;
/// The most bytes of one that is several datagrams, over IPv6: 65535 less the UDP header, and the IP header,
/// which counts where the kernel cuts.
constexpr size_t kMaxRunBytes = 65535 - 8 - 40;

/// A UDP socket whose messages may be several datagrams of one length (UDP_SEGMENT), also where the kernel or
/// the path refuses these: then they go out one by one, in order, and so do from then on all that have
/// datagrams of that length and longer, or all that there are (offload_stats()->refused).
class SegmentFallbackIo final : public PacketIo {
 public:
  explicit SegmentFallbackIo(std::unique_ptr<PacketIo> inner) : inner_(std::move(inner)) {}

  /// Whether the kernel takes several datagrams of that length as one message, as far as is known.
  [[nodiscard]] bool Takes(size_t segment) const { return segment == 0 || segment < too_long_; }

  SysResult Receive(const iovec* views, int count, int flags, PacketDetails* details) override {
    return inner_->Receive(views, count, flags, details);
  }
  /// Of datagrams that go one by one, fewer than all where there was no room for the rest: what is returned
  /// ends with one of them.
  SysResult Send(const iovec* views, int count, int flags, const PacketMeta* meta) override;
  SysResult ReceiveBatch(const Batch& batch, int flags, SysResult* behind) override {
    return inner_->ReceiveBatch(batch, flags, behind);
  }
  /// A message of which only some datagrams went has not been sent; the batch keeps how many they were
  /// (DatagramMeta::segments_gone), and the next call goes on behind them.
  SysResult SendBatch(const Batch& batch, uint32_t start, uint32_t end, int flags) override;
  /// Those that are taken as they are: returns 0 where the first one is not, for Send() to see to.
  SysResult SendMessages(const Message* messages, uint32_t count, int flags) override;
  [[nodiscard]] ReceiveRules rules() const override { return inner_->rules(); }
  [[nodiscard]] PollTarget Target(short wanted) const override { return inner_->Target(wanted); }
  bool Arm(short wanted) override { return inner_->Arm(wanted); }
  short Acknowledge(short ready) override { return inner_->Acknowledge(ready); }
  SysResult PendingError() override { return inner_->PendingError(); }
  /// Messages; of those that go one by one, datagrams.
  [[nodiscard]] const IoStats& stats() override;
  [[nodiscard]] const OffloadStats* offload_stats() const override { return &offload_stats_; }

 private:
  /// What became of a message whose datagrams went one by one.
  struct OneByOne {
    size_t bytes = 0;
    SysResult error = 0;  // what stopped them
  };

  /// Sends datagrams `from` (bytes) and up of a message. `refusal`: what the kernel said to the whole, or 0.
  OneByOne SendOneByOne(const iovec* views, int count, int flags, const DatagramMeta& meta, size_t from,
                        SysResult refusal);
  /// The same for the message that is packet `index`: 0 when all of it went.
  SysResult SendPacketOneByOne(const Batch& batch, uint32_t index, int flags, SysResult refusal);
  /// Where the packets end that may be handed over as they are.
  [[nodiscard]] uint32_t TakenEnd(const Batch& batch, uint32_t start, uint32_t end) const;
  void CountSent(const Batch& batch, uint32_t start, SysResult count);

  std::unique_ptr<PacketIo> inner_;
  OffloadStats offload_stats_;
  /// Datagrams of that length and longer go out alone.
  size_t too_long_ = SIZE_MAX;
};

}  // namespace tunsock
