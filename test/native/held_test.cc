#include <linux/if_tun.h>
#include <sys/socket.h>

#include "check.h"
#include "core/io/held_io.h"
#include "scripted_io.h"
#include "suites.h"

namespace tunsock::test {

namespace {

struct Fixture {
  explicit Fixture(ReceiveRules rules = {}) {
    auto scripted = std::make_unique<ScriptedIo>();
    inner = scripted.get();
    inner->receive_rules = rules;
    io = std::make_unique<HeldIo>(std::move(scripted));
  }

  void Comes(size_t length, uint32_t seed) {
    packets.push_back(Pattern(length, seed));
    inner->incoming.push_back({packets.back(), {}});
  }
  /// Reads what has come into a batch, of which those from `start` on are put back.
  void PutBackFrom(uint32_t start) {
    const SysResult count = io->ReceiveBatch(batch.view, MSG_DONTWAIT);
    CHECK(count > 0, "packets have come");
    const auto end = static_cast<uint32_t>(count);
    CHECK(io->PutBack(batch.view, start, end) == static_cast<SysResult>(end - start), "all are taken back");
  }
  Bytes Next(int flags = 0, size_t room = 2048) {
    Bytes packet(room);
    const iovec views[] = {{packet.data(), room / 2}, {packet.data() + room / 2, room - room / 2}};
    result = io->Receive(views, 2, flags, &details);
    packet.resize(result < 0 ? 0 : details.copied);
    return packet;
  }

  ScriptedIo* inner;
  std::unique_ptr<HeldIo> io;
  std::vector<Bytes> packets;
  TestBatch batch{8};
  PacketDetails details{};
  SysResult result = 0;
};

void TestOrder() {
  Fixture at;
  for (uint32_t i = 0; i < 6; i++) at.Comes(20 + i, i);
  at.PutBackFrom(2);
  CHECK(at.io->Held() == 4 && at.io->Arm(POLLIN) && !at.io->Arm(POLLOUT), "what was put back shows");
  at.Comes(99, 99);
  CHECK(at.Next() == at.packets[2], "first what was put back");
  CHECK(at.details.meta.interface_index == 7 && at.details.protocol == 0x0800, "with what is known of it");
  at.PutBackFrom(1);
  for (const size_t index : {4, 5, 6}) CHECK(at.Next() == at.packets[index], "in front of what is held");
  at.Next();
  CHECK(at.result == -EAGAIN && at.io->Held() == 0 && !at.io->Arm(POLLIN), "and then there is nothing");
}

void TestRules() {
  Fixture tun;
  tun.Comes(100, 1);
  tun.Comes(50, 2);
  tun.PutBackFrom(0);
  CHECK(tun.io->Receive(nullptr, 0, 0, &tun.details) == 0, "0 bytes take nothing from a tun");
  for (const int flags : {MSG_PEEK, MSG_OOB, MSG_ERRQUEUE}) {
    tun.Next(flags);
    CHECK(tun.result == -EINVAL, "flags are for the descriptor to refuse");
  }
  const Bytes head = tun.Next(MSG_TRUNC, 10);
  CHECK(tun.result == 100 && head.size() == 10 && tun.details.flags == MSG_TRUNC, "its true length");
  CHECK(tun.io->stats().received.truncated == 1, "that it was cut is counted");
  TestBatch small(2, 20);
  CHECK(tun.io->ReceiveBatch(small.view, MSG_PEEK) == -EINVAL, "no other flags for a batch");
  CHECK(tun.io->ReceiveBatch(small.view, 0) == 1 && small.view.lengths[0] == 20, "into a small slot");
  CHECK(small.view.sizes[0] == 50 && small.view.flags[0] == MSG_TRUNC, "its true length too");
  CHECK(tun.io->stats().received.truncated == 2, "and counted");

  Fixture socket({true, true, false});
  socket.Comes(30, 3);
  socket.Comes(40, 4);
  socket.PutBackFrom(0);
  CHECK(socket.Next(MSG_PEEK) == socket.packets[0], "a peek leaves it");
  CHECK(socket.io->Receive(nullptr, 0, 0, &socket.details) == 0, "0 bytes take a packet from a socket");
  CHECK(socket.details.flags == MSG_TRUNC && socket.details.size == 30, "all of which is gone");
  CHECK(socket.Next() == socket.packets[1], "the next one is whole");

  Fixture info({false, false, true});
  info.Comes(64, 5);
  info.PutBackFrom(0);
  info.Next(0, 3);
  CHECK(info.result == -EINVAL && info.io->Held() == 1, "fewer bytes than the packet info has are refused");
  Bytes cut = info.Next(0, 8);
  Bytes expected(info.packets[0].begin(), info.packets[0].begin() + 8);
  expected[0] |= TUN_PKT_STRIP;
  CHECK(cut == expected, "the packet info says that the packet was cut");
}

void TestErrorBehindPackets() {
  for (const bool by_batch : {true, false}) {
    Fixture at;
    at.Comes(20, 1);
    at.Comes(21, 2);
    at.inner->incoming.push_back({{}, {}, -ENOBUFS});
    at.PutBackFrom(0);
    CHECK(at.Next() == at.packets[0] && at.Next() == at.packets[1], "first the packets");
    if (by_batch) {
      CHECK(at.io->ReceiveBatch(at.batch.view, 0) == -ENOBUFS, "then the error");
    } else {
      at.Next();
      CHECK(at.result == -ENOBUFS, "then the error");
    }
    at.Next();
    CHECK(at.result == -EAGAIN, "once");
  }
}

void TestBadBatch() {
  Fixture at;
  at.Comes(20, 1);
  CHECK(at.io->ReceiveBatch(at.batch.view, 0) == 1, "a packet");
  at.batch.view.offsets[0] = UINT32_MAX;
  CHECK(at.io->PutBack(at.batch.view, 0, 1) == -EINVAL, "what lies outside of the memory is refused");
}

}  // namespace

void TestHeld() {
  TestOrder();
  TestRules();
  TestErrorBehindPackets();
  TestBadBatch();
}

}  // namespace tunsock::test
