#pragma once

#include <memory>
#include <vector>

#include "core/io/segment_fallback_io.h"

namespace tunsock {

/// Single datagrams over a UDP socket whose messages may be several of one length: they are cut on receive,
/// and runs of them to one destination are sent together (UDP_GRO, UDP_SEGMENT), as long as those are taken.
/// Nothing overtakes anything.
class DatagramOffloadIo final : public PacketIo {
 public:
  explicit DatagramOffloadIo(std::unique_ptr<SegmentFallbackIo> inner);

  SysResult Receive(const iovec* views, int count, int flags, PacketDetails* details) override;
  SysResult Send(const iovec* views, int count, int flags, const PacketMeta* meta) override;
  SysResult ReceiveBatch(const Batch& batch, int flags, SysResult* behind) override;
  SysResult SendBatch(const Batch& batch, uint32_t start, uint32_t end, int flags) override;
  [[nodiscard]] ReceiveRules rules() const override { return inner_->rules(); }
  [[nodiscard]] PollTarget Target(short wanted) const override { return inner_->Target(wanted); }
  bool Arm(short wanted) override { return PacketIo::Arm(wanted) || inner_->Arm(wanted); }
  short Acknowledge(short ready) override { return inner_->Acknowledge(ready); }
  SysResult PendingError() override { return inner_->PendingError(); }
  [[nodiscard]] size_t Held() const override;
  [[nodiscard]] const IoStats& stats() override;
  [[nodiscard]] const OffloadStats* offload_stats() const override { return &offload_stats_; }

 private:
  /// Sees to it that there is a datagram to take: 1 when a message was read for it, 0 when one was there, or
  /// why there is none.
  SysResult Refill();
  /// Bytes of each datagram but the last in a message of `length` bytes.
  size_t SegmentOf(const DatagramMeta& meta, size_t length);
  /// There are `length` bytes in incoming_, of which datagrams are taken.
  void Begin(DatagramMeta meta, size_t length, size_t segment);
  /// The next datagram as packet `index` of a batch.
  void Take(const Batch& batch, uint32_t index);
  /// Reads a message where the slot of packet `start` is; its datagrams are the next packets, as they lie
  /// there behind one another. Returns how many; what has no room is to be taken out of incoming_.
  SysResult ReceiveInPlace(const Batch& batch, uint32_t start);
  /// Reads several messages in one call, each into its own part of the batch, which has room for any: their
  /// datagrams are the next packets. Returns how many these are, or the error when there is no message.
  /// `ended`: nothing more has come, or has room.
  SysResult ReceiveSeveral(const Batch& batch, uint32_t start, bool* ended, SysResult* behind);
  /// How many messages that takes, however many datagrams they are.
  [[nodiscard]] uint32_t RoomForMessages(const Batch& batch, uint32_t start) const;
  /// Makes packets out of a message that lies in the batch at `offset`, from `index` on. Returns how many.
  uint32_t Describe(const Batch& batch, uint32_t index, size_t offset, size_t size, uint32_t protocol,
                    const PacketMeta& meta, size_t segment);
  /// Bytes of the next datagram.
  [[nodiscard]] size_t NextSize() const;
  void Took();
  /// Where the datagrams end that can go out together with the one at `start`.
  [[nodiscard]] uint32_t RunEnd(const Batch& batch, uint32_t start, uint32_t end) const;
  /// Where the next run of two or more starts.
  [[nodiscard]] uint32_t SinglesEnd(const Batch& batch, uint32_t start, uint32_t end) const;
  SysResult SendSingles(const Batch& batch, uint32_t start, uint32_t end, int flags);
  SysResult SendRun(const Batch& batch, uint32_t start, uint32_t end, int flags);
  /// Sends runs from `start` on, up to a single datagram, in one call. Returns how many datagrams went: 0
  /// where the first run is for SendRun().
  SysResult SendRuns(const Batch& batch, uint32_t start, uint32_t end, int flags);
  /// The run from `start` to `end` - 1 as one message, whose views and metadata are put where it says.
  static Message Gather(const Batch& batch, uint32_t start, uint32_t end, iovec* views, PacketMeta* meta);
  void CountSent(const Batch& batch, uint32_t start, uint32_t count);

  std::unique_ptr<SegmentFallbackIo> inner_;
  OffloadStats offload_stats_;
  std::vector<uint64_t> memory_;   // of incoming_; words, so that the metadata is aligned
  Batch incoming_;                 // one message
  std::vector<uint64_t> columns_;  // of messages that lie in a caller's batch; made when first wanted
  bool done_ = true;
  size_t segment_ = 0;
  // Of the last message that had several.
  size_t last_segment_ = 0;
  uint32_t last_count_ = 0;
  size_t next_ = 0;  // where in the message the next datagram starts
};

}  // namespace tunsock
