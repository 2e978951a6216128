#include "core/offload/packet_view.h"

#include <algorithm>
#include <functional>

#include "check.h"
#include "packet_spec.h"
#include "suites.h"

namespace tunsock::test {

namespace {

bool Parse(const Bytes& packet, Framing framing, PacketView& view) {
  const Bytes exact(packet);  // its own allocation, so that a sanitizer sees a read behind it
  return view.Parse(exact.data(), exact.size(), framing);
}

void TestOffsets() {
  for (const bool tcp : {true, false}) {
    for (const int version : {4, 6}) {
      for (const int tags : {-1, 0, 1, 2}) {
        PacketSpec spec;
        spec.tcp = tcp;
        spec.version = version;
        spec.vlan_tags = tags;
        spec.payload = Pattern(33);
        PacketView view;
        CHECK(Parse(spec.Build(), spec.framing(), view), "parses " + spec.Name());
        CHECK(view.ip_offset == spec.link_size() && view.l4_offset == spec.l4_at(),
              "offsets of " + spec.Name());
        CHECK(view.header_size() == spec.header_size() && view.payload_size() == 33,
              "sizes of " + spec.Name());
        CHECK(view.exact() && !view.extended && !view.fragment, "plain " + spec.Name());
        CHECK(ChecksumsRight(spec.Build().data(), view), "checksums of " + spec.Name());
        Bytes padded = spec.Build();
        padded.resize(padded.size() + 3, 0xaa);
        CHECK(Parse(padded, spec.framing(), view) && !view.exact() && view.payload_size() == 33, "padding");
        CHECK(ChecksumsRight(padded.data(), view), "padding is outside the checksum");
        for (size_t size = 0; size < spec.Build().size(); size++) {
          Bytes cut = spec.Build();
          cut.resize(size);
          CHECK(!Parse(cut, spec.framing(), view), "cut at " + std::to_string(size) + ": " + spec.Name());
        }
      }
    }
  }
}

struct Case {
  const char* name;
  int version;
  bool valid;
  size_t l4_header;
  bool fragment;
  bool extended;
  std::function<void(Bytes&)> change;
};

void TestLies() {
  const auto set = [](size_t at, uint8_t value) { return [=](Bytes& bytes) { bytes[at] = value; }; };
  // Bytes 0 to 39 of the IPv6 packet are its header, 0 to 19 of the IPv4 packet; TCP with 8 bytes of options.
  const std::vector<Case> cases = {
      {"version 5", 4, false, 0, false, false, set(0, 0x55)},
      {"version 0", 4, false, 0, false, false, set(0, 0x05)},
      {"IPv4 header of 16 bytes", 4, false, 0, false, false, set(0, 0x44)},
      {"IPv4 header longer than the packet", 4, false, 0, false, false,
       [](Bytes& b) { b[0] = 0x4f, b.resize(50), b[3] = 50; }},
      {"total length under the header's", 4, false, 0, false, false, set(3, 19)},
      {"total length over the packet's", 4, false, 0, false, false, set(2, 1)},
      {"total length cuts TCP", 4, true, 0, false, false, set(3, 39)},
      {"total length cuts TCP options", 4, true, 0, false, false, set(3, 47)},
      {"TCP header of 16 bytes", 4, true, 0, false, false, set(32, 0x40)},
      {"TCP header of 60 bytes in 48", 4, true, 0, false, false, set(32, 0xf0)},
      {"first fragment", 4, true, 0, true, false, set(6, 0x20)},
      {"later fragment", 4, true, 0, true, false, set(7, 1)},
      {"ICMP", 4, true, 0, false, false, set(9, 1)},
      {"payload length over the packet's", 6, false, 0, false, false, set(4, 1)},
      {"payload length cuts TCP", 6, true, 0, false, false, set(5, 19)},
      {"fragment header", 6, true, 0, true, true, set(6, IPPROTO_FRAGMENT)},
      {"authentication header is a protocol of its own", 6, true, 0, false, false, set(6, IPPROTO_AH)},
      {"a fragment header behind a routing header", 6, true, 0, true, true,
       [](Bytes& b) { b[6] = IPPROTO_ROUTING, b[40] = IPPROTO_FRAGMENT, b[41] = 0; }},
      {"routing header longer than the packet", 6, false, 0, false, false,
       [](Bytes& b) { b[6] = IPPROTO_ROUTING, b[41] = 200; }},
      {"hop-by-hop longer than the packet", 6, false, 0, false, false,
       [](Bytes& b) { b[6] = IPPROTO_HOPOPTS, b[41] = 255; }},
      {"destination options to the last byte", 6, false, 0, false, false,
       [](Bytes& b) {
         b[6] = IPPROTO_DSTOPTS, b[40] = IPPROTO_DSTOPTS, b[41] = 4, b[5] = 40;
         b.resize(80);
       }},
  };
  for (const Case& one : cases) {
    PacketSpec spec;
    spec.version = one.version;
    spec.tcp_options = Bytes(8, 1);
    spec.payload = Pattern(20);
    Bytes packet = spec.Build();
    one.change(packet);
    PacketView view;
    CHECK(Parse(packet, Framing::kIp, view) == one.valid, one.name);
    if (!one.valid) continue;
    CHECK(view.l4_header == one.l4_header, one.name);
    CHECK(view.fragment == one.fragment && view.extended == one.extended, one.name);
  }
}

void TestOptionsAndEthernet() {
  PacketSpec options;
  options.ip_options = Bytes(8, 1);
  PacketView view;
  CHECK(Parse(options.Build(), Framing::kIp, view) && view.extended && view.l4_offset == 28, "IPv4 options");

  PacketSpec extensions;
  extensions.version = 6;
  extensions.first_extension = IPPROTO_HOPOPTS;
  extensions.extension_headers = {
      IPPROTO_DSTOPTS, 0, 1, 4, 0, 0, 0, 0, IPPROTO_TCP, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  CHECK(Parse(extensions.Build(), Framing::kIp, view) && view.extended, "IPv6 extension headers");
  CHECK(view.l4_offset == 64 && view.l4_header == 20 && view.is_tcp(), "what is behind extension headers");

  // Hop-by-hop, destination, routing of type 4, destination once more: in any order, as segmentation has it.
  extensions.extension_headers = {IPPROTO_DSTOPTS, 0, 1, 4, 0, 0, 0, 0, IPPROTO_ROUTING, 0, 1, 4, 0, 0, 0, 0};
  Bytes routing(24);
  routing[0] = IPPROTO_DSTOPTS, routing[1] = 2, routing[2] = 4;
  for (const Bytes& more : {routing, Bytes{IPPROTO_TCP, 0, 1, 4, 0, 0, 0, 0}}) {
    extensions.extension_headers.insert(extensions.extension_headers.end(), more.begin(), more.end());
  }
  CHECK(Parse(extensions.Build(), Framing::kIp, view) && view.extended && !view.fragment, "a routing header");
  CHECK(view.l4_offset == 88 && view.l4_header == 20 && view.is_tcp(), "what is behind a routing header");

  // Destination options, one header after another, as far as a payload length reaches; then TCP.
  Bytes endless = extensions.Build();
  endless.resize(40);
  endless[6] = IPPROTO_DSTOPTS;
  endless[4] = 0xff, endless[5] = 0xf8;
  for (size_t left = 0xfff8; left > 0;) {
    const size_t step = std::min<size_t>(left, 2048);
    left -= step;
    Bytes header(step);
    header[0] = static_cast<uint8_t>(left > 0 ? int{IPPROTO_DSTOPTS} : int{IPPROTO_TCP});
    header[1] = static_cast<uint8_t>(step / 8 - 1);
    endless.insert(endless.end(), header.begin(), header.end());
  }
  CHECK(!Parse(endless, Framing::kIp, view), "extension headers beyond what an offset holds");

  PacketSpec big;
  for (const int version : {4, 6}) {
    big.version = version;
    big.payload = Pattern(100);
    Bytes zero = big.Build();
    zero[version == 4 ? 2 : 4] = zero[version == 4 ? 3 : 5] = 0;
    CHECK(view.Parse(zero.data(), zero.size(), Framing::kIp, ZeroLength::kIsAll), "a length of 0 is all");
    CHECK(view.exact() && view.payload_size() == 100 && !view.cut, "all of it");
    Parse(zero, Framing::kIp, view);
    CHECK(view.l4_header == 0, "without that it is 0");
    Bytes cut = big.Build();
    cut.pop_back();
    CHECK(!Parse(cut, Framing::kIp, view) && view.cut, "the end is missing");
  }

  PacketSpec frame;
  frame.vlan_tags = 2;
  Bytes bytes = frame.Build();
  bytes[12 + 8] = 0x81, bytes[12 + 9] = 0x00;
  CHECK(!Parse(bytes, Framing::kEthernet, view), "a third VLAN tag");
  frame.vlan_tags = 0;
  bytes = frame.Build();
  bytes[12] = 0x08, bytes[13] = 0x06;
  CHECK(!Parse(bytes, Framing::kEthernet, view), "ARP");
  bytes[12] = 0x86, bytes[13] = 0xdd;
  CHECK(!Parse(bytes, Framing::kEthernet, view), "EtherType IPv6 before an IPv4 header");
}

}  // namespace

void TestPacketView() {
  TestOffsets();
  TestLies();
  TestOptionsAndEthernet();
}

}  // namespace tunsock::test
