#include "core/vhost/packet_rings.h"

#include <functional>

#include "check.h"
#include "ring_device.h"
#include "suites.h"

namespace tunsock::test {

namespace {

constexpr uint32_t kSize = 8;
constexpr uint32_t kBuffer = 64;

Bytes Header(uint16_t num_buffers) {
  Bytes header(kRingPacketHeader);
  for (size_t i = 0; i < 10; i++) header[i] = static_cast<uint8_t>(0xa0 + i);
  header[10] = static_cast<uint8_t>(num_buffers);
  header[11] = static_cast<uint8_t>(num_buffers >> 8);
  return header;
}

struct Sending {
  RingMemory memory{kSize, kBuffer};
  SendRing packets{memory.ring(), kSize, memory.buffers.get(), kBuffer};
  RingDevice device{packets.ring()};

  SysResult Put(const Bytes& header, const Bytes& packet) {
    const iovec view{const_cast<uint8_t*>(packet.data()), packet.size()};
    return packets.Put(header.data(), &view, 1, packet.size());
  }
};

void TestSend() {
  // One buffer holds 52 bytes beside the header; what is longer takes another for each 64.
  for (const size_t size : {size_t{1}, size_t{52}, size_t{53}, size_t{116}, size_t{117}, size_t{500}}) {
    Sending sending;
    const Bytes packet = Pattern(size);
    const Bytes header = Header(0);
    // In pieces, some of them empty.
    const size_t cut = size / 3;
    uint8_t* bytes = const_cast<uint8_t*>(packet.data());
    const iovec views[] = {{bytes, cut}, {bytes, 0}, {bytes + cut, size - cut}};
    CHECK(sending.packets.Put(header.data(), views, 3, size) == 0, "there is room");
    CHECK(sending.packets.ring().free() == kSize - (size + 12 + 63) / 64, "no more buffers than needed");
    (void)sending.packets.ring().Publish();
    Bytes expected = header;
    expected.insert(expected.end(), packet.begin(), packet.end());
    CHECK(sending.device.Read(sending.device.Take()) == expected, "header and packet, one behind the other");
  }

  Sending sending;
  const Bytes header = Header(0);
  CHECK(sending.Put(header, Pattern(kSize * kBuffer - 11)) == -EMSGSIZE, "longer than all buffers");
  CHECK(sending.Put(header, Pattern(kSize * kBuffer - 12)) == 0, "as long");
  (void)sending.packets.ring().Publish();
  CHECK(sending.Put(header, Pattern(1)) == -EAGAIN, "full");
  sending.device.Use(sending.device.Take(), 0);
  CHECK(sending.Put(header, Pattern(1)) == 0, "what is sent makes room by itself");
  (void)sending.packets.ring().Publish();
  sending.device.Use(sending.device.Take(), 0);
  CHECK(sending.packets.Reap() == 1 && sending.packets.Reap() == 0, "one packet is sent");
  sending.device.SetUsedIndex(100);
  CHECK(sending.packets.Reap() == -EPROTO, "a broken ring");
  CHECK(sending.Put(header, Pattern(1)) == -EPROTO, "takes no more, though there is room");
}

struct Receiving {
  RingMemory memory{kSize, kBuffer};
  ReceiveRing packets{memory.ring(), kSize, memory.buffers.get(), kBuffer};
  RingDevice device{packets.ring()};

  Receiving() { (void)packets.ring().Publish(); }

  /// Gives a packet in as many buffers as it needs, or as `claimed` says.
  void Give(const Bytes& packet, uint16_t claimed = 0) {
    const size_t whole = packet.size() + kRingPacketHeader;
    const size_t count = (whole + kBuffer - 1) / kBuffer;
    Bytes bytes = Header(claimed != 0 ? claimed : static_cast<uint16_t>(count));
    bytes.insert(bytes.end(), packet.begin(), packet.end());
    for (size_t at = 0; at < whole; at += kBuffer) {
      const size_t end = std::min(whole, at + kBuffer);
      const uint16_t head = device.Take();
      const Bytes part(bytes.begin() + static_cast<long>(at), bytes.begin() + static_cast<long>(end));
      device.Use(head, device.Write(head, part));
    }
  }
};

Bytes Gather(const RingPacket& packet) {
  Bytes bytes;
  for (int i = 0; i < packet.count; i++) {
    const auto* from = static_cast<const uint8_t*>(packet.parts[i].iov_base);
    bytes.insert(bytes.end(), from, from + packet.parts[i].iov_len);
  }
  return bytes;
}

void TestReceive() {
  Receiving receiving;
  CHECK(receiving.device.available() == kSize, "all buffers wait");
  RingPacket packet;
  CHECK(receiving.packets.Next(&packet) == 0, "nothing yet");
  // Often enough for the indices to go round.
  for (size_t turn = 0; turn < 10000; turn++) {
    const Bytes sent = Pattern(1 + turn * 37 % (kSize * kBuffer / 2 - kRingPacketHeader));
    const Bytes small = Pattern(turn % 52);
    receiving.Give(sent);
    receiving.Give(small);
    CHECK(receiving.packets.Next(&packet) == 1, "there is a packet");
    CHECK(packet.size == sent.size() && Gather(packet) == sent, "as it was sent");
    CHECK(packet.header[0] == 0xa0 && packet.header[9] == 0xa9, "behind its header");
    receiving.packets.Recycle();
    CHECK(receiving.packets.Next(&packet) == 1 && Gather(packet) == small, "and the next");
    receiving.packets.Recycle();
    CHECK(receiving.packets.Next(&packet) == 0, "no more");
    (void)receiving.packets.ring().Publish();
    CHECK(receiving.device.available() == kSize, "all buffers wait again");
  }
}

void TestHostilePackets() {
  struct Row {
    const char* what;
    std::function<void(Receiving&)> attack;
  };
  const auto give_short = [](Receiving& receiving) {
    receiving.device.Use(receiving.device.Take(), kRingPacketHeader - 1);
  };
  const Row rows[] = {
      {"less than a header", give_short},
      {"nothing at all", [](Receiving& receiving) { receiving.device.Use(receiving.device.Take(), 0); }},
      {"more buffers than are back", [](Receiving& receiving) { receiving.Give(Pattern(20), 2); }},
      {"more buffers than there are", [](Receiving& receiving) { receiving.Give(Pattern(20), 0xffff); }},
      {"a part of more bytes than a buffer",
       [](Receiving& receiving) {
         const uint16_t head = receiving.device.Take();
         receiving.device.Write(head, Header(2));
         receiving.device.Use(head, kBuffer);
         receiving.device.Use(receiving.device.Take(), kBuffer + 1);
       }},
      {"the same buffer twice",
       [](Receiving& receiving) {
         const uint16_t head = receiving.device.Take();
         receiving.device.Write(head, Header(2));
         receiving.device.Use(head, kBuffer);
         receiving.device.Use(head, kBuffer);
       }},
  };
  for (const Row& row : rows) {
    Receiving receiving;
    row.attack(receiving);
    RingPacket packet;
    CHECK(receiving.packets.Next(&packet) == -EPROTO, row.what);
    CHECK(receiving.packets.Next(&packet) == -EPROTO, "broken for good");
  }
  Receiving receiving;
  const uint16_t head = receiving.device.Take();
  receiving.device.Write(head, Header(0));
  receiving.device.Use(head, kBuffer);
  RingPacket packet;
  CHECK(receiving.packets.Next(&packet) == -EPROTO, "a packet in no buffers");
}

}  // namespace

void TestPacketRings() {
  TestSend();
  TestReceive();
  TestHostilePackets();
}

}  // namespace tunsock::test
