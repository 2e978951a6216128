#pragma once

#include <array>
#include <memory>

#include "core/io/packet_io.h"
#include "core/offload/gro_table.h"
#include "core/offload/gso_split.h"

namespace tunsock {

/// Packets no longer than the MTU, with finished checksums, over an io whose packets have virtio headers:
/// superpackets are cut on receive, and made of runs of one flow when a batch is sent.
///
/// Receive: a superpacket is read whole into memory of this object, which holds what the caller has no room
/// for until the next call (Held()). A batch is filled with whole superpackets where they fit, so that they
/// can be made again when it is sent. A packet whose header makes no sense, or which is a superpacket of
/// nothing that GsoSplitter cuts, is dropped and counted as an error.
///
/// Send: packets of one flow keep their order, flows may overtake each other. Where the kernel refuses a
/// superpacket whose packets it takes one by one, superpackets of that kind are not made again (refused()).
class OffloadIo final : public PacketIo {
 public:
  OffloadIo(std::unique_ptr<PacketIo> inner, const GroOptions& merge);

  /// Whether there was memory for a superpacket; otherwise the object is not to be used.
  [[nodiscard]] bool HasMemory() const { return memory_ != nullptr; }

  SysResult Receive(const iovec* views, int count, int flags, PacketDetails* details) override;
  SysResult Send(const iovec* views, int count, int flags, const PacketMeta* meta) override;
  SysResult ReceiveBatch(const Batch& batch, int flags, SysResult* behind) override;
  /// The columns of `batch` are put in another order when this stops early: the packets that were sent come
  /// first, each part in its order, so that `start` and the result say what is left as ever.
  SysResult SendBatch(const Batch& batch, uint32_t start, uint32_t end, int flags) override;
  [[nodiscard]] ReceiveRules rules() const override { return inner_->rules(); }
  [[nodiscard]] PollTarget Target(short wanted) const override { return inner_->Target(wanted); }
  bool Arm(short wanted) override { return PacketIo::Arm(wanted) || inner_->Arm(wanted); }
  short Acknowledge(short ready) override { return inner_->Acknowledge(ready); }
  SysResult PendingError() override { return inner_->PendingError(); }
  SysResult Drain(int timeout_ms) override { return inner_->Drain(timeout_ms); }
  void SetMtu(size_t bytes) override;
  [[nodiscard]] size_t Held() const override { return splitter_.remaining(); }
  void Discard() override { splitter_ = GsoSplitter(); }
  [[nodiscard]] const IoStats& stats() override;
  [[nodiscard]] const OffloadStats* offload_stats() const override { return &offload_stats_; }

 private:
  /// What became of one flush.
  struct Flush {
    std::array<bool, GroTable::kMaxPackets> sent{};
    uint32_t count = 0;
    SysResult error = 0;
  };

  /// Sees to it that there is something to take. Returns 1 when a packet was read for it, 0 when one was
  /// there, or why there is none.
  SysResult Refill();
  SysResult SendSingle(const Batch& batch, uint32_t index, int flags);
  /// Packets that may be merged: sends them as few superpackets.
  SysResult SendRun(const Batch& batch, uint32_t start, uint32_t end, int flags);
  void SendGroup(const Batch& batch, uint32_t start, size_t index, int flags, Flush* flush);
  void SendMembers(const Batch& batch, uint32_t start, const GroGroup& group, int flags, Flush* flush);
  [[nodiscard]] bool MayMerge(const Batch& batch, uint32_t index) const;
  void StopMerging(const VirtioNetHdr& header);

  std::unique_ptr<PacketIo> inner_;
  OffloadStats offload_stats_;
  std::unique_ptr<uint64_t[]> memory_;  // of incoming_; words, so that the metadata is aligned
  Batch incoming_;                      // one packet
  GsoSplitter splitter_;
  GroTable table_;
};

}  // namespace tunsock
