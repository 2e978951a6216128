#include <algorithm>
#include <random>

#include "check.h"
#include "core/io/offload_io.h"
#include "flush.h"
#include "scripted_io.h"
#include "suites.h"

namespace tunsock::test {

namespace {

struct Fixture {
  Fixture() {
    auto scripted = std::make_unique<ScriptedIo>();
    inner = scripted.get();
    const GroOptions merge = {true, true, true, Framing::kIp};
    io = std::make_unique<OffloadIo>(std::move(scripted), merge);
  }

  SysResult Send(const TestBatch& batch, uint32_t start = 0) {
    return io->SendBatch(batch.view, start, batch.length, 0);
  }
  /// What was sent, cut again into the packets that it was made of.
  [[nodiscard]] std::vector<Bytes> Packets() const {
    std::vector<Bytes> packets;
    for (const ScriptedIo::Outgoing& sent : inner->outgoing) {
      for (Bytes& packet : Split({sent.header, sent.packet, {}}, Framing::kIp)) {
        packets.push_back(std::move(packet));
      }
    }
    return packets;
  }

  ScriptedIo* inner;
  std::unique_ptr<OffloadIo> io;
};

/// Packets of one flow that follow each other.
struct Flow {
  PacketSpec spec;

  explicit Flow(uint16_t port, bool tcp = true, int version = 4) {
    spec.source_port = port;
    spec.tcp = tcp;
    spec.version = version;
    spec.payload = Pattern(100, port);
  }
  Bytes Next() {
    Bytes packet = spec.Build();
    spec.sequence += static_cast<uint32_t>(spec.payload.size());
    spec.id++;
    return packet;
  }
};

std::vector<Bytes> PacketsIn(const TestBatch& batch, uint32_t from, uint32_t to) {
  std::vector<Bytes> packets;
  for (uint32_t i = from; i < to; i++) packets.push_back(batch.At(i));
  return packets;
}

void TestRefusals() {
  struct Kind {
    bool tcp;
    int version;
    uint32_t refused;
  };
  const Kind kinds[] = {{true, 4, OffloadStats::kTso4},
                        {true, 6, OffloadStats::kTso6},
                        {false, 4, OffloadStats::kUso},
                        {false, 6, OffloadStats::kUso}};
  for (const SysResult error : {-EINVAL, -EMSGSIZE, -EOPNOTSUPP}) {
    for (const Kind& kind : kinds) {
      Fixture at;
      Flow flow(1, kind.tcp, kind.version);
      TestBatch batch(8);
      for (int i = 0; i < 4; i++) batch.Push(flow.Next());
      const std::vector<Bytes> packets = PacketsIn(batch, 0, 4);
      at.inner->refusals = {error};
      CHECK(at.Send(batch) == 4, "all go");
      CHECK(at.inner->outgoing.size() == 4 && at.Packets() == packets, "one by one, as they were");
      CHECK(at.io->offload_stats()->refused == kind.refused, "the kind that was refused");
      CHECK(PacketsIn(batch, 0, 4) == packets, "the batch is as it was");
      CHECK(at.Send(batch) == 4 && at.inner->outgoing.size() == 8, "it is not tried again");
      CHECK(at.io->offload_stats()->sent == 0 && at.io->stats().sent.packets == 8, "as counted");
      CHECK(at.io->stats().sent.errors == 0, "no packet has failed");

      Flow other(2, !kind.tcp, kind.version);
      TestBatch others(4);
      for (int i = 0; i < 4; i++) others.Push(other.Next());
      CHECK(at.Send(others) == 4 && at.io->offload_stats()->sent == 1, "other kinds still are merged");
    }
  }
}

void TestOtherErrors() {
  for (const SysResult error : {-EIO, -EAGAIN, -EBADFD, -ENOBUFS}) {
    Fixture at;
    Flow flow(1);
    TestBatch batch(4);
    for (int i = 0; i < 4; i++) batch.Push(flow.Next());
    at.inner->refusals = {error};
    CHECK(at.Send(batch) == error && at.inner->outgoing.empty(), "is the result when it comes first");
    CHECK(at.io->offload_stats()->refused == 0, "and says nothing of superpackets");
    CHECK(at.Send(batch) == 4 && at.inner->outgoing.size() == 1, "so that they are made again");
  }
  Fixture at;
  Flow flow(1);
  TestBatch batch(4);
  for (int i = 0; i < 4; i++) batch.Push(flow.Next());
  at.inner->refusals = {-EINVAL, -EINVAL};
  CHECK(at.Send(batch) == -EINVAL, "the first packet by itself fails too");
  CHECK(at.io->offload_stats()->refused == 0, "then it was not the superpacket");
}

/// Two flows in turn: a0 b0 a1 b1 a2 b2.
TestBatch Interleaved() {
  TestBatch batch(6);
  Flow a(1);
  Flow b(2);
  for (int i = 0; i < 3; i++) {
    batch.Push(a.Next());
    batch.Push(b.Next());
  }
  return batch;
}

std::vector<uint32_t> Numbers(const TestBatch& batch) {
  return {batch.view.sizes, batch.view.sizes + batch.length};
}

void TestOrderAfterStop() {
  using Order = std::vector<uint32_t>;
  struct Case {
    std::deque<SysResult> refusals;
    SysResult sent;
    Order order;
  };
  const Case cases[] = {
      {{}, 6, {0, 1, 2, 3, 4, 5}},
      {{-EAGAIN}, -EAGAIN, {0, 1, 2, 3, 4, 5}},
      {{0, -EAGAIN}, 3, {0, 2, 4, 1, 3, 5}},
      {{0, -EINVAL, 0, -EIO}, 4, {0, 1, 2, 4, 3, 5}},
      {{-EINVAL, 0, -EAGAIN}, 1, {0, 1, 2, 3, 4, 5}},
      {{-EINVAL, 0, 0, -EAGAIN}, 2, {0, 2, 1, 3, 4, 5}},
      {{-EINVAL, 0, 0, 0, -EINVAL, -EIO}, 3, {0, 2, 4, 1, 3, 5}},
  };
  for (const Case& one : cases) {
    Fixture at;
    TestBatch batch = Interleaved();
    const std::vector<Bytes> packets = PacketsIn(batch, 0, 6);
    at.inner->refusals = one.refusals;
    CHECK(at.Send(batch) == one.sent, "how many went");
    CHECK(Numbers(batch) == one.order, "those that went come first, and both parts have kept their order");
    for (uint32_t i = 0; i < 6; i++) {
      CHECK(batch.At(i) == packets[one.order[i]], "all columns have moved alike");
    }
    const auto sent = static_cast<uint32_t>(std::max<SysResult>(0, one.sent));
    std::vector<Bytes> went = PacketsIn(batch, 0, sent);
    std::vector<Bytes> seen = at.Packets();
    std::sort(went.begin(), went.end());
    std::sort(seen.begin(), seen.end());
    CHECK(seen == went, "exactly those went");
  }
}

void TestBareAndLying() {
  Fixture at;
  Flow flow(1);
  TestBatch batch(8);
  for (int i = 0; i < 5; i++) batch.Push(flow.Next());
  batch.view.offsets[2] = UINT32_MAX;
  CHECK(at.Send(batch) == 2, "a packet that lies outside of the batch stops it");
  CHECK(at.Send(batch, 2) == -EINVAL && at.Send(batch, 3) == 2, "and is refused by itself");

  Fixture headed;
  PacketSpec spec;
  spec.payload = Pattern(300);
  TestBatch mixed(4);
  Flow other(2);
  mixed.Push(other.Next());
  mixed.Push(spec.BuildPartial(), spec.Header(100));
  mixed.Push(other.Next());
  mixed.Push(other.Next());
  mixed.view.has_headers = true;
  CHECK(headed.Send(mixed) == 4 && headed.inner->outgoing.size() == 3, "a superpacket between others");
  CHECK(headed.inner->outgoing[1].packet == spec.BuildPartial(), "goes out as it is");
  CHECK(headed.inner->outgoing[1].header.gso_size == 100, "with its header");
  CHECK(headed.io->offload_stats()->sent == 1, "what was made is counted, what was given is not");
}

void TestLongBatch() {
  Fixture at;
  TestBatch batch(1000, 256);
  Flow flow(1);
  for (int i = 0; i < 1000; i++) batch.Push(flow.Next());
  CHECK(at.Send(batch) == 1000, "a batch of any length");
  CHECK(at.Packets() == PacketsIn(batch, 0, 1000), "in order");
  const size_t flushes = (1000 + GroTable::kMaxPackets - 1) / GroTable::kMaxPackets;
  CHECK(at.inner->outgoing.size() == flushes, "as many packets at a time as the table holds");
}

/// Whoever loops, and skips the packet that fails, has sent every other one once and in order within its
/// flow.
void TestLoop() {
  std::mt19937 random(1);
  const auto below = [&](size_t limit) { return random() % limit; };
  for (int round = 0; round < 500; round++) {
    Fixture at;
    std::vector<Flow> flows;
    for (uint16_t i = 0; i < 4; i++) flows.emplace_back(i, i != 3, i == 2 ? 6 : 4);
    const auto count = static_cast<uint32_t>(1 + below(60));
    TestBatch batch(count, 256);
    std::vector<size_t> flow_of;
    for (uint32_t i = 0; i < count; i++) {
      flow_of.push_back(below(flows.size()));
      batch.Push(flows[flow_of.back()].Next());
    }
    const std::vector<Bytes> packets = PacketsIn(batch, 0, count);
    const SysResult errors[] = {0, 0, 0, 0, -EINVAL, -EIO, -EAGAIN};
    for (size_t i = below(30); i > 0; i--) at.inner->refusals.push_back(errors[below(7)]);

    std::vector<bool> skipped(count);
    for (uint32_t sent = 0; sent < count;) {
      const SysResult result = at.Send(batch, sent);
      CHECK(result != 0, "each call moves on");
      if (result == -EAGAIN) continue;
      if (result < 0) skipped[batch.view.sizes[sent]] = true;
      sent += result < 0 ? 1 : static_cast<uint32_t>(result);
    }
    const std::vector<Bytes> seen = at.Packets();
    CHECK(seen.size() == count - static_cast<size_t>(std::count(skipped.begin(), skipped.end(), true)),
          "each packet went once");
    std::vector<size_t> at_flow(flows.size());
    for (const Bytes& packet : seen) {
      const auto number =
          static_cast<size_t>(std::find(packets.begin(), packets.end(), packet) - packets.begin());
      CHECK(number < count && !skipped[number], "what went is one that was not skipped");
      size_t& last = at_flow[flow_of[number]];
      CHECK(last <= number, "in order within the flow");
      last = number + 1;
    }
  }
}

}  // namespace

void TestOffloadSend() {
  TestRefusals();
  TestOtherErrors();
  TestOrderAfterStop();
  TestBareAndLying();
  TestLongBatch();
  TestLoop();
}

}  // namespace tunsock::test
