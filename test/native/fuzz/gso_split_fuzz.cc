#include <algorithm>
#include <memory>

#include "check.h"
#include "core/offload/gso_split.h"
#include "fuzz_target.h"

// Input: framing (1 byte, its lowest bit), slot size (1 byte, times 16), virtio header (10), packet.

namespace tunsock::test {

namespace {

constexpr size_t kPrefix = 2 + VirtioNetHdr::kSize;

/// What must hold for any segment of a superpacket, whatever its headers said.
void CheckSegment(const Bytes& segment, const VirtioNetHdr& header, Framing framing) {
  PacketView view;
  CHECK(view.Parse(segment.data(), segment.size(), framing), "a segment is a packet");
  CHECK(view.exact() && view.l4_header > 0, "of the length that it says");
  CHECK(view.payload_size() > 0 && view.payload_size() <= header.gso_size, "no longer than gso_size");
  CHECK(ChecksumsRight(segment.data(), view), "with finished checksums");
}

void SplitAll(const uint8_t* packet, size_t size, const VirtioNetHdr& header, Framing framing, size_t room) {
  const std::unique_ptr<uint8_t[]> bytes(new uint8_t[size]);
  for (size_t i = 0; i < size; i++) bytes[i] = packet[i];
  GsoSplitter splitter;
  if (splitter.Begin(bytes.get(), size, header, framing) != 0) {
    CHECK(splitter.done(), "nothing to take from what was refused");
    CHECK(std::equal(packet, packet + size, bytes.get()), "what was refused is as it was");
    return;
  }
  const size_t count = splitter.remaining();
  const bool segmented = count > 1;
  Bytes payload;
  for (size_t i = 0; i < count; i++) {
    CHECK(!splitter.done(), "as many segments as announced");
    Bytes slot(segmented ? splitter.next_size() : room);
    const size_t true_size = splitter.Next(slot.data(), slot.size());
    if (!segmented) {
      CHECK(true_size == size, "one packet, of its own length");
      break;
    }
    CHECK(true_size == slot.size(), "the size announced");
    CheckSegment(slot, header, framing);
    PacketView view;
    if (!view.Parse(slot.data(), slot.size(), framing)) continue;
    payload.insert(payload.end(), slot.begin() + static_cast<long>(view.header_size()), slot.end());
  }
  CHECK(splitter.done(), "no more segments than announced");
  if (segmented) {
    CHECK(std::equal(payload.begin(), payload.end(), packet + size - payload.size()), "the whole payload");
  }
}

}  // namespace

std::vector<Bytes> SeedInputs() {
  std::vector<Bytes> inputs;
  for (const PacketSpec& spec : SeedSpecs(250)) {
    for (const uint16_t gso_size : {0, 100}) {
      Bytes input(kPrefix);
      input[0] = spec.framing() == Framing::kEthernet ? 1 : 0;
      input[1] = 8;
      spec.Header(gso_size).Encode(input.data() + 2, VirtioNetHdr::kSize);
      const Bytes packet = spec.BuildPartial();
      input.insert(input.end(), packet.begin(), packet.end());
      inputs.push_back(input);
    }
  }
  return inputs;
}

}  // namespace tunsock::test

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tunsock;
  if (size < test::kPrefix) return 0;
  const Framing framing = (data[0] & 1) != 0 ? Framing::kEthernet : Framing::kIp;
  const VirtioNetHdr header = VirtioNetHdr::Decode(data + 2);
  test::SplitAll(data + test::kPrefix, size - test::kPrefix, header, framing, size_t{16} * data[1]);
  return 0;
}
