#include <algorithm>

#include "check.h"
#include "core/vhost/packet_rings.h"
#include "fuzz_target.h"
#include "ring_device.h"

// Input: operations, an opcode (1 byte) and two arguments (2 bytes each) a piece. Some are the driver's, some
// what an other side does that may be honest or hostile.

namespace tunsock::test {

namespace {

constexpr uint32_t kSize = 16;
constexpr uint32_t kBuffer = 128;
constexpr size_t kOperation = 5;

enum Opcode : uint8_t {
  kSend,
  kReap,
  kReceive,
  kCalls,
  kUseHonestly,
  kFillHonestly,
  kUse,
  kJump,
  kScribbleRing,
  kScribbleBuffer,
  kOpcodes,
};

/// One ring of each direction and their other sides.
class Machine {
 public:
  Machine() { (void)receive_.ring().Publish(); }

  void Do(uint8_t opcode, uint16_t first, uint16_t second) {
    // The ring that the other side's operation is about.
    RingDevice& device = (first & 1) != 0 ? receive_device_ : send_device_;
    Vring& ring = (first & 1) != 0 ? receive_.ring() : send_.ring();
    RingMemory& memory = (first & 1) != 0 ? receive_memory_ : send_memory_;
    switch (opcode % kOpcodes) {
      case kSend:
        Send(first % (kSize * kBuffer + 8));
        break;
      case kReap:
        (void)send_.Reap();
        break;
      case kReceive:
        Receive();
        break;
      case kCalls:
        if ((second & 1) != 0)
          ring.DisableCalls();
        else
          (void)ring.EnableCalls(1 + second % kSize);
        break;
      case kUseHonestly:
        if (&device == &send_device_ && InReach(device)) device.Use(device.Take(), 0);
        break;
      case kFillHonestly:
        FillHonestly(second % (kBuffer - kRingPacketHeader));
        break;
      case kUse:
        device.Use(first >> 1, second);
        break;
      case kJump:
        device.SetUsedIndex(second);
        break;
      case kScribbleRing:
        memory.ring()[second % Vring::Bytes(kSize)] = static_cast<uint8_t>(first >> 8);
        break;
      case kScribbleBuffer:
        memory.buffers[second % (size_t{kSize} * kBuffer)] = static_cast<uint8_t>(first >> 8);
        break;
      default:
        break;
    }
    CheckRing(send_.ring());
    CheckRing(receive_.ring());
  }

 private:
  static bool InReach(const RingDevice& device) {
    return device.available() > 0 && device.available() <= kSize;
  }

  void Send(size_t size) {
    const Bytes packet(size);
    const Bytes header(kRingPacketHeader);
    const iovec view{const_cast<uint8_t*>(packet.data()), size};
    const bool broken = send_.ring().state() != 0;
    const SysResult result = send_.Put(header.data(), &view, 1, size);
    CHECK(!broken || result == -EPROTO, "nothing goes into a broken ring");
    CHECK(result == 0 || result == -EAGAIN || result == -EMSGSIZE || result == -EPROTO, "a known result");
    (void)send_.ring().Publish();
  }

  void Receive() {
    RingPacket packet;
    const SysResult result = receive_.Next(&packet);
    CHECK(result == 1 || result == 0 || result == -EPROTO, "a known result");
    if (result != 1) return;
    CHECK(packet.count >= 1 && packet.count <= static_cast<int>(kSize), "in as many buffers as there are");
    size_t total = 0;
    uint32_t sum = 0;
    for (int i = 0; i < packet.count; i++) {
      const auto* bytes = static_cast<const uint8_t*>(packet.parts[i].iov_base);
      for (size_t at = 0; at < packet.parts[i].iov_len; at++) sum += bytes[at];
      total += packet.parts[i].iov_len;
    }
    CHECK(total == packet.size && sum <= 255 * total, "of as many bytes as it says");
    receive_.Recycle();
    (void)receive_.ring().Publish();
  }

  void FillHonestly(size_t size) {
    if (!InReach(receive_device_)) return;
    const uint16_t head = receive_device_.Take();
    if (head >= kSize) return;
    Bytes bytes(kRingPacketHeader + size);
    bytes[10] = 1;
    receive_device_.Use(head, receive_device_.Write(head, bytes));
  }

  void CheckRing(Vring& ring) {
    CHECK(ring.free() <= kSize && ring.exposed() <= kSize, "no descriptor is there twice");
    // A chain is free or exposed, unless what breaks the ring has come between; a packet to send may need
    // several.
    if (ring.state() == 0 && &ring == &receive_.ring()) {
      CHECK(ring.free() == 0 && ring.exposed() == kSize, "each buffer is with the other side");
    }
    if (ring.state() != 0) CHECK(ring.Pending() == -EPROTO, "broken for good");
  }

  RingMemory send_memory_{kSize, kBuffer};
  RingMemory receive_memory_{kSize, kBuffer};
  SendRing send_{send_memory_.ring(), kSize, send_memory_.buffers.get(), kBuffer};
  ReceiveRing receive_{receive_memory_.ring(), kSize, receive_memory_.buffers.get(), kBuffer};
  RingDevice send_device_{send_.ring()};
  RingDevice receive_device_{receive_.ring()};
};

void Append(Bytes* input, uint8_t opcode, uint16_t first, uint16_t second) {
  for (const int byte : {int{opcode}, first & 0xff, first >> 8, second & 0xff, second >> 8}) {
    input->push_back(static_cast<uint8_t>(byte));
  }
}

}  // namespace

std::vector<Bytes> SeedInputs() {
  std::vector<Bytes> inputs(4);
  // Honest traffic, and one of each attack behind it.
  for (Bytes& input : inputs) {
    for (uint16_t turn = 0; turn < 8; turn++) {
      Append(&input, kSend, static_cast<uint16_t>(turn * 60), 0);
      Append(&input, kFillHonestly, 0, static_cast<uint16_t>(turn * 13));
      Append(&input, kUseHonestly, 0, 0);
      if (turn % 2 == 0) Append(&input, kReceive, 0, 0);
      if (turn % 3 == 0) Append(&input, kReap, 0, 0);
      Append(&input, kCalls, turn, turn);
    }
  }
  Append(&inputs[1], kUse, 3 << 1 | 1, 64);
  Append(&inputs[2], kJump, 1, 9);
  Append(&inputs[3], kScribbleBuffer, 0x0201, 10);
  for (Bytes& input : inputs) {
    Append(&input, kReceive, 0, 0);
    Append(&input, kReap, 0, 0);
  }
  return inputs;
}

}  // namespace tunsock::test

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tunsock::test;
  Machine machine;
  for (; size >= kOperation; data += kOperation, size -= kOperation) {
    machine.Do(data[0], static_cast<uint16_t>(data[1] | data[2] << 8),
               static_cast<uint16_t>(data[3] | data[4] << 8));
  }
  return 0;
}
