#include <algorithm>
#include <memory>

#include "check.h"
#include "core/offload/byte_order.h"
#include "core/offload/checksum.h"
#include "core/offload/gso_split.h"
#include "fuzz_target.h"

// Input: framing (1 byte, its lowest bit), slot size (1 byte, times 16), virtio header (10), packet.

namespace tunsock::test {

namespace {

constexpr size_t kPrefix = 2 + VirtioNetHdr::kSize;

/// A sum modulo 65535, where 0 and 0xffff are one.
uint16_t Modulo(uint64_t sum) {
  return static_cast<uint16_t>(FoldSum(sum) % 0xffff);
}

uint16_t TransportSum(const uint8_t* packet, const PacketView& view) {
  return Modulo(InternetSum(packet + view.l4_offset, view.l4_size(),
                            PseudoHeaderSum(packet, view, 0) + htonl(static_cast<uint32_t>(view.l4_size()))));
}

/// What a superpacket's segments must have in common.
struct Whole {
  VirtioNetHdr header;
  IpLayers layers;
  size_t removed = 0;  // bytes of a jumbo payload length, which no segment has
  uint16_t sum = 0;  // of a segment's transport and pseudo header: 0, unless the superpacket's own was wrong
  bool no_checksum = false;

  Whole(const uint8_t* packet, size_t size, const VirtioNetHdr& of, Framing framing) : header(of) {
    const size_t transport = header.needs_checksum() ? header.csum_start : 0;
    if (!layers.Parse(packet, size, framing, transport, ZeroLength::kIsAll)) return;
    const PacketView& view = layers.innermost();
    const auto field = LoadWord<uint16_t>(packet + view.checksum_offset());
    no_checksum = !view.is_tcp() && !header.needs_checksum() && field == 0;
    const uint8_t* ip = packet + layers[0].ip_offset;
    if (layers[0].jumbo && LoadBe16(ip + kIp6PayloadLength) == 0) removed = kIp6JumboOption;
    if (!header.needs_checksum()) return;
    const uint64_t pseudo = PseudoHeaderSum(packet, view, 0) + htonl(static_cast<uint32_t>(view.l4_size()));
    sum = Modulo(pseudo + (0xffff - Modulo(field)));
  }

  /// What must hold for any segment of a superpacket, whatever its headers said. Returns where its payload
  /// is.
  [[nodiscard]] size_t CheckSegment(const Bytes& segment) const {
    PacketView view;
    for (size_t i = 0; i < layers.count(); i++) {
      CHECK(view.ParseIp(segment.data(), segment.size(), layers[i].ip_offset) && view.exact(),
            "a segment is a packet of the length that it says, and so is each within");
      CHECK(view.l4_offset + removed == layers[i].l4_offset && view.protocol == layers[i].protocol,
            "with the same headers");
      if (view.version == 4) {
        CHECK(Modulo(InternetSum(segment.data() + view.ip_offset, view.ip_header())) == 0, "IPv4 checksums");
      }
    }
    CHECK(view.payload_size() > 0 && view.payload_size() <= header.gso_size, "no longer than gso_size");
    if (!no_checksum) CHECK(TransportSum(segment.data(), view) == sum, "with finished checksums");
    return view.header_size();
  }
};

void SplitAll(const uint8_t* packet, size_t size, const VirtioNetHdr& header, Framing framing, size_t room) {
  const Whole whole(packet, size, header, framing);
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
    const size_t header_size = whole.CheckSegment(slot);
    payload.insert(payload.end(), slot.begin() + static_cast<long>(header_size), slot.end());
  }
  CHECK(splitter.done(), "no more segments than announced");
  if (segmented) {
    CHECK(std::equal(payload.begin(), payload.end(), packet + size - payload.size()), "the whole payload");
  }
}

Bytes Input(Framing framing, const VirtioNetHdr& header, const Bytes& packet) {
  Bytes input(kPrefix);
  input[0] = framing == Framing::kEthernet ? 1 : 0;
  input[1] = 8;
  header.Encode(input.data() + 2, VirtioNetHdr::kSize);
  input.insert(input.end(), packet.begin(), packet.end());
  return input;
}

/// In an outer IPv4 packet with the headers `around`, whose lengths are set.
Bytes Tunnelled(const PacketSpec& spec, Bytes around) {
  VirtioNetHdr header = spec.Header(100);
  header.csum_start = static_cast<uint16_t>(header.csum_start + around.size());
  const Bytes inner = spec.BuildPartial();
  const size_t size = around.size() + inner.size();
  StoreBe16(around.data() + 2, static_cast<uint16_t>(size));
  if (around[9] == IPPROTO_UDP) StoreBe16(around.data() + 24, static_cast<uint16_t>(size - 20));
  around.insert(around.end(), inner.begin(), inner.end());
  return Input(Framing::kIp, header, around);
}

}  // namespace

std::vector<Bytes> SeedInputs() {
  std::vector<Bytes> inputs;
  for (const PacketSpec& spec : SeedSpecs(250)) {
    for (const uint16_t gso_size : {0, 100}) {
      inputs.push_back(Input(spec.framing(), spec.Header(gso_size), spec.BuildPartial()));
      VirtioNetHdr finished = spec.Header(gso_size);
      finished.flags = kVnetDataValid;
      inputs.push_back(Input(spec.framing(), finished, spec.Build()));
    }
    PacketSpec big = spec;
    big.big = true;
    big.first_extension = IPPROTO_HOPOPTS;
    big.extension_headers = {IPPROTO_TCP, 0, 0xc2, 4, 0, 0, 0, 0};
    if (big.tcp) inputs.push_back(Input(big.framing(), big.Header(100), big.BuildPartial()));
    if (spec.framing() != Framing::kIp) continue;
    inputs.push_back(
        Tunnelled(spec, {0x45, 0, 0,   0, 0, 1, 0,   0, 64, spec.version == 4 ? uint8_t{4} : uint8_t{41},
                         0,    0, 192, 0, 2, 1, 192, 0, 2,  2}));
    inputs.push_back(Tunnelled(spec, {0x45, 0, 0, 0, 0, 1, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0,
                                      2,    2, 9, 9, 9, 9, 0, 0, 7,  7,  8, 0, 0,   0, 0, 0, 1,   0}));
    inputs.push_back(Tunnelled(spec, {0x45, 0, 0,   0, 0, 1, 0,    0, 64, 47, 0, 0, 192, 0,
                                      2,    1, 192, 0, 2, 2, 0x80, 0, 8,  0,  0, 0, 0,   0}));
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
