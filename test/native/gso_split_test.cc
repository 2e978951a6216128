#include "core/offload/gso_split.h"

#include <cerrno>
#include <functional>

#include "check.h"
#include "packet_spec.h"
#include "suites.h"

namespace tunsock::test {

namespace {

struct Superpacket {
  PacketSpec spec;
  uint16_t gso_size;
};

/// Every combination of transport, version and framing.
std::vector<PacketSpec> Shapes() {
  std::vector<PacketSpec> shapes;
  for (const bool tcp : {true, false}) {
    for (const int version : {4, 6}) {
      for (const int tags : {-1, 0, 1, 2}) {
        PacketSpec spec;
        spec.tcp = tcp;
        spec.version = version;
        spec.vlan_tags = tags;
        shapes.push_back(spec);
      }
    }
  }
  return shapes;
}

std::vector<Superpacket> Table() {
  std::vector<Superpacket> table;
  for (PacketSpec spec : Shapes()) {
    for (const size_t size : {2, 99, 100, 101, 200, 1000, 1001}) {
      spec.payload = Pattern(size, static_cast<uint32_t>(size));
      for (const uint16_t gso_size : {1, 7, 99, 100, 101, 999}) {
        if (size > gso_size) table.push_back({spec, gso_size});
      }
    }
    spec.payload = Pattern(65535 - spec.header_size() + spec.link_size());
    table.push_back({spec, 1448});
  }
  PacketSpec spec;
  spec.payload = Pattern(5000);
  spec.tcp_options = {1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 8};
  for (unsigned flags = 0; flags < 256; flags++) {
    spec.flags = static_cast<uint8_t>(flags);
    table.push_back({spec, 1400});
  }
  spec.tcp_options = Bytes(40, 1);
  spec.ip_options = Bytes(40, 1);
  spec.id = 0xfffe;
  spec.sequence = 0xfffff000;
  spec.tos = 0xff;
  spec.urgent = 9;
  table.push_back({spec, 1001});
  spec.tcp = false;
  spec.tcp_options.clear();
  table.push_back({spec, 1001});
  PacketSpec extended;
  extended.version = 6;
  extended.first_extension = IPPROTO_HOPOPTS;
  extended.extension_headers = {IPPROTO_TCP, 0, 1, 4, 0, 0, 0, 0};
  extended.payload = Pattern(3000);
  table.push_back({extended, 1220});
  return table;
}

/// Takes up to `most` segments in pieces of `room` bytes a slot.
std::vector<Bytes> Take(GsoSplitter& splitter, size_t most, size_t room) {
  std::vector<Bytes> segments;
  while (!splitter.done() && segments.size() < most) {
    Bytes slot(room);
    const size_t expected = splitter.next_size();
    const size_t size = splitter.Next(slot.data(), slot.size());
    CHECK(size == expected, "next_size() is what Next() returns");
    slot.resize(std::min(size, room));
    segments.push_back(slot);
  }
  return segments;
}

void TestSegmentation() {
  for (const auto& [spec, gso_size] : Table()) {
    const std::string name = spec.Name() + " by " + std::to_string(gso_size);
    const std::vector<PacketSpec> expected = spec.Cut(gso_size);
    Bytes packet = spec.BuildPartial();
    VirtioNetHdr header = spec.Header(gso_size);
    header.hdr_len = static_cast<uint16_t>(gso_size * 31);  // a hint that lies
    GsoSplitter splitter;
    CHECK(splitter.Begin(packet.data(), packet.size(), header, spec.framing()) == 0, name);
    CHECK(splitter.remaining() == expected.size(), "count of " + name);
    std::vector<Bytes> segments = Take(splitter, 2, 70000);
    CHECK(splitter.remaining() == expected.size() - segments.size(), "the rest waits: " + name);
    for (Bytes& later : Take(splitter, SIZE_MAX, 70000)) segments.push_back(std::move(later));
    CHECK(segments.size() == expected.size() && splitter.remaining() == 0, "all of " + name);
    for (size_t i = 0; i < segments.size(); i++) {
      CHECK(segments[i] == expected[i].Build(), "segment " + std::to_string(i) + " of " + name);
    }
    CHECK(splitter.Next(nullptr, 0) == 0 && splitter.next_size() == 0, "done");
  }
}

void TestEcnBit() {
  for (const int version : {4, 6}) {
    PacketSpec spec;
    spec.version = version;
    spec.flags = kTcpAck | kTcpCwr | kTcpEce;
    spec.payload = Pattern(300);
    VirtioNetHdr header = spec.Header(100);
    header.gso_type |= kVnetGsoEcn;
    Bytes packet = spec.BuildPartial();
    GsoSplitter splitter;
    CHECK(splitter.Begin(packet.data(), packet.size(), header, Framing::kIp) == 0, "the ECN bit");
    const std::vector<Bytes> segments = Take(splitter, 9, 2000);
    for (size_t i = 0; i < 3; i++)
      CHECK(segments[i] == spec.Cut(100)[i].Build(), "CWR on the first, ECE on all");
  }
}

void TestZeroChecksum() {
  for (PacketSpec spec : Shapes()) {
    spec.payload = Pattern(100);
    MakeChecksumZero(spec);
    const PacketSpec first = spec;
    const Bytes more = Pattern(60, 2);
    spec.payload.insert(spec.payload.end(), more.begin(), more.end());
    Bytes packet = spec.BuildPartial();
    GsoSplitter splitter;
    CHECK(splitter.Begin(packet.data(), packet.size(), spec.Header(100), spec.framing()) == 0, spec.Name());
    const Bytes segment = Take(splitter, 1, 2000)[0];
    const size_t field = spec.l4_at() + (spec.tcp ? 16 : 6);
    const uint8_t zero = spec.tcp ? 0 : 0xff;
    CHECK(segment[field] == zero && segment[field + 1] == zero, "a checksum of 0: " + spec.Name());
    if (!spec.tcp) CHECK(segment == first.Build(), spec.Name());
  }
}

void TestTruncation() {
  PacketSpec spec;
  spec.payload = Pattern(250);
  const std::vector<PacketSpec> expected = spec.Cut(100);
  for (size_t room = 0; room <= 140; room++) {
    Bytes packet = spec.BuildPartial();
    GsoSplitter splitter;
    CHECK(splitter.Begin(packet.data(), packet.size(), spec.Header(100), Framing::kIp) == 0, "begins");
    const std::vector<Bytes> segments = Take(splitter, SIZE_MAX, room);
    CHECK(segments.size() == 3, "a cut segment counts");
    for (size_t i = 0; i < 3; i++) {
      Bytes whole = expected[i].Build();
      whole.resize(std::min(whole.size(), room));
      CHECK(segments[i] == whole, "a segment cut to " + std::to_string(room));
    }
  }
  for (size_t first = 0; first <= 140; first++) {
    Bytes packet = spec.BuildPartial();
    Bytes head(first);
    Bytes tail(140 - first);
    const iovec to[] = {{head.data(), head.size()}, {nullptr, 0}, {tail.data(), tail.size()}};
    GsoSplitter splitter;
    CHECK(splitter.Begin(packet.data(), packet.size(), spec.Header(100), Framing::kIp) == 0, "begins");
    CHECK(splitter.Next(to, 3) == 140, "scattered");
    head.insert(head.end(), tail.begin(), tail.end());
    CHECK(head == expected[0].Build(), "scattered at " + std::to_string(first));
  }
}

/// Packets that are no superpackets: `header` and what is to come out.
void ExpectSingle(Bytes packet, const VirtioNetHdr& header, Framing framing, const Bytes& expected,
                  const std::string& name) {
  GsoSplitter splitter;
  CHECK(splitter.Begin(packet.data(), packet.size(), header, framing) == 0, name);
  CHECK(splitter.remaining() == 1, name);
  const std::vector<Bytes> segments = Take(splitter, 9, 70000);
  CHECK(segments.size() == 1 && segments[0] == expected, name);
}

void TestSinglePackets() {
  for (PacketSpec spec : Shapes()) {
    spec.payload = Pattern(77);
    const std::string name = spec.Name();
    ExpectSingle(spec.Build(), VirtioNetHdr(), spec.framing(), spec.Build(), "untouched " + name);
    VirtioNetHdr valid;
    valid.flags = kVnetDataValid;
    ExpectSingle(spec.Build(), valid, spec.framing(), spec.Build(), "already verified " + name);
    ExpectSingle(spec.BuildPartial(), spec.Header(0), spec.framing(), spec.Build(), "completed " + name);
    ExpectSingle(spec.BuildPartial(), spec.Header(77), spec.framing(), spec.Build(), "one segment " + name);
    MakeChecksumZero(spec);
    Bytes zero = spec.Build();
    const size_t field = spec.l4_at() + (spec.tcp ? 16 : 6);
    zero[field] = zero[field + 1] = 0xff;  // as skb_checksum_help() has it, TCP too
    ExpectSingle(spec.BuildPartial(), spec.Header(0), spec.framing(), zero, "completed to zero " + name);
    ExpectSingle(spec.BuildPartial(), spec.Header(77), spec.framing(), zero, "one segment, to zero " + name);
  }
  const Bytes garbage = Pattern(40);
  ExpectSingle(garbage, VirtioNetHdr(), Framing::kEthernet, garbage, "what is no IP packet");
}

struct Lie {
  const char* name;
  std::function<void(PacketSpec&)> spec;
  std::function<void(Bytes&, VirtioNetHdr&)> change;
};

void ExpectRefused(const Bytes& packet, const VirtioNetHdr& header, Framing framing,
                   const std::string& name) {
  Bytes changed = packet;
  GsoSplitter splitter;
  CHECK(splitter.Begin(changed.data(), changed.size(), header, framing) == -EINVAL, name);
  CHECK(splitter.done() && splitter.remaining() == 0, name);
  CHECK(changed == packet, "left as it was: " + name);
}

void TestLies() {
  const auto udp = [](PacketSpec& spec) { spec.tcp = false; };
  const auto ip6 = [](PacketSpec& spec) { spec.version = 6; };
  const auto tcp = [](PacketSpec&) {};
  const std::vector<Lie> lies = {
      {"gso_size 0", tcp, [](Bytes&, VirtioNetHdr& h) { h.gso_size = 0; }},
      {"TCPv6 type on IPv4", tcp, [](Bytes&, VirtioNetHdr& h) { h.gso_type = kVnetGsoTcp6; }},
      {"TCPv4 type on IPv6", ip6, [](Bytes&, VirtioNetHdr& h) { h.gso_type = kVnetGsoTcp4; }},
      {"UDP type on TCP", tcp, [](Bytes&, VirtioNetHdr& h) { h.gso_type = kVnetGsoUdpL4; }},
      {"TCP type on UDP", udp, [](Bytes&, VirtioNetHdr& h) { h.gso_type = kVnetGsoTcp4; }},
      {"UFO", udp, [](Bytes&, VirtioNetHdr& h) { h.gso_type = 3; }},
      {"an unknown type", tcp, [](Bytes&, VirtioNetHdr& h) { h.gso_type = 0x21; }},
      {"ECN alone", tcp, [](Bytes&, VirtioNetHdr& h) { h.gso_type = kVnetGsoEcn; }},
      {"ECN on UDP", udp, [](Bytes&, VirtioNetHdr& h) { h.gso_type |= kVnetGsoEcn; }},
      {"csum_start before TCP", tcp, [](Bytes&, VirtioNetHdr& h) { h.csum_start = 0; }},
      {"csum_start beyond the end", tcp, [](Bytes&, VirtioNetHdr& h) { h.csum_start = 65535; }},
      {"csum_offset of UDP on TCP", tcp, [](Bytes&, VirtioNetHdr& h) { h.csum_offset = 6; }},
      {"csum_offset beyond the end", tcp, [](Bytes&, VirtioNetHdr& h) { h.csum_offset = 65535; }},
      {"TCP header of 16 bytes", tcp, [](Bytes& b, VirtioNetHdr&) { b[32] = 0x40; }},
      {"IPv4 header of 16 bytes", tcp, [](Bytes& b, VirtioNetHdr&) { b[0] = 0x44; }},
      {"IPv4 header of 60 bytes", tcp, [](Bytes& b, VirtioNetHdr&) { b[0] = 0x4f; }},
      {"IPv4 total length too long", tcp, [](Bytes& b, VirtioNetHdr&) { b[2] = 0xff; }},
      {"IPv4 total length too short", tcp, [](Bytes& b, VirtioNetHdr&) { b[3]--; }},
      {"IPv4 total length 0, UDP", udp, [](Bytes& b, VirtioNetHdr&) { b[2] = b[3] = 0; }},
      {"IPv6 payload length too long", ip6, [](Bytes& b, VirtioNetHdr&) { b[4] = 0xff; }},
      {"IPv6 payload length too short", ip6, [](Bytes& b, VirtioNetHdr&) { b[5]--; }},
      {"UDP length too short", udp, [](Bytes& b, VirtioNetHdr&) { b[25]--; }},
      {"padding", tcp, [](Bytes& b, VirtioNetHdr&) { b.push_back(0); }},
      {"first fragment", tcp, [](Bytes& b, VirtioNetHdr&) { b[6] = 0x20; }},
      {"later fragment", tcp, [](Bytes& b, VirtioNetHdr&) { b[7] = 5; }},
      {"IPv6 fragment header", ip6, [](Bytes& b, VirtioNetHdr&) { b[6] = IPPROTO_FRAGMENT; }},
      {"IPv6 routing header beyond the end", ip6,
       [](Bytes& b, VirtioNetHdr&) { b[6] = IPPROTO_ROUTING, b[41] = 255; }},
      {"IPv6 authentication header", ip6, [](Bytes& b, VirtioNetHdr&) { b[6] = IPPROTO_AH; }},
      {"a segment too long for IP", tcp,
       [](Bytes& b, VirtioNetHdr& h) { b.resize(70000), b[2] = b[3] = 0, h.gso_size = 65500; }},
      {"IPv6 hop-by-hop beyond the end", ip6, [](Bytes& b, VirtioNetHdr&) { b[6] = 0, b[41] = 255; }},
      {"no such version", tcp, [](Bytes& b, VirtioNetHdr&) { b[0] = 0x75; }},
      {"ICMP", tcp, [](Bytes& b, VirtioNetHdr&) { b[9] = 1; }},
  };
  for (const Lie& lie : lies) {
    PacketSpec spec;
    lie.spec(spec);
    spec.payload = Pattern(500);
    Bytes packet = spec.BuildPartial();
    VirtioNetHdr header = spec.Header(100);
    lie.change(packet, header);
    packet.shrink_to_fit();
    ExpectRefused(packet, header, Framing::kIp, lie.name);
  }
}

void TestTruncatedSuperpackets() {
  for (PacketSpec spec : Shapes()) {
    spec.payload = Pattern(120);
    const Bytes whole = spec.BuildPartial();
    for (size_t size = 0; size < whole.size(); size++) {
      const Bytes cut(whole.begin(), whole.begin() + static_cast<long>(size));
      ExpectRefused(cut, spec.Header(50), spec.framing(), spec.Name() + " cut at " + std::to_string(size));
    }
  }
  PacketSpec spec;
  spec.payload = Pattern(20);
  const Bytes packet = spec.BuildPartial();
  const auto size = static_cast<uint16_t>(packet.size());
  for (const auto& [start, offset] : std::vector<std::pair<uint16_t, uint16_t>>{
           {size, 0}, {size - 1, 0}, {0, size}, {0, size - 1}, {65535, 65535}, {20, 39}, {20, 65535}}) {
    VirtioNetHdr header = spec.Header(0);
    header.csum_start = start;
    header.csum_offset = offset;
    ExpectRefused(packet, header, Framing::kIp,
                  "checksum at " + std::to_string(start) + "+" + std::to_string(offset));
  }
  ExpectRefused({}, VirtioNetHdr(), Framing::kIp, "nothing");
}

void TestVirtioHeader() {
  VirtioNetHdr header = PacketSpec().Header(1448);
  uint8_t bytes[VirtioNetHdr::kSizeWithNumBuffers];
  for (uint8_t& byte : bytes) byte = 0xee;
  header.Encode(bytes, VirtioNetHdr::kSize);
  CHECK(bytes[10] == 0xee && bytes[11] == 0xee, "ten bytes and no more");
  header.Encode(bytes, sizeof bytes);
  CHECK(bytes[10] == 0 && bytes[11] == 0, "no buffers counted");
  const VirtioNetHdr read = VirtioNetHdr::Decode(bytes);
  CHECK(read.flags == 1 && read.gso_type == 1 && read.hdr_len == 40, "flags, type, header length");
  CHECK(read.gso_size == 1448 && read.csum_start == 20 && read.csum_offset == 16, "sizes and offsets");
}

}  // namespace

void TestGsoSplit() {
  TestVirtioHeader();
  TestSegmentation();
  TestEcnBit();
  TestZeroChecksum();
  TestTruncation();
  TestSinglePackets();
  TestLies();
  TestTruncatedSuperpackets();
}

}  // namespace tunsock::test
