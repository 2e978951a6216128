#include <algorithm>
#include <array>
#include <memory>

#include "check.h"
#include "core/offload/checksum.h"
#include "core/offload/ip_layers.h"
#include "core/offload/packet_view.h"
#include "fuzz_target.h"

// Input: framing, whether a length of 0 means all, whether a transport's place is known (1 byte, its lowest
// bits), a new payload's size (2 bytes), then a packet.

namespace tunsock::test {

namespace {

constexpr size_t kPrefix = 3;
enum Option : uint8_t { kEthernet = 1, kZeroIsAll = 2, kAtTransport = 4 };

/// What a packet is, read from its first byte on by a reader that can't go beyond its end: the slow,
/// independent reference.
class Reference {
 public:
  Reference(const Bytes& bytes, Framing framing, ZeroLength zero) : bytes_(bytes), zero_(zero) {
    valid_ = (framing == Framing::kIp || Link()) && Ip();
  }

  void Compare(bool parsed, const PacketView& view) const {
    CHECK(parsed == valid_, "a packet, or none");
    if (!parsed) {
      CHECK(view.cut == cut_, "whether its end is missing");
      return;
    }
    CHECK(view.size == bytes_.size() && view.ip_size == ip_size_ && view.ip_offset == ip_at_, "its sizes");
    CHECK(view.version == version_ && view.protocol == protocol_ && view.l4_offset == l4_at_,
          "its transport");
    CHECK(view.fragment == fragment_ && view.extended == extended_ && view.jumbo == jumbo_ && !view.cut,
          "what is special of it");
    CHECK(view.l4_header == TransportHeader(), "its transport's header");
    CHECK(view.header_size() + view.payload_size() == ip_at_ + ip_size_, "headers and payload are all");
  }

  /// The sum of transport and pseudo header, as RFC 9293, RFC 768 and RFC 8200 have it.
  [[nodiscard]] uint16_t TransportSum() const {
    Bytes summed(bytes_.begin() + At(ip_at_ + (version_ == 4 ? 12 : 8)),
                 bytes_.begin() + At(ip_at_ + (version_ == 4 ? 20 : 40)));
    const size_t size = ip_at_ + ip_size_ - l4_at_;
    for (const size_t byte : {size_t{0}, size_t{protocol_}, size >> 8 & 0xff, size & 0xff}) {
      summed.push_back(static_cast<uint8_t>(byte));
    }
    summed.insert(summed.end(), bytes_.begin() + At(l4_at_), bytes_.begin() + At(ip_at_ + ip_size_));
    return SlowSum(summed.data(), summed.size());
  }

  [[nodiscard]] uint16_t IpHeaderSum() const { return SlowSum(bytes_.data() + ip_at_, l4_at_ - ip_at_); }

 private:
  static long At(size_t offset) { return static_cast<long>(offset); }
  [[nodiscard]] size_t Byte(size_t at) const { return bytes_.at(at); }
  [[nodiscard]] size_t Word(size_t at) const { return Byte(at) << 8 | Byte(at + 1); }
  [[nodiscard]] bool Has(size_t end) const { return end <= bytes_.size(); }

  bool Link() {
    size_t at = 12;
    for (int tags = 0; tags < 2 && Has(at + 2) && (Word(at) == 0x8100 || Word(at) == 0x88a8); tags++) at += 4;
    if (!Has(at + 3)) return false;
    ip_at_ = at + 2;
    return (Word(at) == 0x0800 && Byte(ip_at_) >> 4 == 4) || (Word(at) == 0x86dd && Byte(ip_at_) >> 4 == 6);
  }

  bool Ip() {
    if (!Has(ip_at_ + 1)) return false;
    version_ = Byte(ip_at_) >> 4;
    if (version_ == 4) return Ip4();
    return version_ == 6 && Ip6();
  }

  [[nodiscard]] size_t SizeOr(size_t said, size_t fixed) const {
    return said == 0 && zero_ == ZeroLength::kIsAll ? bytes_.size() - ip_at_ : said + fixed;
  }

  bool Ip4() {
    if (!Has(ip_at_ + 20)) return false;
    const size_t header = Byte(ip_at_) % 16 * 4;
    ip_size_ = SizeOr(Word(ip_at_ + 2), 0);
    cut_ = !Has(ip_at_ + ip_size_);
    if (cut_ || header < 20 || header > ip_size_) return false;
    l4_at_ = ip_at_ + header;
    protocol_ = Byte(ip_at_ + 9);
    const size_t offset = Word(ip_at_ + 6);
    fragment_ = (offset & 0x2000) != 0 || (offset & 0x1fff) != 0;
    extended_ = header != 20;
    return true;
  }

  bool Ip6() {
    if (!Has(ip_at_ + 40)) return false;
    ip_size_ = SizeOr(Word(ip_at_ + 4), 40);
    cut_ = !Has(ip_at_ + ip_size_);
    if (cut_) return false;
    const size_t end = ip_at_ + ip_size_;
    l4_at_ = ip_at_ + 40;
    protocol_ = Byte(ip_at_ + 6);
    for (const size_t first = l4_at_; protocol_ == 0 || protocol_ == 43 || protocol_ == 60;) {
      if (l4_at_ + 8 > end) return false;
      // A payload's length of 32 bits, before TCP and with nothing else beside it (RFC 2675).
      if (l4_at_ == first && protocol_ == 0) {
        jumbo_ =
            Byte(l4_at_) == 6 && Byte(l4_at_ + 1) == 0 && Byte(l4_at_ + 2) == 0xc2 && Byte(l4_at_ + 3) == 4;
      }
      protocol_ = Byte(l4_at_);
      l4_at_ += 8 + 8 * Byte(l4_at_ + 1);
      if (l4_at_ > end) return false;
      extended_ = true;
    }
    fragment_ = protocol_ == 44;
    extended_ = extended_ || fragment_;
    return true;
  }

  [[nodiscard]] size_t TransportHeader() const {
    const size_t room = ip_at_ + ip_size_ - l4_at_;
    if (fragment_) return 0;
    if (protocol_ == 17) return room >= 8 ? 8 : 0;
    if (protocol_ != 6 || room < 20) return 0;
    const size_t header = Byte(l4_at_ + 12) / 16 * 4;
    return header >= 20 && header <= room ? header : 0;
  }

  const Bytes& bytes_;
  ZeroLength zero_;
  bool valid_ = false;
  size_t ip_at_ = 0;
  size_t ip_size_ = 0;
  size_t l4_at_ = 0;
  size_t version_ = 0;
  size_t protocol_ = 0;
  bool fragment_ = false;
  bool extended_ = false;
  bool jumbo_ = false;
  bool cut_ = false;
};

/// What is made of headers once they are read: sums, and headers of a packet with another payload.
void UseHeaders(Bytes packet, const PacketView& view, const Reference& reference, size_t payload) {
  const bool right = (view.version == 6 || reference.IpHeaderSum() == 0xffff) &&
                     (WithoutChecksum(packet.data(), view) || reference.TransportSum() == 0xffff);
  CHECK(ChecksumsRight(packet.data(), view) == right, "whether its checksums are right");
  const std::unique_ptr<uint8_t[]> headers(new uint8_t[view.header_size()]);
  std::copy(packet.begin(), packet.begin() + static_cast<long>(view.header_size()), headers.get());
  payload = std::min(payload, kMaxIpSize - view.ip_header() - view.l4_header);
  SetPayloadSize(headers.get(), view, payload);
  Bytes changed(headers.get(), headers.get() + view.header_size());
  changed.resize(view.header_size() + payload);
  PacketView again;
  CHECK(again.ParseIp(changed.data(), changed.size(), view.ip_offset) && again.exact(),
        "a packet of its new length");
  CHECK(again.payload_size() == payload && again.l4_offset == view.l4_offset &&
            again.l4_header == view.l4_header,
        "with the same headers");
  const uint8_t* const ip = changed.data() + again.ip_offset;
  CHECK(again.version == 6 || SlowSum(ip, again.ip_header()) == 0xffff, "whose IPv4 checksum is right");
}

/// Packets in packets: each is whole, and lies behind the header of the one around it.
void ParseLayers(const Bytes& packet, Framing framing, ZeroLength zero, size_t transport) {
  IpLayers layers;
  if (!layers.Parse(packet.data(), packet.size(), framing, transport, zero)) return;
  CHECK(layers.count() >= 1 && layers.count() <= IpLayers::kMost, "as many as there is room for");
  for (size_t i = 0; i < layers.count(); i++) {
    CHECK(layers[i].exact() && !layers[i].fragment && layers[i].size == packet.size(),
          "each to the last byte");
    CHECK(i == 0 || layers[i].ip_offset >= layers[i - 1].l4_offset, "one within the other");
  }
  CHECK(layers.innermost().l4_header != 0, "TCP or UDP in the end");
  CHECK(transport == 0 || layers.innermost().l4_offset == transport, "at the place that is known");
}

}  // namespace

std::vector<Bytes> SeedInputs() {
  std::vector<Bytes> inputs;
  for (const PacketSpec& spec : SeedSpecs(33)) {
    for (const bool big : {false, true}) {
      PacketSpec one = spec;
      one.big = big;
      const uint8_t options = static_cast<uint8_t>((one.framing() == Framing::kEthernet ? kEthernet : 0) |
                                                   (big ? kZeroIsAll : kAtTransport));
      Bytes input = {options, 0, 50};
      const Bytes packet = one.Build();
      input.insert(input.end(), packet.begin(), packet.end());
      inputs.push_back(input);
    }
    if (spec.framing() != Framing::kIp) continue;
    // In another packet.
    Bytes outer = {0, 0, 50,  0x45, 0, 0, 0,   0, 1, 0, 0, 64, spec.version == 4 ? uint8_t{4} : uint8_t{41},
                   0, 0, 192, 0,    2, 1, 192, 0, 2, 2};
    const Bytes inner = spec.Build();
    outer[kPrefix + 3] = static_cast<uint8_t>(20 + inner.size());
    outer.insert(outer.end(), inner.begin(), inner.end());
    inputs.push_back(outer);
  }
  return inputs;
}

}  // namespace tunsock::test

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tunsock;
  if (size < test::kPrefix) return 0;
  const Framing framing = (data[0] & test::kEthernet) != 0 ? Framing::kEthernet : Framing::kIp;
  const ZeroLength zero = (data[0] & test::kZeroIsAll) != 0 ? ZeroLength::kIsAll : ZeroLength::kIsWrong;
  // Its own allocation, and no longer than it is, so that nothing behind it can be read.
  const test::Bytes packet(data + test::kPrefix, data + size);
  const test::Reference reference(packet, framing, zero);
  PacketView view;
  const bool parsed = view.Parse(packet.data(), packet.size(), framing, zero);
  reference.Compare(parsed, view);
  const bool known = parsed && (data[0] & test::kAtTransport) != 0;
  test::ParseLayers(packet, framing, zero, known ? view.l4_offset : 0);
  if (parsed && view.l4_header != 0) {
    test::UseHeaders(packet, view, reference, static_cast<size_t>(data[1] << 8 | data[2]));
  }
  return 0;
}
