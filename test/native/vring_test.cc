#include "core/vhost/vring.h"

#include <functional>

#include "check.h"
#include "core/offload/byte_order.h"
#include "ring_device.h"
#include "suites.h"

namespace tunsock::test {

namespace {

constexpr uint32_t kSize = 8;
constexpr uint32_t kBuffer = 64;

struct Rings {
  explicit Rings(Vring::Direction direction = Vring::Direction::kToDevice)
      : memory(kSize, kBuffer), ring(memory.ring(), kSize, memory.buffers.get(), kBuffer, direction) {}

  uint16_t Send(uint32_t count = 1) {
    const uint16_t head = ring.Take(count, kBuffer);
    ring.Expose(head);
    return head;
  }

  RingMemory memory;
  Vring ring;
  RingDevice device{ring};
};

/// The layout of virtio 1.2, 2.7: sizes, and where each part starts.
void TestLayout() {
  Rings rings;
  // 16 bytes a descriptor; 6 and 2 bytes an entry; 6 and 8 bytes an entry (2.7.2), each part on a cache line.
  CHECK(rings.ring.available() - rings.ring.descriptors() == 16 * kSize, "the available ring is next");
  CHECK(rings.ring.used() - rings.ring.descriptors() == 192, "the used ring starts a line");
  CHECK(Vring::Bytes(kSize) == 320, "6 + 8 * 8 bytes of it");
  CHECK(Vring::Bytes(256) == 6784, "4096 + 518, rounded up, and 2054, rounded up");
}

void TestChains() {
  Rings rings;
  const uint16_t head = rings.ring.Take(3, 10);
  const uint16_t second = rings.ring.next(head);
  const uint16_t third = rings.ring.next(second);
  CHECK(rings.ring.free() == kSize - 3, "three are taken");
  CHECK(rings.device.Flags(head) == 1 && rings.device.Flags(second) == 1, "VRING_DESC_F_NEXT");
  CHECK(rings.device.Flags(third) == 0, "the last has no next");
  CHECK(rings.device.Read(head).size() == 2 * kBuffer + 10, "all of two buffers, and 10 bytes");
  CHECK(rings.device.available() == 0, "not seen before it is published");
  rings.ring.Expose(head);
  CHECK(rings.device.available() == 0, "nor when it is exposed");
  (void)rings.ring.Publish();
  CHECK(rings.device.available() == 1 && rings.device.Take() == head, "but then");
  rings.device.Use(head, 0);
  UsedChain chain;
  CHECK(rings.ring.Pending() == 1 && rings.ring.Next(&chain) == 0 && chain.head == head, "it comes back");
  CHECK(rings.ring.free() == kSize - 3, "and is still taken");
  rings.ring.Release(head);
  CHECK(rings.ring.free() == kSize && rings.ring.exposed() == 0, "until it is released");
  CHECK(rings.ring.Pending() == 0 && rings.ring.Next(&chain) == -EAGAIN, "no more");

  Rings receiving(Vring::Direction::kFromDevice);
  CHECK(receiving.device.Flags(receiving.Send()) == 2, "VRING_DESC_F_WRITE");
}

/// Chains of all lengths come back in any order, more often than the indices have room for.
void TestTurns() {
  Rings rings;
  uint32_t turn = 0;
  for (; turn < 70000; turn++) {
    std::vector<uint16_t> heads;
    uint32_t taken = 0;
    for (uint32_t count = 1 + turn % 3; taken + count <= kSize; count = 1 + (turn + taken) % 3) {
      heads.push_back(rings.Send(count));
      taken += count;
    }
    (void)rings.ring.Publish();
    CHECK(rings.device.available() == heads.size(), "all are seen");
    for (size_t i = 0; i < heads.size(); i++) {
      CHECK(rings.device.Take() == heads[i], "in order");
    }
    for (size_t i = heads.size(); i-- > 0;) rings.device.Use(heads[(i + turn) % heads.size()], 0);
    CHECK(rings.ring.Pending() == static_cast<SysResult>(heads.size()), "all are back");
    UsedChain chain;
    while (rings.ring.Next(&chain) == 0) rings.ring.Release(chain.head);
    CHECK(rings.ring.free() == kSize && rings.ring.exposed() == 0, "as at the start");
  }
}

/// virtio 1.2, 2.7.7.2 and 2.7.10: when the other side is to be told.
void TestKicks() {
  struct Row {
    const char* what;
    uint16_t event;
    uint32_t exposed;
    bool kick;
  };
  constexpr Row kRows[] = {
      {"wants the next", 0, 1, true},     {"wants the next of several", 0, 3, true},
      {"wants a later one", 2, 2, false}, {"wants the last of these", 2, 3, true},
      {"has gone by", 0xffff, 3, false},
  };
  for (const Row& row : kRows) {
    Rings rings;
    rings.device.SetEvent(row.event);
    for (uint32_t i = 0; i < row.exposed; i++) rings.Send();
    CHECK(rings.ring.Publish() == row.kick, row.what);
    CHECK(!rings.ring.Publish(), "nothing new, nothing to tell");
  }
}

void TestCalls() {
  Rings rings;
  for (int i = 0; i < 4; i++) rings.Send();
  (void)rings.ring.Publish();
  CHECK(rings.ring.EnableCalls() == 0 && rings.device.event() == 0, "tell of the first");
  CHECK(rings.ring.EnableCalls(3) == 0 && rings.device.event() == 2, "tell of the third");
  rings.device.Use(rings.device.Take(), 0);
  rings.device.Use(rings.device.Take(), 0);
  CHECK(rings.ring.EnableCalls(3) == 0, "two are less than three");
  CHECK(rings.ring.EnableCalls(2) == 1, "of what is back already nobody is told");
  UsedChain chain;
  CHECK(rings.ring.Next(&chain) == 0, "one is taken");
  CHECK(rings.ring.EnableCalls() == 1 && rings.device.event() == 1, "the other is back still");
  CHECK(rings.ring.Next(&chain) == 0 && rings.ring.EnableCalls() == 0, "now both");
  rings.ring.DisableCalls();
  CHECK(rings.device.event() == 1, "an index that has gone by");
}

/// What a hostile other side may write; each is found before it is used, and for good.
void TestHostile() {
  using Direction = Vring::Direction;
  struct Row {
    const char* what;
    Direction direction;
    std::function<void(RingDevice&)> attack;
    bool pending;  // whether Pending() finds it, or Next()
  };
  // Chains 0, 1 and 2 are exposed; 0 has come back honestly and has been taken.
  const Row rows[] = {
      {"an index that runs backwards", Direction::kToDevice, [](auto& d) { d.SetUsedIndex(0); }, true},
      {"an index that runs backwards beyond 0", Direction::kToDevice, [](auto& d) { d.SetUsedIndex(0xfff0); },
       true},
      {"an index ahead of what was exposed", Direction::kToDevice, [](auto& d) { d.SetUsedIndex(4); }, true},
      {"an index a round ahead", Direction::kToDevice, [](auto& d) { d.SetUsedIndex(1 + kSize); }, true},
      {"an id behind the last", Direction::kToDevice, [](auto& d) { d.Use(kSize, 0); }, false},
      {"an id that 16 bits cut to a good one", Direction::kToDevice, [](auto& d) { d.Use(0x10001, 0); },
       false},
      {"the greatest id", Direction::kToDevice, [](auto& d) { d.Use(0xffffffff, 0); }, false},
      {"an id that has come back", Direction::kToDevice, [](auto& d) { d.Use(0, 0); }, false},
      {"an id that was never exposed", Direction::kToDevice, [](auto& d) { d.Use(5, 0); }, false},
      {"more bytes than there is room", Direction::kFromDevice, [](auto& d) { d.Use(1, kBuffer + 1); },
       false},
      {"as many bytes as there are", Direction::kFromDevice, [](auto& d) { d.Use(1, 0xffffffff); }, false},
  };
  for (const Row& row : rows) {
    Rings rings(row.direction);
    UsedChain chain;
    for (int i = 0; i < 3; i++) rings.Send();
    (void)rings.ring.Publish();
    rings.device.Use(0, kBuffer);
    CHECK(rings.ring.Pending() == 1 && rings.ring.Next(&chain) == 0, "an honest one");
    row.attack(rings.device);
    const SysResult pending = rings.ring.Pending();
    CHECK(pending == (row.pending ? -EPROTO : 1), row.what);
    CHECK(rings.ring.Next(&chain) == -EPROTO, row.what);
    rings.device.SetUsedIndex(1);
    CHECK(rings.ring.Pending() == -EPROTO && rings.ring.EnableCalls() == -EPROTO &&
              rings.ring.state() == -EPROTO,
          "broken for good");
  }

  // The same id twice, of which the first has been taken but not released.
  Rings rings;
  UsedChain chain;
  for (int i = 0; i < 3; i++) rings.Send();
  (void)rings.ring.Publish();
  rings.device.Use(1, 0);
  rings.device.Use(1, 0);
  CHECK(rings.ring.Pending() == 2 && rings.ring.Next(&chain) == 0 && chain.head == 1, "the first is good");
  CHECK(rings.ring.Next(&chain) == -EPROTO, "the same id twice");

  // An id in the middle of a chain.
  Rings chained;
  const uint16_t head = chained.Send(3);
  (void)chained.ring.Publish();
  chained.device.Use(chained.ring.next(head), 0);
  CHECK(chained.ring.Pending() == 1 && chained.ring.Next(&chain) == -EPROTO, "an id that is no head");

  // What it writes over the driver's parts of the ring changes nothing.
  Rings scribbled;
  const uint16_t first = scribbled.Send(2);
  (void)scribbled.ring.Publish();
  for (size_t at = 0; at < static_cast<size_t>(scribbled.ring.used() - scribbled.ring.descriptors()); at++) {
    scribbled.ring.descriptors()[at] = 0xff;
  }
  scribbled.device.Use(first, 0);
  CHECK(scribbled.ring.Pending() == 1 && scribbled.ring.Next(&chain) == 0, "the chain is back");
  scribbled.ring.Release(first);
  CHECK(scribbled.ring.free() == kSize, "with both descriptors");
  const uint16_t again = scribbled.ring.Take(kSize, kBuffer);
  CHECK(scribbled.device.Read(again).size() == size_t{kSize} * kBuffer, "and all can be taken");
}

}  // namespace

void TestVring() {
  TestLayout();
  TestChains();
  TestTurns();
  TestKicks();
  TestCalls();
  TestHostile();
}

}  // namespace tunsock::test
