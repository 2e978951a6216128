#include <cerrno>

#include "check.h"
#include "core/offload/crc32c.h"
#include "core/offload/gso_split.h"
#include "flush.h"
#include "suites.h"

namespace tunsock::test {

namespace {

constexpr size_t kSegment = 100;

void Put16(Bytes& out, unsigned value) {
  out.push_back(static_cast<uint8_t>(value >> 8));
  out.push_back(static_cast<uint8_t>(value));
}
void Put(Bytes& out, const Bytes& bytes) {
  out.insert(out.end(), bytes.begin(), bytes.end());
}
void Patch16(Bytes& out, size_t at, unsigned value) {
  out[at] = static_cast<uint8_t>(value >> 8);
  out[at + 1] = static_cast<uint8_t>(value);
}

std::vector<Bytes> BuildAll(const std::vector<PacketSpec>& specs) {
  std::vector<Bytes> packets;
  for (const PacketSpec& spec : specs) packets.push_back(spec.Build());
  return packets;
}

void ExpectCut(const Bytes& packet, const VirtioNetHdr& header, Framing framing,
               const std::vector<Bytes>& expected, const std::string& name) {
  const std::vector<Bytes> segments = Split({header, packet, {}}, framing);
  CHECK(segments.size() == expected.size(), "count of " + name);
  for (size_t i = 0; i < segments.size(); i++) {
    CHECK(segments[i] == expected[i], "segment " + std::to_string(i) + " of " + name);
  }
}

void ExpectRefused(Bytes packet, const VirtioNetHdr& header, const std::string& name) {
  const Bytes before = packet;
  GsoSplitter splitter;
  CHECK(splitter.Begin(packet.data(), packet.size(), header, Framing::kIp) == -EINVAL, name);
  CHECK(splitter.done() && packet == before, "left as it was: " + name);
}

/// The pseudo header of who still has hops to go has the last of them: the sum in the field is all that says
/// so.
void TestSourceRoutes() {
  PacketSpec spec;
  spec.payload = Pattern(8 * kSegment + 1);
  spec.final_destination = {10, 1, 2, 99};
  for (const uint8_t option : {0x83, 0x89}) {  // LSRR, SSRR
    spec.ip_options = {option, 7, 4, 10, 1, 2, 99, 0};
    ExpectCut(spec.BuildPartial(), spec.Header(kSegment), Framing::kIp, BuildAll(spec.Cut(kSegment)),
              "a source route");
  }
  PacketSpec six;
  six.payload = Pattern(8 * kSegment + 1);
  six.version = 6;
  six.first_extension = IPPROTO_ROUTING;
  for (const bool tcp : {true, false}) {
    six.tcp = tcp;
    for (const uint8_t type : {0, 2, 4}) {
      const auto next = static_cast<uint8_t>(tcp ? int{IPPROTO_TCP} : int{IPPROTO_UDP});
      six.extension_headers = {next, 2, type, 1, 0, 0, 0, 0};
      six.final_destination = Bytes(16, 0xfe);
      Put(six.extension_headers, six.final_destination);
      ExpectCut(six.BuildPartial(), six.Header(kSegment), Framing::kIp, BuildAll(six.Cut(kSegment)),
                "a routing header of type " + std::to_string(type));
    }
  }
}

/// Superpackets that carry no checksum to be made: of GRO with fragment lists (rx-gro-list).
void TestFinished() {
  for (const bool tcp : {true, false}) {
    for (const int version : {4, 6}) {
      PacketSpec spec;
      spec.tcp = tcp;
      spec.version = version;
      spec.payload = Pattern(6 * kSegment - 1);
      for (const uint8_t flags : {0, 2}) {
        VirtioNetHdr header = spec.Header(kSegment);
        header.flags = flags;
        header.csum_start = header.csum_offset = 0;
        ExpectCut(spec.Build(), header, Framing::kIp, BuildAll(spec.Cut(kSegment)),
                  "finished " + spec.Name());
      }
    }
  }
  PacketSpec none;
  none.tcp = false;
  none.no_udp_checksum = true;
  none.payload = Pattern(3 * kSegment);
  VirtioNetHdr header = none.Header(kSegment);
  header.flags = kVnetDataValid;
  ExpectCut(none.Build(), header, Framing::kIp, BuildAll(none.Cut(kSegment)), "UDP without a checksum");
}

void TestBigTcp() {
  for (const int tags : {-1, 0, 1}) {
    for (const size_t size : {size_t{65536}, size_t{180'000}, size_t{524'280 - 60}}) {
      PacketSpec spec;
      spec.vlan_tags = tags;
      spec.big = true;
      spec.sequence = 0xfffff000;
      spec.flags = kTcpAck | kTcpPsh | kTcpFin;
      spec.payload = Pattern(size);
      ExpectCut(spec.BuildPartial(), spec.Header(1448), spec.framing(), BuildAll(spec.Cut(1448)),
                "BIG TCP over IPv4");
      spec.version = 6;
      // Without the option, as Linux has it from 7.0 on.
      ExpectCut(spec.BuildPartial(), spec.Header(1428), spec.framing(), BuildAll(spec.Cut(1428)),
                "BIG TCP over IPv6");
      const auto jumbo = static_cast<uint32_t>(8 + 20 + size);
      spec.first_extension = IPPROTO_HOPOPTS;
      spec.extension_headers = {IPPROTO_TCP, 0, 0xc2, 4};
      Put16(spec.extension_headers, jumbo >> 16);
      Put16(spec.extension_headers, jumbo);
      const Bytes packet = spec.BuildPartial();
      ExpectCut(packet, spec.Header(1428), spec.framing(), BuildAll(spec.Cut(1428)), "an IPv6 jumbogram");
      if (tags >= 0) continue;
      Bytes lie = packet;
      lie[47]++;
      ExpectRefused(lie, spec.Header(1428), "a jumbo payload length that lies");
    }
  }
}

/// A tunnel around packets: what goes before each, finished for a segment, or with the sums of pseudo headers
/// for a superpacket.
struct Tunnel {
  const char* name;
  int version;
  uint8_t protocol;
  Bytes header;  // behind UDP's or as GRE's begins
  bool checksum;

  [[nodiscard]] Bytes Around(const Bytes& inner, size_t index, bool finished) const {
    const bool udp = protocol == IPPROTO_UDP;
    const size_t size = (udp ? 8 : 0) + header.size() + inner.size();
    const Bytes addresses = version == 4 ? Bytes{192, 0, 2, 1, 192, 0, 2, 2} : Pattern(32);
    Bytes out;
    if (version == 4) {
      out = {0x45, 0};
      Put16(out, static_cast<unsigned>(20 + size));
      Put16(out, static_cast<unsigned>(0xffff + index));
      Put(out, {0x40, 0, 64, protocol, 0, 0});
      Put(out, addresses);
      Patch16(out, 10, 0xffffU ^ SlowSum(out.data(), out.size()));
    } else {
      out = {0x60, 0, 0, 0};
      Put16(out, static_cast<unsigned>(size));
      Put(out, {protocol, 64});
      Put(out, addresses);
    }
    const size_t l4 = out.size();
    if (udp) {
      Put16(out, 40000);
      Put16(out, 4789);
      Put16(out, static_cast<unsigned>(size));
      Put16(out, 0);
    }
    Put(out, header);
    Put(out, inner);
    if (!checksum) return out;
    Bytes pseudo = addresses;
    Put16(pseudo, protocol);
    Put16(pseudo, static_cast<unsigned>(size));
    const uint16_t seed = udp ? SlowSum(pseudo.data(), pseudo.size()) : 0;
    unsigned sum = seed;
    if (finished) sum = 0xffffU ^ SlowSum(out.data() + l4, size, seed);
    if (finished && udp && sum == 0) sum = 0xffff;
    Patch16(out, l4 + (udp ? 6 : 4), sum);
    return out;
  }
  [[nodiscard]] size_t size() const {
    return (version == 4 ? 20 : 40) + (protocol == IPPROTO_UDP ? 8 : 0) + header.size();
  }
};

std::vector<Tunnel> Tunnels(int inner_version) {
  const bool four = inner_version == 4;
  const auto ip_in_ip = static_cast<uint8_t>(four ? int{IPPROTO_IPIP} : int{IPPROTO_IPV6});
  Bytes ethernet = Pattern(12, 9);
  Put16(ethernet, four ? 0x0800 : 0x86dd);
  Bytes vxlan = {8, 0, 0, 0, 0, 0, 7, 0};
  Put(vxlan, ethernet);
  Bytes geneve = {2, 0, 0x65, 0x58, 0, 0, 7, 0, 1, 2, 0, 1, 9, 9, 9, 9};
  Put(geneve, ethernet);
  Bytes gre = {0, 0};
  Put16(gre, four ? 0x0800 : 0x86dd);
  Bytes gre_with_key = {0xa0, 0, gre[2], gre[3], 0, 0, 0, 0, 1, 2, 3, 4};
  return {
      {"IP in IPv4", 4, ip_in_ip, {}, false},
      {"IP in IPv6", 6, ip_in_ip, {}, false},
      {"VXLAN over IPv4", 4, IPPROTO_UDP, vxlan, false},
      {"VXLAN over IPv6 with a checksum", 6, IPPROTO_UDP, vxlan, true},
      {"Geneve over IPv4 with a checksum", 4, IPPROTO_UDP, geneve, true},
      {"Foo over UDP", 4, IPPROTO_UDP, {}, false},
      {"GRE", 4, IPPROTO_GRE, gre, false},
      {"GRE with a checksum and a key", 6, IPPROTO_GRE, gre_with_key, true},
  };
}

void TestTunnels() {
  for (const bool tcp : {true, false}) {
    for (const int version : {4, 6}) {
      PacketSpec spec;
      spec.tcp = tcp;
      spec.version = version;
      spec.payload = Pattern(5 * kSegment + 1);
      const std::vector<PacketSpec> segments = spec.Cut(kSegment);
      for (const Tunnel& tunnel : Tunnels(version)) {
        const std::string name = spec.Name() + " in " + tunnel.name;
        std::vector<Bytes> expected;
        for (size_t i = 0; i < segments.size(); i++) {
          expected.push_back(tunnel.Around(segments[i].Build(), i, true));
        }
        VirtioNetHdr header = spec.Header(kSegment);
        header.csum_start = static_cast<uint16_t>(header.csum_start + tunnel.size());
        const Bytes packet = tunnel.Around(spec.BuildPartial(), 0, false);
        ExpectCut(packet, header, Framing::kIp, expected, name);

        const Tunnel twice = {"", 6, static_cast<uint8_t>(tunnel.version == 4 ? 4 : 41), {}, false};
        for (Bytes& segment : expected) segment = twice.Around(segment, 0, true);
        header.csum_start = static_cast<uint16_t>(header.csum_start + twice.size());
        ExpectCut(twice.Around(packet, 0, false), header, Framing::kIp, expected, name + " in IPv6");

        Bytes lie = packet;
        lie[tunnel.size() + (version == 4 ? 3 : 5)]--;
        header.csum_start = static_cast<uint16_t>(header.csum_start - twice.size());
        ExpectRefused(lie, header, "an inner length that lies: " + name);
        header.csum_start += 4;
        ExpectRefused(packet, header, "a checksum that starts elsewhere: " + name);
      }
    }
  }
  PacketSpec deep;
  deep.payload = Pattern(3 * kSegment);
  const Tunnel tunnel = Tunnels(4)[0];
  Bytes packet = deep.BuildPartial();
  VirtioNetHdr header = deep.Header(kSegment);
  for (size_t layers = 1; layers <= IpLayers::kMost; layers++) {
    GsoSplitter splitter;
    Bytes copy = packet;
    CHECK(splitter.Begin(copy.data(), copy.size(), header, Framing::kIp) == 0, "tunnels in tunnels");
    packet = tunnel.Around(packet, 0, false);
    header.csum_start = static_cast<uint16_t>(header.csum_start + tunnel.size());
  }
  ExpectRefused(packet, header, "too many tunnels in tunnels");
}

Bytes Completed(Bytes packet, uint16_t start, uint16_t offset, Framing framing = Framing::kIp) {
  VirtioNetHdr header;
  header.flags = kVnetNeedsChecksum;
  header.csum_start = start;
  header.csum_offset = offset;
  CHECK(CompleteChecksum(packet.data(), packet.size(), header, framing) == 0, "completed");
  return packet;
}

void TestSctp() {
  // An IPv4 packet with an SCTP common header and an INIT ACK's worth of bytes.
  Bytes sctp = {0x0b, 0x59, 0x0b, 0x59, 0, 0, 0x0e, 0x50, 0, 0, 0, 0};
  Put(sctp, Pattern(52));
  const Tunnel plain = {"", 4, IPPROTO_SCTP, {}, false};
  Bytes expected = plain.Around(sctp, 1, true);
  const uint32_t crc = Crc32c(sctp.data(), sctp.size());
  for (size_t i = 0; i < 4; i++) expected[28 + i] = static_cast<uint8_t>(crc >> (8 * i));
  Bytes packet = plain.Around(sctp, 1, true);
  packet[28] = 0xab;  // what stands in the field does not count
  CHECK(Completed(packet, 20, 8) == expected, "CRC-32C, lowest byte first");
  Bytes frame = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0};
  Bytes framed = frame;
  Put(framed, packet);
  framed.resize(framed.size() + 3, 0x77);
  Put(frame, expected);
  frame.resize(frame.size() + 3, 0x77);
  CHECK(Completed(framed, 34, 8, Framing::kEthernet) == frame, "padding is outside the CRC");
}

void TestCutShort() {
  for (const bool tcp : {true, false}) {
    PacketSpec spec;
    spec.tcp = tcp;
    spec.payload = Pattern(90);
    Bytes packet = spec.BuildPartial();
    packet.resize(96);
    CHECK(Completed(packet, 20, tcp ? 16 : 6) == packet, "what is cut short is not finished");
  }
}

}  // namespace

void TestGsoLayers() {
  TestSourceRoutes();
  TestFinished();
  TestBigTcp();
  TestTunnels();
  TestSctp();
  TestCutShort();
}

}  // namespace tunsock::test
