#include <sys/socket.h>

#include "check.h"
#include "core/io/held_io.h"
#include "core/io/offload_io.h"
#include "scripted_io.h"
#include "suites.h"

namespace tunsock::test {

namespace {

constexpr size_t kSegment = 100;

struct Fixture {
  explicit Fixture(bool socket_semantics = false) {
    auto scripted = std::make_unique<ScriptedIo>();
    inner = scripted.get();
    inner->receive_rules.peek = inner->receive_rules.empty_takes = socket_semantics;
    const GroOptions merge = {true, true, true, Framing::kIp};
    io = std::make_unique<HeldIo>(std::make_unique<OffloadIo>(std::move(scripted), merge));
  }

  /// A superpacket of `count` segments comes; returns what it is to be cut into.
  std::vector<Bytes> Comes(size_t count, uint32_t seed = 1) {
    PacketSpec spec;
    spec.payload = Pattern(count * kSegment, seed);
    inner->incoming.push_back({spec.BuildPartial(), spec.Header(kSegment)});
    std::vector<Bytes> segments;
    for (const PacketSpec& segment : spec.Cut(kSegment)) segments.push_back(segment.Build());
    return segments;
  }
  void ComesNonsense() {
    PacketSpec spec;
    spec.payload = Pattern(3 * kSegment);
    VirtioNetHdr header = spec.Header(kSegment);
    header.csum_start = 3;
    inner->incoming.push_back({spec.BuildPartial(), header});
  }
  void Fails(SysResult error) { inner->incoming.push_back({{}, {}, error}); }

  /// One packet by Receive().
  Bytes Next(int flags = 0, size_t room = 2048) {
    Bytes packet(room);
    const iovec view{packet.data(), packet.size()};
    const SysResult copied = io->Receive(&view, 1, flags, &details);
    CHECK(copied >= 0, "a packet is there");
    packet.resize(details.copied);
    return packet;
  }
  SysResult Error(int flags = 0) {
    uint8_t byte = 0;
    const iovec view{&byte, 1};
    return io->Receive(&view, 1, flags, &details);
  }

  ScriptedIo* inner;
  std::unique_ptr<HeldIo> io;
  PacketDetails details{};
};

void TestHolding() {
  Fixture at;
  const std::vector<Bytes> segments = at.Comes(20);
  CHECK(at.io->Held() == 0, "nothing is held before it is asked for");
  TestBatch batch(8);
  std::vector<Bytes> got;
  for (const SysResult expected : {8, 8, 4}) {
    CHECK(at.io->ReceiveBatch(batch.view, MSG_DONTWAIT) == expected, "a full batch, and then the rest");
    for (uint32_t i = 0; i < expected; i++) got.push_back(batch.At(i));
    CHECK(at.io->Held() == 20 - got.size(), "what is held");
  }
  CHECK(got == segments, "all segments in order");
  CHECK(at.io->ReceiveBatch(batch.view, MSG_DONTWAIT) == -EAGAIN, "and no more");
  CHECK(at.io->offload_stats()->received == 1, "one superpacket");
  CHECK(at.io->stats().received.packets == 20 && at.io->stats().received.would_block == 2, "as counted");
}

void TestWholeSuperpackets() {
  Fixture at;
  for (const size_t count : {5, 6, 2, 9}) at.Comes(count);
  TestBatch batch(8);
  for (const SysResult expected : {5, 8, 8, 1}) {
    CHECK(at.io->ReceiveBatch(batch.view, 0) == expected, "a superpacket is broken up where it must be only");
  }
}

void TestMetadata() {
  Fixture at;
  at.Comes(3);
  TestBatch batch(4);
  CHECK(at.io->ReceiveBatch(batch.view, 0) == 3, "three segments");
  for (uint32_t i = 0; i < 3; i++) {
    CHECK(!NeedsOffload(batch.view.meta[i]), "a segment is whole");
    CHECK(batch.view.meta[i].interface_index == 7, "what the link layer knows holds for each segment");
    CHECK(batch.view.protocols[i] == 0x0800 && batch.view.flags[i] == 0, "protocol and flags");
    CHECK(batch.view.sizes[i] == batch.view.lengths[i], "nothing is cut off");
  }
}

void TestDrops() {
  Fixture at;
  at.ComesNonsense();
  at.ComesNonsense();
  const std::vector<Bytes> segments = at.Comes(2);
  at.ComesNonsense();
  CHECK(at.Next() == segments[0] && at.Next() == segments[1], "what makes sense comes");
  CHECK(at.Error() == -EAGAIN, "what makes none is dropped");
  CHECK(at.io->stats().received.errors == 3, "and counted");

  for (int i = 0; i < 1000; i++) at.ComesNonsense();
  const std::vector<Bytes> late = at.Comes(1);
  TestBatch batch(4);
  int calls = 0;
  while (at.io->ReceiveBatch(batch.view, MSG_DONTWAIT) == -EAGAIN) calls++;
  CHECK(calls > 1 && calls < 100, "a call drops a bounded number");
  CHECK(batch.At(0) == late[0], "what comes behind them is not lost");
}

void TestKeptErrors() {
  for (const bool by_batch : {true, false}) {
    Fixture at;
    at.Comes(2);
    at.Fails(-EBADFD);
    at.Comes(1);
    TestBatch batch(8);
    CHECK(at.io->ReceiveBatch(batch.view, 0) == 2, "packets before the error");
    CHECK((by_batch ? at.io->ReceiveBatch(batch.view, 0) : at.Error()) == -EBADFD, "then the error");
    CHECK(at.io->ReceiveBatch(batch.view, 0) == 1, "once");
    CHECK(at.io->stats().received.errors == 1, "counted once");
  }
  Fixture at;
  at.Fails(-ENETDOWN);
  at.Comes(1);
  TestBatch batch(8);
  CHECK(at.io->ReceiveBatch(batch.view, 0) == -ENETDOWN, "an error before all packets shows at once");
  CHECK(at.io->ReceiveBatch(batch.view, 0) == 1, "and is not kept");
}

void TestCutting() {
  Fixture at;
  const std::vector<Bytes> segments = at.Comes(4);
  const size_t size = segments[0].size();
  const Bytes head = at.Next(0, 10);
  CHECK(head == Bytes(segments[0].begin(), segments[0].begin() + 10), "as much as there is room for");
  CHECK(at.details.size == size && at.details.flags == MSG_TRUNC, "and its true length");
  CHECK(at.Next() == segments[1], "the next segment is whole");
  Bytes room(10);
  const iovec view{room.data(), room.size()};
  CHECK(at.io->Receive(&view, 1, MSG_TRUNC, &at.details) == static_cast<SysResult>(size), "MSG_TRUNC");
  TestBatch small(2, 20);
  CHECK(at.io->ReceiveBatch(small.view, 0) == 1 && small.view.lengths[0] == 20, "into a small slot");
  CHECK(small.view.sizes[0] == size && small.view.flags[0] == MSG_TRUNC, "its true length too");
  CHECK(at.io->stats().received.truncated == 3, "as counted");
}

void TestSemantics() {
  Fixture tun;
  const std::vector<Bytes> of_tun = tun.Comes(2);
  CHECK(tun.io->Receive(nullptr, 0, 0, &tun.details) == 0, "0 bytes");
  CHECK(tun.Error(MSG_PEEK) == -EINVAL && tun.Error(MSG_OOB) == -EINVAL, "flags that tun refuses");
  CHECK(tun.Next() == of_tun[0], "none of it takes a packet from a tun");
  TestBatch batch(2);
  CHECK(tun.io->ReceiveBatch(batch.view, MSG_PEEK) == -EINVAL, "no flags for a batch");

  Fixture socket(true);
  const std::vector<Bytes> of_socket = socket.Comes(3);
  for (const Bytes& segment : of_socket) {
    if (segment == of_socket[1]) continue;
    CHECK(socket.Next(MSG_PEEK) == segment && socket.Next(MSG_PEEK) == segment, "a peek leaves it");
    CHECK(socket.Next() == segment, "and it is still right");
    if (segment != of_socket[0]) break;
    CHECK(socket.io->Receive(nullptr, 0, 0, &socket.details) == 0, "0 bytes take a packet from a socket");
    CHECK(socket.details.flags == MSG_TRUNC && socket.details.size == segment.size(), "all of which is gone");
  }
  CHECK(socket.Error(MSG_PEEK) == -EAGAIN, "nothing to peek at");
  CHECK(socket.io->stats().received.packets == 3, "a peek does not count");
}

}  // namespace

void TestOffloadReceive() {
  TestHolding();
  TestWholeSuperpackets();
  TestMetadata();
  TestDrops();
  TestKeptErrors();
  TestCutting();
  TestSemantics();
}

}  // namespace tunsock::test
