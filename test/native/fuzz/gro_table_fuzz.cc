#include <algorithm>

#include "check.h"
#include "core/offload/gro_table.h"
#include "flush.h"
#include "fuzz_target.h"

// Input: options (1 byte: tso4, tso6, uso, Ethernet), then packets, each behind its length (2 bytes).

namespace tunsock::test {

namespace {

Bytes Join(uint8_t options, const std::vector<Bytes>& packets) {
  Bytes input = {options};
  for (const Bytes& packet : packets) {
    input.push_back(static_cast<uint8_t>(packet.size() >> 8));
    input.push_back(static_cast<uint8_t>(packet.size()));
    input.insert(input.end(), packet.begin(), packet.end());
  }
  return input;
}

std::vector<Bytes> Cut(const uint8_t* data, size_t size) {
  std::vector<Bytes> packets;
  size_t at = 0;
  while (size - at >= 2 && packets.size() < GroTable::kMaxPackets) {
    const size_t said = static_cast<size_t>(data[at] << 8 | data[at + 1]);
    at += 2;
    const size_t length = std::min(said, size - at);
    packets.emplace_back(data + at, data + at + length);
    at += length;
  }
  return packets;
}

}  // namespace

std::vector<Bytes> SeedInputs() {
  std::vector<Bytes> inputs;
  for (const PacketSpec& spec : SeedSpecs(250)) {
    PacketSpec other = spec;
    other.source_port++;
    const std::vector<PacketSpec> one = spec.Cut(100);
    const std::vector<PacketSpec> two = other.Cut(100);
    std::vector<Bytes> packets;
    for (size_t i = 0; i < one.size(); i++) {
      packets.push_back(one[i].Build());
      packets.push_back(two[i].Build());
    }
    const uint8_t options = spec.framing() == Framing::kEthernet ? 15 : 7;
    inputs.push_back(Join(options, packets));
    if (spec.version == 6) continue;
    packets.clear();
    for (PacketSpec packet : one) {
      packet.id = spec.id;
      packet.no_udp_checksum = true;
      packets.push_back(packet.Build());
    }
    inputs.push_back(Join(options, packets));
  }
  return inputs;
}

}  // namespace tunsock::test

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tunsock;
  if (size == 0) return 0;
  const Framing framing = (data[0] & 8) != 0 ? Framing::kEthernet : Framing::kIp;
  GroTable table({(data[0] & 1) != 0, (data[0] & 2) != 0, (data[0] & 4) != 0, framing});
  const std::vector<test::Bytes> packets = test::Cut(data + 1, size - 1);
  for (const test::Written& write : test::Flush(table, packets)) {
    const std::vector<test::Bytes> segments = test::Split(write, framing);
    CHECK(test::GivenBack(segments, packets, write, framing), "split(merge(x)) == x");
  }
  return 0;
}
