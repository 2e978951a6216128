#include "core/offload/gro_table.h"

#include <functional>
#include <memory>

#include "check.h"
#include "flush.h"
#include "suites.h"

namespace tunsock::test {

namespace {

using Groups = std::vector<std::vector<uint16_t>>;

GroOptions AllOf(Framing framing) {
  return {true, true, true, framing};
}

/// `count` packets of one flow that follow each other, each of `size` bytes of payload.
std::vector<PacketSpec> FlowOf(PacketSpec spec, size_t count, size_t size) {
  spec.payload = Pattern(count * size, spec.source_port);
  return spec.Cut(size);
}

std::vector<Bytes> BuildAll(const std::vector<PacketSpec>& specs) {
  std::vector<Bytes> packets;
  for (const PacketSpec& spec : specs) packets.push_back(spec.Build());
  return packets;
}

Groups MembersOf(const std::vector<Written>& writes) {
  Groups groups;
  for (const Written& write : writes) groups.push_back(write.members);
  return groups;
}

std::string Show(const Groups& groups) {
  std::string text;
  for (const auto& group : groups) {
    text += "{";
    for (const uint16_t member : group) text += std::to_string(member) + " ";
    text += "}";
  }
  return text;
}

/// Flushes `packets`, and checks which of them went together. Whoever went alone went out bit for bit.
std::vector<Written> Expect(GroTable& table, const std::vector<Bytes>& packets, const Groups& expected,
                            const std::string& name) {
  const std::vector<Written> writes = Flush(table, packets);
  CHECK(MembersOf(writes) == expected, name + ": " + Show(MembersOf(writes)));
  for (const Written& write : writes) {
    if (write.members.size() > 1) continue;
    CHECK(write.bytes == packets[write.members[0]], "as it was: " + name);
    CHECK(write.header.gso_type == kVnetGsoNone && write.header.flags == 0, "a plain header: " + name);
  }
  return writes;
}

/// One superpacket, field by field, against the reference that built it whole.
void TestMergedBytes() {
  for (const bool tcp : {true, false}) {
    for (const int version : {4, 6}) {
      for (const int tags : {-1, 0, 1, 2}) {
        PacketSpec spec;
        spec.tcp = tcp;
        spec.version = version;
        spec.vlan_tags = tags;
        spec.id = 0xffff;
        spec.sequence = 0xffffff00;
        if (tcp) spec.tcp_options = {1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 8};
        spec.payload = Pattern(1001);
        spec.flags = kTcpAck | kTcpPsh | kTcpEce;
        const std::vector<Bytes> packets = BuildAll(spec.Cut(333));
        GroTable table(AllOf(spec.framing()));
        const std::vector<Written> writes = Expect(table, packets, {{0, 1, 2, 3}}, spec.Name());
        CHECK(writes[0].bytes == spec.BuildPartial(), "merged " + spec.Name());
        uint8_t got[VirtioNetHdr::kSize];
        uint8_t wanted[VirtioNetHdr::kSize];
        writes[0].header.Encode(got, sizeof got);
        spec.Header(333).Encode(wanted, sizeof wanted);
        CHECK(std::memcmp(got, wanted, sizeof got) == 0, "virtio header of " + spec.Name());
      }
    }
  }
}

struct Change {
  const char* name;
  bool tcp;
  int version;
  Groups expected;
  std::function<void(PacketSpec&)> spec;
  std::function<void(Bytes&)> bytes;
};

/// Four packets of a flow, of which number 2 is changed.
void TestOneChanged() {
  const auto same = [](PacketSpec&) {};
  const auto keep = [](Bytes&) {};
  const Groups all = {{0, 1, 2, 3}};
  const Groups alone = {{0, 1}, {2}, {3}};
  const Groups ends = {{0, 1, 2}, {3}};
  const Bytes hop_by_hop = {IPPROTO_TCP, 0, 1, 4, 0, 0, 0, 0};
  const std::vector<Change> changes = {
      {"nothing, TCPv4", true, 4, all, same, keep},
      {"nothing, TCPv6", true, 6, all, same, keep},
      {"nothing, UDPv4", false, 4, all, same, keep},
      {"nothing, UDPv6", false, 6, all, same, keep},
      {"TOS", true, 4, alone, [](PacketSpec& s) { s.tos = 4; }, keep},
      {"ECN mark", true, 4, alone, [](PacketSpec& s) { s.tos = 3; }, keep},
      {"TTL", true, 4, alone, [](PacketSpec& s) { s.hop_limit--; }, keep},
      {"DF", true, 4, alone, [](PacketSpec& s) { s.fragment = 0; }, keep},
      {"the reserved bit", true, 4, alone, [](PacketSpec& s) { s.fragment = 0xc000; }, keep},
      {"first fragment", true, 4, alone, [](PacketSpec& s) { s.fragment = 0x2000; }, keep},
      {"later fragment", false, 4, alone, [](PacketSpec& s) { s.fragment = 0x2005; }, keep},
      {"IPv4 id", true, 4, alone, [](PacketSpec& s) { s.id += 7; }, keep},
      {"IPv4 id that stands still", false, 4, alone, [](PacketSpec& s) { s.id--; }, keep},
      {"IPv4 options", true, 4, alone, [](PacketSpec& s) { s.ip_options = Bytes(4, 1); }, keep},
      {"traffic class", true, 6, alone, [](PacketSpec& s) { s.tos = 4; }, keep},
      {"flow label", true, 6, alone, [](PacketSpec& s) { s.flow_label = 5; }, keep},
      {"hop limit", false, 6, alone, [](PacketSpec& s) { s.hop_limit--; }, keep},
      {"an extension header", true, 6, alone,
       [&](PacketSpec& s) { s.first_extension = IPPROTO_HOPOPTS, s.extension_headers = hop_by_hop; }, keep},
      {"a gap in the sequence", true, 4, alone, [](PacketSpec& s) { s.sequence++; }, keep},
      {"a repeated sequence", true, 6, alone, [](PacketSpec& s) { s.sequence -= 100; }, keep},
      {"acknowledgement", true, 4, alone, [](PacketSpec& s) { s.acknowledged++; }, keep},
      {"window", true, 4, alone, [](PacketSpec& s) { s.window++; }, keep},
      {"urgent pointer", true, 4, alone, [](PacketSpec& s) { s.urgent++; }, keep},
      {"another TCP header length", true, 4, alone, [](PacketSpec& s) { s.tcp_options = Bytes(4, 1); }, keep},
      {"FIN", true, 4, alone, [](PacketSpec& s) { s.flags |= kTcpFin; }, keep},
      {"SYN", true, 4, alone, [](PacketSpec& s) { s.flags |= kTcpSyn; }, keep},
      {"RST", true, 4, alone, [](PacketSpec& s) { s.flags |= kTcpRst; }, keep},
      {"URG", true, 4, alone, [](PacketSpec& s) { s.flags |= kTcpUrg; }, keep},
      {"CWR", true, 4, alone, [](PacketSpec& s) { s.flags |= kTcpCwr; }, keep},
      {"ECE", true, 4, alone, [](PacketSpec& s) { s.flags |= kTcpEce; }, keep},
      {"no ACK", true, 4, alone, [](PacketSpec& s) { s.flags = 0; }, keep},
      {"PSH", true, 4, ends, [](PacketSpec& s) { s.flags |= kTcpPsh; }, keep},
      {"a shorter payload", true, 4, ends, [](PacketSpec& s) { s.payload.pop_back(); }, keep},
      {"a shorter payload, UDP", false, 6, ends, [](PacketSpec& s) { s.payload.pop_back(); }, keep},
      {"a longer payload", true, 4, alone, [](PacketSpec& s) { s.payload.push_back(1); }, keep},
      {"no payload", true, 4, alone, [](PacketSpec& s) { s.payload.clear(); }, keep},
      {"no payload, UDP", false, 4, alone, [](PacketSpec& s) { s.payload.clear(); }, keep},
      {"no UDP checksum", false, 4, alone, [](PacketSpec& s) { s.no_udp_checksum = true; }, keep},
      {"a wrong payload", true, 4, alone, same, [](Bytes& b) { b.back() ^= 1; }},
      {"a wrong payload, UDP", false, 6, alone, same, [](Bytes& b) { b.back() ^= 1; }},
      {"a wrong TCP checksum", true, 6, alone, same, [](Bytes& b) { b[56] ^= 1; }},
      {"a wrong IPv4 checksum", true, 4, alone, same, [](Bytes& b) { b[10] ^= 1; }},
      {"UDP length", false, 4, alone, same, [](Bytes& b) { b[25]--; }},
      {"UDP length, with the checksum to it", false, 4, alone, same, [](Bytes& b) { b[25]--, b[27]++; }},
      {"padding", true, 4, alone, same, [](Bytes& b) { b.push_back(0); }},
      {"a cut packet", true, 4, alone, same, [](Bytes& b) { b.pop_back(); }},
      {"a cut TCP header", true, 4, alone, same, [](Bytes& b) { b.resize(30), b[2] = 0, b[3] = 30; }},
      {"a lying TCP header length", true, 4, alone, same,
       [](Bytes& b) { b[32] = 0xf0, b.resize(60), b[3] = 60; }},
      {"another protocol", true, 4, alone, same, [](Bytes& b) { b[9] = 1; }},
      {"rubbish", true, 4, alone, same, [](Bytes& b) { b = Pattern(3); }},
      {"nothing at all", true, 4, alone, same, [](Bytes& b) { b.clear(); }},
  };
  for (const Change& change : changes) {
    PacketSpec spec;
    spec.tcp = change.tcp;
    spec.version = change.version;
    std::vector<PacketSpec> specs = FlowOf(spec, 4, 100);
    change.spec(specs[2]);
    std::vector<Bytes> packets = BuildAll(specs);
    change.bytes(packets[2]);
    GroTable table(AllOf(Framing::kIp));
    Expect(table, packets, change.expected, change.name);
  }
}

void TestFirstPacket() {
  GroTable table(AllOf(Framing::kIp));
  std::vector<Bytes> packets = BuildAll(FlowOf(PacketSpec(), 4, 100));
  packets[0].back() ^= 1;
  Expect(table, packets, {{0}, {1, 2, 3}}, "a wrong checksum on the first");

  std::vector<PacketSpec> specs = FlowOf(PacketSpec(), 4, 100);
  specs[0].flags |= kTcpPsh;
  Expect(table, BuildAll(specs), {{0}, {1, 2, 3}}, "PSH on the first");

  PacketSpec zero;
  zero.payload = Pattern(100);
  MakeChecksumZero(zero);
  specs = FlowOf(zero, 2, 100);
  specs[0].payload = zero.payload;
  packets = BuildAll(specs);
  Expect(table, packets, {{0, 1}}, "a TCP checksum of 0");
  packets[0][36] = packets[0][37] = 0xff;
  Expect(table, packets, {{0}, {1}}, "the other form of 0, which segmentation would not give back");
}

void TestAllExtended() {
  GroTable table(AllOf(Framing::kIp));
  PacketSpec options;
  options.ip_options = Bytes(4, 1);
  Expect(table, BuildAll(FlowOf(options, 3, 100)), {{0}, {1}, {2}}, "IPv4 options on all");
  PacketSpec extensions;
  extensions.version = 6;
  extensions.first_extension = IPPROTO_HOPOPTS;
  extensions.extension_headers = {IPPROTO_TCP, 0, 1, 4, 0, 0, 0, 0};
  Expect(table, BuildAll(FlowOf(extensions, 3, 100)), {{0}, {1}, {2}}, "an extension header on all");
  extensions.first_extension = IPPROTO_ROUTING;
  extensions.extension_headers = {IPPROTO_TCP, 0, 4, 0, 0, 0, 0, 0};
  Expect(table, BuildAll(FlowOf(extensions, 3, 100)), {{0}, {1}, {2}}, "a routing header on all");
}

/// Another Ethernet or VLAN header keeps packets apart, and in order.
void TestLinkHeader() {
  PacketSpec spec;
  spec.vlan_tags = 1;
  std::vector<Bytes> packets = BuildAll(FlowOf(spec, 4, 100));
  packets[2][15] ^= 1;
  GroTable table(AllOf(Framing::kEthernet));
  Expect(table, packets, {{0, 1}, {2}, {3}}, "another VLAN");
  packets[2][15] ^= 1;
  packets[2][0] ^= 4;
  Expect(table, packets, {{0, 1}, {2}, {3}}, "another MAC address");

  PacketSpec bare;
  bare.tcp = false;
  bare.vlan_tags = 0;
  std::vector<PacketSpec> specs = FlowOf(bare, 3, 1);
  specs[1].vlan_tags = 2;
  Expect(table, BuildAll(specs), {{0}, {1}, {2}}, "VLAN tags on one");
}

/// IPv4 ids that stand still, and UDP without checksums: each merges with its own kind.
void TestWhatSaysNothing() {
  GroTable table(AllOf(Framing::kIp));
  for (const bool tcp : {true, false}) {
    PacketSpec spec;
    spec.tcp = tcp;
    std::vector<PacketSpec> specs = FlowOf(spec, 4, 100);
    for (PacketSpec& packet : specs) packet.id = 7;
    const std::vector<Written> writes =
        Expect(table, BuildAll(specs), {{0, 1, 2, 3}}, "an id that stands still");
    PacketSpec whole = specs[0];
    whole.payload = Pattern(400, spec.source_port);
    CHECK(writes[0].bytes == whole.BuildPartial(), "merged with the first one's id");

    specs[2].id = 9;
    Expect(table, BuildAll(specs), {{0, 1}, {2}, {3}}, "it moves on");
    specs[2].id = 8, specs[3].id = 9;
    Expect(table, BuildAll(specs), {{0, 1}, {2, 3}}, "it stands and then counts");
    specs[1].id = 8, specs[2].id = 8, specs[3].id = 8;
    Expect(table, BuildAll(specs), {{0, 1}, {2, 3}}, "it counts and then stands");
    for (PacketSpec& packet : specs) packet.id = 7, packet.fragment = 0;
    Expect(table, BuildAll(specs), {{0}, {1}, {2}, {3}}, "without DF it means something");
  }
  PacketSpec udp;
  udp.tcp = false;
  udp.no_udp_checksum = true;
  std::vector<PacketSpec> specs = FlowOf(udp, 4, 100);
  const std::vector<Written> writes = Expect(table, BuildAll(specs), {{0, 1, 2, 3}}, "no UDP checksum");
  udp.payload = Pattern(400, udp.source_port);
  CHECK(writes[0].bytes == udp.BuildPartial(), "merged with one to be made");
  specs[2].no_udp_checksum = false;
  Expect(table, BuildAll(specs), {{0, 1}, {2}, {3}}, "across checksum and none");
  specs[3].no_udp_checksum = false;
  Expect(table, BuildAll(specs), {{0, 1}, {2, 3}}, "each with its own kind");
  std::vector<Bytes> packets = BuildAll(specs);
  packets[1][10] ^= 1;
  Expect(table, packets, {{0}, {1}, {2, 3}}, "a wrong IPv4 checksum above no UDP checksum");
  udp.version = 6;
  Expect(table, BuildAll(FlowOf(udp, 3, 100)), {{0}, {1}, {2}}, "no UDP checksum over IPv6 (RFC 8200)");
}

void TestFlows() {
  PacketSpec a;
  PacketSpec b;
  b.source_port++;
  PacketSpec c;
  c.version = 6;
  PacketSpec d;
  d.tcp = false;
  PacketSpec e;
  e.host++;
  std::vector<std::vector<PacketSpec>> flows;
  for (const PacketSpec& spec : {a, b, c, d, e}) flows.push_back(FlowOf(spec, 3, 50));
  std::vector<PacketSpec> specs;
  for (size_t i = 0; i < 3; i++) {
    for (const auto& flow : flows) specs.push_back(flow[i]);
  }
  GroTable table(AllOf(Framing::kIp));
  const Groups woven = {{0, 5, 10}, {1, 6, 11}, {2, 7, 12}, {3, 8, 13}, {4, 9, 14}};
  Expect(table, BuildAll(specs), woven, "five flows, interleaved");

  specs[5].fragment = 0x2000;
  const Groups barred = {{0}, {1}, {2}, {3}, {4}, {5}, {6, 11}, {7, 12}, {8, 13}, {9, 14}, {10}};
  Expect(table, BuildAll(specs), barred, "nothing overtakes a fragment");

  specs[5].fragment = 0x4000;
  specs[5].flags |= kTcpFin;
  const Groups ended = {{0}, {1, 6, 11}, {2, 7, 12}, {3, 8, 13}, {4, 9, 14}, {5}, {10}};
  Expect(table, BuildAll(specs), ended, "a FIN ends the run of its own flow only");
}

void TestOptions() {
  for (unsigned mask = 0; mask < 8; mask++) {
    GroTable table({(mask & 1) != 0, (mask & 2) != 0, (mask & 4) != 0, Framing::kIp});
    for (const bool tcp : {true, false}) {
      for (const int version : {4, 6}) {
        PacketSpec spec;
        spec.tcp = tcp;
        spec.version = version;
        const unsigned needed = !tcp ? 4 : version == 4 ? 1 : 2;
        const Groups expected = (mask & needed) != 0 ? Groups{{0, 1}} : Groups{{0}, {1}};
        Expect(table, BuildAll(FlowOf(spec, 2, 100)), expected,
               spec.Name() + " mask " + std::to_string(mask));
      }
    }
  }
}

Groups Slices(size_t count, size_t each) {
  Groups groups;
  for (size_t i = 0; i < count; i++) {
    if (i % each == 0) groups.emplace_back();
    groups.back().push_back(static_cast<uint16_t>(i));
  }
  return groups;
}

void TestLimits() {
  GroTable table(AllOf(Framing::kIp));
  PacketSpec udp;
  udp.tcp = false;
  Expect(table, BuildAll(FlowOf(udp, 130, 10)), Slices(130, 64), "64 UDP segments");
  Expect(table, BuildAll(FlowOf(PacketSpec(), 256, 10)), Slices(256, 256), "256 TCP segments");
  // 45 * 1456 + 40 bytes of header are 65560.
  Expect(table, BuildAll(FlowOf(PacketSpec(), 90, 1456)), Slices(90, 44), "65535 bytes");
  Expect(table, BuildAll(FlowOf(PacketSpec(), 6, 13099)), Slices(6, 5), "65535 bytes to the last");
  Expect(table, BuildAll(FlowOf(PacketSpec(), 8, 8187)), Slices(8, 7), "one byte too many");

  std::vector<PacketSpec> specs;
  for (uint16_t i = 0; i < GroTable::kMaxPackets; i++) {
    PacketSpec spec;
    spec.tcp = false;
    spec.version = i % 2 == 0 ? 4 : 6;
    spec.source_port = i;
    spec.payload = Pattern(1);
    specs.push_back(spec);
  }
  Expect(table, BuildAll(specs), Slices(GroTable::kMaxPackets, 1), "as many flows as packets");
  Expect(table, BuildAll(specs), Slices(GroTable::kMaxPackets, 1), "and again: nothing is left of a flush");

  const Bytes packet = specs[0].Build();
  for (size_t i = 0; i < GroTable::kMaxPackets; i++) CHECK(table.Add(packet.data(), packet.size()), "room");
  CHECK(table.full() && !table.Add(packet.data(), packet.size()), "full");
  CHECK(table.packet_count() == GroTable::kMaxPackets, "the one that found no room isn't counted");
  table.Clear();
  CHECK(!table.full() && table.packet_count() == 0 && table.group_count() == 0, "cleared");
}

}  // namespace

void TestGroTable() {
  TestMergedBytes();
  TestOneChanged();
  TestFirstPacket();
  TestAllExtended();
  TestLinkHeader();
  TestWhatSaysNothing();
  TestFlows();
  TestOptions();
  TestLimits();
}

}  // namespace tunsock::test
