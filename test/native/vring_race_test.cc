#include <sched.h>

#include <atomic>
#include <thread>

#include "check.h"
#include "ring_device.h"
#include "suites.h"

namespace tunsock::test {

namespace {

constexpr uint32_t kSize = 8;
constexpr uint32_t kBuffer = 64;
constexpr uint32_t kRounds = 40'000;
/// Looks before a thread lets others run: the two are to start at the same moment where there are two
/// processors.
constexpr int kSpin = 5'000;

/// Where two threads meet.
class Meeting {
 public:
  void Wait(uint32_t round) {
    here_.fetch_add(1);
    for (int looks = 0; here_.load() < 2 * round; looks++) {
      if (looks > kSpin) (void)::sched_yield();
    }
  }

 private:
  std::atomic<uint32_t> here_{0};
};

struct Race {
  Meeting before;
  Meeting middle;
  Meeting after;
  bool told = false;  // the device rang the driver
  bool seen = false;  // the device saw the message when it was about to sleep
};

/// The kernel's thread (virtio 1.2, 2.7.7 and 2.7.10).
void Serve(const Vring& ring, Race* race) {
  RingDevice device(ring);
  for (uint32_t round = 0; round < kRounds; round++) {
    const auto index = static_cast<uint16_t>(round);
    race->before.Wait(round + 1);
    device.SetEvent(index);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    race->seen = device.available() != 0;
    race->middle.Wait(2 * round + 1);
    device.PutElement(index, device.Take(), 0);
    race->middle.Wait(2 * round + 2);
    device.SetUsedIndex(static_cast<uint16_t>(index + 1));
    std::atomic_thread_fence(std::memory_order_seq_cst);
    race->told = device.event() == index;
    race->after.Wait(round + 1);
  }
}

}  // namespace

/// One side goes to sleep at the very moment at which the other has something for it, round after round: one
/// of the two sees what the other did. Where neither does, the message is slept over, for ever.
void TestVringRace() {
  RingMemory memory(kSize, kBuffer);
  Vring ring(memory.ring(), kSize, memory.buffers.get(), kBuffer, Vring::Direction::kToDevice);
  Race race;
  std::thread device(Serve, std::cref(ring), &race);
  uint32_t kicks_lost = 0;
  uint32_t calls_lost = 0;
  for (uint32_t round = 0; round < kRounds; round++) {
    ring.Expose(ring.Take(1, kBuffer));
    race.before.Wait(round + 1);
    const bool kick = ring.Publish();
    race.middle.Wait(2 * round + 1);
    if (!kick && !race.seen) kicks_lost++;
    race.middle.Wait(2 * round + 2);
    const bool back = ring.EnableCalls() != 0;
    race.after.Wait(round + 1);
    if (!back && !race.told) calls_lost++;
    UsedChain chain;
    if (ring.Pending() == 1 && ring.Next(&chain) == 0) ring.Release(chain.head);
  }
  device.join();
  CHECK(kicks_lost == 0,
        "a message that is published is seen by a device that goes to sleep, or it is kicked");
  CHECK(calls_lost == 0, "a driver that goes to sleep sees what came back, or it is told");
  CHECK(ring.state() == 0 && ring.free() == kSize, "all came back");
}

}  // namespace tunsock::test
