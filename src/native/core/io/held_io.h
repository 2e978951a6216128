#pragma once

#include <deque>
#include <memory>

#include "core/io/packet_io.h"

namespace tunsock {

/// Packets that were received and that nobody took, over any io: they are put back here, and come first from
/// then on, by the same rules as those that come from below. Also an error that was met behind packets of a
/// batch waits here for the next call.
class HeldIo final : public PacketIo {
 public:
  explicit HeldIo(std::unique_ptr<PacketIo> inner) : inner_(std::move(inner)) {}

  /// Takes packets `start` to `end` - 1 of `batch` back, in front of those that are held already. Returns how
  /// many, which are all unless there is no memory: then the last ones are lost, and counted as dropped.
  SysResult PutBack(const Batch& batch, uint32_t start, uint32_t end);

  SysResult Receive(const iovec* views, int count, int flags, PacketDetails* details) override;
  SysResult Send(const iovec* views, int count, int flags, const PacketMeta* meta) override {
    return inner_->Send(views, count, flags, meta);
  }
  SysResult ReceiveBatch(const Batch& batch, int flags) { return ReceiveBatch(batch, flags, &error_); }
  SysResult SendBatch(const Batch& batch, uint32_t start, uint32_t end, int flags) override {
    return inner_->SendBatch(batch, start, end, flags);
  }
  [[nodiscard]] ReceiveRules rules() const override { return inner_->rules(); }
  [[nodiscard]] size_t Held() const override {
    return packets_.size() + (error_ != 0 ? 1 : 0) + inner_->Held();
  }
  void Discard() override {
    packets_.clear();
    inner_->Discard();
  }
  [[nodiscard]] PollTarget Target(short wanted) const override { return inner_->Target(wanted); }
  bool Arm(short wanted) override { return PacketIo::Arm(wanted) || inner_->Arm(wanted); }
  short Acknowledge(short ready) override { return inner_->Acknowledge(ready); }
  SysResult PendingError() override { return inner_->PendingError(); }
  SysResult Drain(int timeout_ms) override { return inner_->Drain(timeout_ms); }
  void SetMtu(size_t bytes) override { inner_->SetMtu(bytes); }
  [[nodiscard]] const IoStats& stats() override;
  [[nodiscard]] const OffloadStats* offload_stats() const override { return inner_->offload_stats(); }

 private:
  struct Packet {
    std::unique_ptr<uint8_t[]> bytes;
    PacketDetails details;  // `copied`: how many bytes there are
  };

  SysResult ReceiveBatch(const Batch& batch, int flags, SysResult* behind) override;
  /// Takes the first packet away, of which its taker had room for less than all.
  void Took(bool cut);

  std::unique_ptr<PacketIo> inner_;
  std::deque<Packet> packets_;
  SysResult error_ = 0;
  uint64_t truncated_ = 0;
  uint64_t dropped_ = 0;
};

}  // namespace tunsock
