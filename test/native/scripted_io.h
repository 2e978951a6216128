#pragma once

#include <deque>
#include <vector>

#include "core/io/packet_io.h"
#include "packet_spec.h"

namespace tunsock::test {

/// A descriptor whose packets and refusals are written down beforehand, and which remembers what was sent.
class ScriptedIo final : public PacketIo {
 public:
  struct Incoming {
    Bytes packet;
    VirtioNetHdr header;
    SysResult error = 0;  // instead of a packet
    PacketMeta meta{};    // of Receive(), and of ReceiveBatch() where it is a datagram's, with a port
  };
  struct Outgoing {
    Bytes packet;
    VirtioNetHdr header;
    PacketMeta meta{};
  };

  /// What comes, in this order; behind it -EAGAIN.
  std::deque<Incoming> incoming;
  /// What the calls that send a packet return, 0 for success; behind it all succeed.
  std::deque<SysResult> refusals;
  std::vector<Outgoing> outgoing;
  ReceiveRules receive_rules;

  SysResult Receive(const iovec* views, int count, int flags, PacketDetails* details) override;
  SysResult Send(const iovec* views, int count, int flags, const PacketMeta* meta) override;
  SysResult ReceiveBatch(const Batch& batch, int flags, SysResult* behind) override;
  [[nodiscard]] ReceiveRules rules() const override { return receive_rules; }
  [[nodiscard]] PollTarget Target(short wanted) const override { return {-1, wanted}; }
  SysResult SendBatch(const Batch& batch, uint32_t start, uint32_t end, int flags) override;
  SysResult PendingError() override { return 0; }

 private:
  SysResult Refusal();
};

/// A PacketBatch's memory, and what one does to it in JavaScript.
class TestBatch {
 public:
  /// With `packet_size` 0 packets lie one behind another.
  explicit TestBatch(uint32_t capacity, uint32_t packet_size = 2048);

  /// As push(): `sizes` has the packet's number too, by which it is known after it was moved.
  void Push(const Bytes& packet, const VirtioNetHdr& header = {});
  [[nodiscard]] Bytes At(uint32_t index) const;

  Batch view;
  uint32_t length = 0;

 private:
  std::vector<uint64_t> memory_;
};

}  // namespace tunsock::test
