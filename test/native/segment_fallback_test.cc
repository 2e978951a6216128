#include <cerrno>

#include "check.h"
#include "core/io/segment_fallback_io.h"
#include "scripted_io.h"
#include "suites.h"

namespace tunsock::test {

namespace {

using Sizes = std::vector<size_t>;

/// Datagrams of `segment` bytes to one peer, as `offload: 'raw'` has them.
DatagramMeta Several(uint16_t segment) {
  DatagramMeta meta{};
  meta.has_destination = 1;
  meta.family = 4;
  meta.port = 7;
  meta.segment_size = segment;
  return meta;
}

struct Fixture {
  Fixture() {
    auto scripted = std::make_unique<ScriptedIo>();
    inner = scripted.get();
    io = std::make_unique<SegmentFallbackIo>(std::move(scripted));
  }

  SysResult Send(const std::vector<Bytes>& parts, uint16_t segment) {
    std::vector<iovec> views;
    for (const Bytes& part : parts) views.push_back({const_cast<uint8_t*>(part.data()), part.size()});
    PacketMeta meta;
    PutDatagram(Several(segment), &meta);
    return io->Send(views.data(), static_cast<int>(views.size()), 0, &meta);
  }
  SysResult Send(size_t length, uint16_t segment) {
    return Send(std::vector<Bytes>{Pattern(length)}, segment);
  }

  /// Lengths of what has gone out since, each where the peer was named.
  Sizes Went() {
    Sizes sizes;
    for (const ScriptedIo::Outgoing& message : inner->outgoing) {
      const DatagramMeta meta = DatagramOf(message.meta);
      CHECK(meta.port == 7 && meta.has_destination == 1, "to the peer");
      CHECK(meta.segment_size == 0 || meta.segment_size < message.packet.size(), "as it was asked for");
      sizes.push_back(message.packet.size());
    }
    return sizes;
  }
  Bytes AllBytes() {
    Bytes all;
    for (const ScriptedIo::Outgoing& message : inner->outgoing) {
      all.insert(all.end(), message.packet.begin(), message.packet.end());
    }
    return all;
  }
  void Forget() { inner->outgoing.clear(); }
  uint32_t Refused() { return io->offload_stats()->refused; }

  ScriptedIo* inner;
  std::unique_ptr<SegmentFallbackIo> io;
};

void TestTaken() {
  Fixture at;
  CHECK(at.Send(2500, 1000) == 2500, "it goes as one");
  CHECK(at.Send(10, 0) == 10, "so does a single one");
  CHECK(at.Went() == Sizes({2500, 10}), "as they were");
  CHECK(at.io->stats().sent.packets == 2 && at.io->offload_stats()->sent == 1 && at.Refused() == 0,
        "as counted");
}

/// udp_send_skb(): EIO says that no run goes, EINVAL (EMSGSIZE) that none of such datagrams does.
void TestRefused() {
  for (const SysResult refusal : {-EIO, -EINVAL, -EMSGSIZE}) {
    Fixture at;
    at.inner->refusals = {refusal};
    CHECK(at.Send(2500, 1000) == 2500, "nothing is lost");
    CHECK(at.Went() == Sizes({1000, 1000, 500}) && at.AllBytes() == Pattern(2500), "one by one, in order");
    CHECK(at.Refused() == OffloadStats::kUso, "it is said");
    at.Forget();
    CHECK(at.Send(2002, 1001) == 2002 && at.Send(1998, 999) == 1998, "and later");
    const Sizes shorter = refusal == -EIO ? Sizes{999, 999} : Sizes{1998};
    CHECK(at.Went() == (refusal == -EIO ? Sizes({1001, 1001, 999, 999}) : Sizes({1001, 1001, 1998})),
          "without asking again, but for shorter ones");
    CHECK(at.io->stats().sent.errors == 0 && at.io->stats().sent.packets == 5 + shorter.size(), "no error");
    CHECK(at.io->stats().sent.bytes == 6500, "all bytes");
  }
}

void TestViews() {
  Fixture at;
  at.inner->refusals = {-EIO};
  const Bytes whole = Pattern(1000);
  std::vector<Bytes> parts;
  size_t begin = 0;
  for (const size_t length : {0, 1, 298, 2, 0, 600, 99, 0}) {
    parts.emplace_back(whole.begin() + static_cast<long>(begin),
                       whole.begin() + static_cast<long>(begin + length));
    begin += length;
  }
  CHECK(at.Send(parts, 300) == 1000, "all of it");
  CHECK(at.Went() == Sizes({300, 300, 300, 100}) && at.AllBytes() == whole, "cut wherever the views end");
  at.Forget();
  CHECK(at.Send(size_t{0}, 300) == 0 && at.Went() == Sizes({0}), "an empty datagram is one");
}

void TestMistakes() {
  const struct {
    SysResult error;
    size_t length;
    uint16_t segment;
  } mistakes[] = {
      {-EINVAL, 65, 1},         // more datagrams than any kernel before 6.9 takes
      {-EMSGSIZE, 65508, 1400}  // more than a message has
  };
  for (const auto& mistake : mistakes) {
    Fixture at;
    at.inner->refusals = {mistake.error};
    CHECK(at.Send(mistake.length, mistake.segment) == mistake.error, "is told");
    CHECK(at.Went().empty() && at.Refused() == 0 && at.io->stats().sent.errors == 1, "and nothing else");
  }
  for (const SysResult other : {-EAGAIN, -ENETUNREACH, -EPERM, -ENOBUFS}) {
    Fixture at;
    at.inner->refusals = {other};
    CHECK(at.Send(2000, 1000) == other && at.Went().empty() && at.Refused() == 0, "is no refusal");
  }
  Fixture at;
  at.inner->refusals = {-EINVAL, -EINVAL};
  CHECK(at.Send(2000, 1000) == -EINVAL && at.Refused() == 0, "what goes not singly either was not the run");
}

void TestNoRoom() {
  Fixture at;
  at.inner->refusals = {-EIO, 0, 0, -EAGAIN};
  CHECK(at.Send(2500, 1000) == 2000, "whole datagrams, and how much that is");
  CHECK(at.Refused() == OffloadStats::kUso, "learnt all the same");
  at.inner->refusals = {-EAGAIN};
  CHECK(at.Send(500, 1000) == -EAGAIN, "for the rest there is no room yet");
  CHECK(at.Send(500, 1000) == 500 && at.Went() == Sizes({1000, 1000, 500}), "the rest");
}

void TestBatchOfMessages() {
  Fixture at;
  TestBatch batch(8, 4096);
  batch.view.has_datagrams = true;
  const auto push = [&](size_t length, uint16_t segment) {
    batch.Push(Pattern(length, batch.length));
    PutDatagram(Several(segment), &batch.view.meta[batch.length - 1]);
  };
  for (const size_t length : {300, 250, 20, 250}) push(length, length > 100 ? 100 : 0);
  at.inner->refusals = {0, -EINVAL};
  CHECK(at.io->SendBatch(batch.view, 0, 4, 0) == 1, "as sendmmsg(2), which doesn't say why it stopped");
  at.inner->refusals = {-EINVAL, 0, -EAGAIN};
  CHECK(at.io->SendBatch(batch.view, 1, 4, 0) == -EAGAIN, "of the next one there is room for a part");
  CHECK(at.Went() == Sizes({300, 100}), "which has gone");
  at.inner->refusals = {-EAGAIN};
  CHECK(at.io->SendBatch(batch.view, 1, 4, 0) == -EAGAIN, "no room yet");
  at.inner->refusals = {0, 0, 0, 0, -ENETUNREACH};
  CHECK(at.io->SendBatch(batch.view, 1, 4, 0) == 2, "the next error stops it");
  CHECK(at.Went() == Sizes({300, 100, 100, 50, 20, 100}), "what was left, each once");
  CHECK(at.io->SendBatch(batch.view, 3, 4, 0) == 1, "and the last one's rest");
  CHECK(at.Went() == Sizes({300, 100, 100, 50, 20, 100, 100, 50}), "all of it");
  Bytes wanted;
  for (uint32_t i = 0; i < 4; ++i) {
    const Bytes packet = batch.At(i);
    wanted.insert(wanted.end(), packet.begin(), packet.end());
    CHECK(DatagramOf(batch.view.meta[i]).segments_gone == 0, "none is half sent");
  }
  CHECK(at.AllBytes() == wanted, "in order");
  CHECK(at.io->stats().sent.bytes == 820 && at.io->offload_stats()->sent == 1, "as counted");
  batch.view.lengths[3] = 1U << 30;
  CHECK(at.io->SendBatch(batch.view, 3, 4, 0) == -EINVAL, "what lies outside its memory");
  batch.view.lengths[3] = 50;
  DatagramMeta beyond = Several(100);
  beyond.segments_gone = 60000;
  PutDatagram(beyond, &batch.view.meta[3]);
  CHECK(at.io->SendBatch(batch.view, 3, 4, 0) == 1, "a count that can't be is none");
}

}  // namespace

void TestSegmentFallback() {
  TestTaken();
  TestRefused();
  TestViews();
  TestMistakes();
  TestNoRoom();
  TestBatchOfMessages();
}

}  // namespace tunsock::test
