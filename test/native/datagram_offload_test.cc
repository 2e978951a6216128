#include <sys/socket.h>

#include <cerrno>
#include <string>

#include "check.h"
#include "core/io/datagram_offload_io.h"
#include "scripted_io.h"
#include "suites.h"

namespace tunsock::test {

namespace {

using Sizes = std::vector<size_t>;

/// Bytes of a message, and of each of its datagrams; 0 where it is one.
struct Message {
  size_t length;
  size_t segment;
  bool operator==(const Message& other) const { return length == other.length && segment == other.segment; }
};
using Messages = std::vector<Message>;

struct Fixture {
  Fixture() {
    auto scripted = std::make_unique<ScriptedIo>();
    inner = scripted.get();
    inner->receive_rules.peek = inner->receive_rules.empty_takes = true;
    io = std::make_unique<DatagramOffloadIo>(std::make_unique<SegmentFallbackIo>(std::move(scripted)));
  }

  /// A message of `length` bytes comes, with several datagrams of `segment` bytes where that is not 0;
  /// returns the datagrams.
  std::vector<Bytes> Comes(size_t length, uint16_t segment = 0, uint16_t port = 7) {
    DatagramMeta meta{};
    meta.port = port;
    meta.segment_size = segment;
    ScriptedIo::Incoming message{Pattern(length, ++seed), {}};
    PutDatagram(meta, &message.meta);
    inner->incoming.push_back(message);
    std::vector<Bytes> datagrams;
    const size_t each = segment == 0 ? length : segment;
    size_t at = 0;
    do {
      const size_t end = std::min(length, at + each);
      datagrams.emplace_back(message.packet.begin() + static_cast<long>(at),
                             message.packet.begin() + static_cast<long>(end));
      at = end;
    } while (at < length);
    return datagrams;
  }

  Messages Went() {
    Messages messages;
    for (const ScriptedIo::Outgoing& message : inner->outgoing) {
      messages.push_back({message.packet.size(), DatagramOf(message.meta).segment_size});
    }
    inner->outgoing.clear();
    return messages;
  }

  ScriptedIo* inner;
  std::unique_ptr<DatagramOffloadIo> io;
  PacketDetails details{};
  uint32_t seed = 0;
};

void Append(std::vector<Bytes>* all, const std::vector<Bytes>& more) {
  all->insert(all->end(), more.begin(), more.end());
}

void TestRuns() {
  const struct {
    Sizes datagrams;
    Messages messages;
  } rows[] = {
      {{100}, {{100, 0}}},
      {{100, 100, 100}, {{300, 100}}},
      {{100, 100, 40}, {{240, 100}}},
      {{100, 40, 40, 40}, {{140, 100}, {80, 40}}},            // what is shorter is the last
      {{100, 100, 120, 120, 120}, {{200, 100}, {360, 120}}},  // what is longer is another's first
      {{40, 100, 40}, {{40, 0}, {140, 100}}},
      {{100, 0, 100}, {{100, 0}, {0, 0}, {100, 0}}},  // an empty one is one, and alone
      {{0, 0}, {{0, 0}, {0, 0}}},
      {Sizes(130, 1), {{64, 1}, {64, 1}, {2, 1}}},               // UDP_MAX_SEGMENTS
      {Sizes(46, 1472), {{44 * 1472, 1472}, {2 * 1472, 1472}}},  // 65487 bytes: IPv6, UDP
      {{32743, 32743, 1}, {{65487, 32743}}},
      {{32743, 32743, 2}, {{65486, 32743}, {2, 0}}},
      {{32744, 32744}, {{32744, 0}, {32744, 0}}},
      {{65507, 65507}, {{65507, 0}, {65507, 0}}},
  };
  for (const auto& row : rows) {
    Fixture at;
    const auto count = static_cast<uint32_t>(row.datagrams.size());
    TestBatch batch(count, 65507);
    uint64_t bytes = 0;
    for (const size_t length : row.datagrams) {
      batch.Push(Pattern(length, batch.length));
      bytes += length;
    }
    const std::string name = "runs of " + std::to_string(count) + " from " + std::to_string(row.datagrams[0]);
    CHECK(at.io->SendBatch(batch.view, 0, count, 0) == static_cast<SysResult>(count), name);
    Bytes sent;
    for (const ScriptedIo::Outgoing& message : at.inner->outgoing) {
      sent.insert(sent.end(), message.packet.begin(), message.packet.end());
    }
    Bytes wanted;
    for (uint32_t i = 0; i < count; ++i) {
      const Bytes packet = batch.At(i);
      wanted.insert(wanted.end(), packet.begin(), packet.end());
    }
    CHECK(sent == wanted, name + ": the bytes, in order");
    CHECK(at.Went() == row.messages, name + ": the messages");
    CHECK(at.io->stats().sent.packets == count && at.io->stats().sent.bytes == bytes, name + ": counted");
  }
}

/// Two datagrams are one message only where the kernel would do the same to both.
void TestOneWay() {
  using Change = void (*)(DatagramMeta*);
  const struct {
    const char* name;
    Change change;
    bool one;
  } rows[] = {
      {"nothing", [](DatagramMeta*) {}, true},
      {"address", [](DatagramMeta* meta) { meta->address[3] = 9; }, false},
      {"port", [](DatagramMeta* meta) { meta->port = 8; }, false},
      {"scope", [](DatagramMeta* meta) { meta->scope = 2; }, false},
      {"ECN", [](DatagramMeta* meta) { meta->traffic_class = 3; }, false},
      {"ECN given", [](DatagramMeta* meta) { meta->has_traffic_class = 0; }, false},
      {"source", [](DatagramMeta* meta) { meta->local_address[3] = 9; }, false},
      {"source's family", [](DatagramMeta* meta) { meta->local_family = 0; }, false},
      {"interface", [](DatagramMeta* meta) { meta->interface_index = 9; }, false},
      {"destination given", [](DatagramMeta* meta) { meta->has_destination = 0; }, false},
      {"several already", [](DatagramMeta* meta) { meta->segment_size = 50; }, false},
      {"time of receipt", [](DatagramMeta* meta) { meta->timestamp_seconds = 9; }, true},
  };
  for (const auto& row : rows) {
    Fixture at;
    TestBatch batch(2);
    batch.view.has_datagrams = true;
    DatagramMeta meta{};
    meta.family = meta.local_family = 4;
    meta.port = 7;
    meta.has_destination = meta.has_traffic_class = 1;
    meta.traffic_class = 1;
    for (uint32_t i = 0; i < 2; ++i) {
      batch.Push(Pattern(100));
      PutDatagram(meta, &batch.view.meta[i]);
      row.change(&meta);
    }
    CHECK(at.io->SendBatch(batch.view, 0, 2, 0) == 2, row.name);
    CHECK(DatagramOf(at.inner->outgoing[0].meta).port == 7, "it goes where it should");
    CHECK(DatagramOf(at.inner->outgoing[0].meta).traffic_class == 1, "as it should");
    CHECK(at.Went().size() == (row.one ? 1 : 2), row.name);
  }
  // Without a destination nothing else is looked at but ECN.
  Fixture at;
  TestBatch batch(2);
  batch.view.has_datagrams = true;
  for (uint32_t i = 0; i < 2; ++i) {
    batch.Push(Pattern(100));
    DatagramMeta meta{};
    meta.port = static_cast<uint16_t>(i);
    PutDatagram(meta, &batch.view.meta[i]);
  }
  CHECK(at.io->SendBatch(batch.view, 0, 2, 0) == 2 && at.Went() == Messages({{200, 100}}),
        "from whom it came");
}

void TestShortResults() {
  Fixture at;
  TestBatch batch(6);
  for (const size_t length : {10, 100, 100, 100, 20, 20}) batch.Push(Pattern(length, batch.length));
  at.inner->refusals = {0, -EAGAIN};
  CHECK(at.io->SendBatch(batch.view, 0, 6, 0) == 1, "no room for the run");
  CHECK(at.io->SendBatch(batch.view, 1, 6, MSG_DONTWAIT) == 5, "later there is");
  CHECK(at.Went() == Messages({{10, 0}, {320, 100}, {20, 0}}), "each once");
  at.inner->refusals = {-EAGAIN};
  CHECK(at.io->SendBatch(batch.view, 1, 6, 0) == -EAGAIN, "nothing went");
  // As one of several messages, and by itself.
  at.inner->refusals = {-EINVAL, -EINVAL, 0, 0, -EAGAIN};
  CHECK(at.io->SendBatch(batch.view, 1, 6, 0) == 2, "of a run that is refused, two go");
  CHECK(at.io->SendBatch(batch.view, 3, 6, 0) == 3, "and the others");
  CHECK(at.Went() == Messages({{100, 0}, {100, 0}, {100, 0}, {40, 20}}), "no run of that length again");
  CHECK(at.io->offload_stats()->refused == OffloadStats::kUso && at.io->offload_stats()->sent == 2,
        "counted");
  at.inner->refusals = {-EIO};
  CHECK(at.io->SendBatch(batch.view, 4, 6, 0) == 2 && at.io->SendBatch(batch.view, 4, 6, 0) == 2, "and then");
  CHECK(at.Went() == Messages({{20, 0}, {20, 0}, {20, 0}, {20, 0}}), "none at all");
  batch.view.offsets[0] = ~0U;
  CHECK(at.io->SendBatch(batch.view, 0, 6, 0) == -EINVAL, "what lies outside its memory");
}

/// Into batches of `capacity` packets with slots of `slot` bytes, or none.
void TestCut(uint32_t capacity, uint32_t slot) {
  Fixture at;
  std::vector<Bytes> wanted;
  // Lengths as before, others, single ones, empty ones, and one that only says that it is several.
  Append(&wanted, at.Comes(1050, 100));
  Append(&wanted, at.Comes(300, 100));
  Append(&wanted, at.Comes(100));
  Append(&wanted, at.Comes(60));
  Append(&wanted, at.Comes(0));
  Append(&wanted, at.Comes(101));
  Append(&wanted, at.Comes(500, 99));
  Append(&wanted, at.Comes(500, 101));
  Append(&wanted, at.Comes(70, 1));
  Append(&wanted, at.Comes(90, 100));
  Append(&wanted, at.Comes(65487, 1472));
  Append(&wanted, at.Comes(2000));
  TestBatch batch(capacity, slot);
  std::vector<Bytes> got;
  for (SysResult count = 0; (count = at.io->ReceiveBatch(batch.view, 0, &count)) > 0;) {
    for (uint32_t i = 0; i < count; ++i) {
      const DatagramMeta meta = DatagramOf(batch.view.meta[i]);
      CHECK(meta.port == 7 && meta.segment_size == 0, "whom it came from, and that it is one");
      CHECK(batch.view.flags[i] == 0 && batch.view.sizes[i] == batch.view.lengths[i], "whole");
      got.push_back(batch.At(i));
    }
  }
  CHECK(got == wanted,
        "cut into batches of " + std::to_string(capacity) + ", slots of " + std::to_string(slot));
  CHECK(at.io->Held() == 0 && at.io->offload_stats()->received == 6, "as counted");
  CHECK(at.io->stats().received.packets == wanted.size(), "each datagram");
}

/// Several messages in one call, where a batch has room for whatever they are.
void TestSeveral() {
  Fixture at;
  std::vector<Bytes> wanted;
  const auto come = [&](int messages, size_t length, uint16_t segment) {
    for (int i = 0; i < messages; ++i) Append(&wanted, at.Comes(length, segment));
  };
  std::vector<Bytes> got;
  TestBatch batch(1024, 2048);
  SysResult behind = 0;
  const auto receive = [&] {
    const SysResult count = at.io->ReceiveBatch(batch.view, 0, &behind);
    for (uint32_t i = 0; i < count; ++i) got.push_back(batch.At(i));
    return count;
  };
  come(20, 32 * 1400, 1400);
  CHECK(receive() == 20 * 32, "all: each lies there as 32 slots do");
  come(12, 10 * 1400, 1400);
  CHECK(receive() == 8 * 10, "what lies closer than slots do ends the batch");
  CHECK(receive() == 4 * 10, "and the rest");
  come(1, 64000, 500);
  come(1, 3000, 1000);
  at.inner->incoming.push_back({{}, {}, -ECONNREFUSED});
  CHECK(receive() == 128 + 3 && behind == -ECONNREFUSED, "up to what is behind them");
  CHECK(got == wanted && at.io->Held() == 0, "each once, in order");
  CHECK(at.io->offload_stats()->received == 34 && at.io->stats().received.packets == got.size(), "counted");
  // Datagrams that are longer than a slot are cut.
  TestBatch narrow(1024, 600);
  come(3, 3000, 1000);
  CHECK(at.io->ReceiveBatch(narrow.view, 0, &behind) == 9, "three times three");
  for (uint32_t i = 0; i < 9; ++i) {
    CHECK(narrow.view.lengths[i] == 600 && narrow.view.sizes[i] == 1000, "its slot");
    CHECK((narrow.view.flags[i] & MSG_TRUNC) != 0, "which is said");
  }
  CHECK(at.io->stats().received.truncated == 9, "counted too");
}

void TestOneByOne() {
  Fixture at;
  std::vector<Bytes> wanted = at.Comes(250, 100, 8);
  Append(&wanted, at.Comes(0));
  uint8_t room[200];
  const iovec views[] = {{room, 30}, {room + 30, 170}};
  CHECK(at.io->Receive(views, 2, MSG_PEEK, &at.details) == 100 && at.io->Held() == 3, "a look at the first");
  for (const Bytes& datagram : wanted) {
    CHECK(at.io->Receive(views, 2, 0, &at.details) == static_cast<SysResult>(datagram.size()), "the next");
    CHECK(Bytes(room, room + datagram.size()) == datagram, "its bytes");
  }
  CHECK(at.io->Receive(views, 2, 0, &at.details) == -EAGAIN, "and no more");
  at.Comes(250, 100);
  CHECK(at.io->Receive(views, 1, 0, &at.details) == 30 && at.details.size == 100, "cut");
  CHECK((at.details.flags & MSG_TRUNC) != 0, "which is said");
  CHECK(at.io->Receive(views, 1, MSG_TRUNC, &at.details) == 100, "and how long it was");
  TestBatch small(4, 40);
  SysResult behind = 0;
  CHECK(at.io->ReceiveBatch(small.view, 0, &behind) == 1 && small.view.sizes[0] == 50, "the rest, cut too");
  CHECK(small.view.lengths[0] == 40 && (small.view.flags[0] & MSG_TRUNC) != 0, "into a slot");
  CHECK(at.io->stats().received.truncated == 3, "counted");
}

void TestErrors() {
  Fixture at;
  const std::vector<Bytes> wanted = at.Comes(200, 100);
  at.inner->incoming.push_back({{}, {}, -ECONNREFUSED});
  TestBatch batch(8);
  SysResult behind = 0;
  CHECK(at.io->ReceiveBatch(batch.view, 0, &behind) == 2 && behind == -ECONNREFUSED, "behind what came");
  at.inner->incoming.push_back({{}, {}, -ECONNREFUSED});
  CHECK(at.io->ReceiveBatch(batch.view, 0, &behind) == -ECONNREFUSED, "at once");
  CHECK(at.io->ReceiveBatch(batch.view, MSG_PEEK, &behind) == -EINVAL, "a batch has no MSG_PEEK");
}

}  // namespace

void TestDatagramOffload() {
  TestRuns();
  TestOneWay();
  TestShortResults();
  for (const uint32_t capacity : {1, 2, 3, 7, 64, 256, 300, 2048}) {
    for (const uint32_t slot : {0, 2000, 2048, 65507}) TestCut(capacity, slot);
  }
  TestSeveral();
  TestOneByOne();
  TestErrors();
}

}  // namespace tunsock::test
