#include <algorithm>
#include <random>

#include "check.h"
#include "flush.h"
#include "suites.h"

namespace tunsock::test {

namespace {

/// Draws flushes of a few flows whose packets mostly follow each other, so that much merges and little
/// things get in the way. The seed is fixed: each run draws the same.
class Draw {
 public:
  explicit Draw(uint32_t seed) : random_(seed) {}

  size_t Below(size_t limit) { return std::uniform_int_distribution<size_t>(0, limit - 1)(random_); }
  bool OneIn(size_t count) { return Below(count) == 0; }

  std::vector<PacketSpec> Flows(int vlan_tags) {
    std::vector<PacketSpec> flows(1 + Below(5));
    for (size_t i = 0; i < flows.size(); i++) {
      PacketSpec& flow = flows[i];
      flow.vlan_tags = vlan_tags;
      flow.tcp = !OneIn(3);
      flow.version = OneIn(2) ? 4 : 6;
      flow.source_port = static_cast<uint16_t>(1000 + i);
      flow.id = static_cast<uint16_t>(0xfff0 + Below(32));
      flow.fragment = OneIn(2) ? 0x4000 : 0;
      flow.no_udp_checksum = OneIn(4);
      flow.sequence = static_cast<uint32_t>(0xffff8000 + Below(0x10000));
      if (OneIn(2)) flow.tcp_options = {1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2};
      flow.payload = Bytes(1 + Below(OneIn(4) ? 9000 : 300));  // the size that most of its packets have
    }
    return flows;
  }

  /// The next packet of `flow`, which moves on.
  Bytes Next(PacketSpec& flow) {
    PacketSpec packet = flow;
    if (OneIn(12)) packet.payload.resize(Below(flow.payload.size() + 5));
    packet.payload = Pattern(packet.payload.size(), static_cast<uint32_t>(random_()));
    if (OneIn(15)) packet.flags = static_cast<uint8_t>(Below(256));
    if (OneIn(10)) packet.flags |= kTcpPsh;
    if (OneIn(30)) packet.tos = static_cast<uint8_t>(Below(256));
    if (OneIn(30)) packet.sequence += 1;
    if (OneIn(30)) packet.id += 1;
    if (OneIn(30)) packet.no_udp_checksum = !packet.no_udp_checksum;
    if (OneIn(40)) packet.fragment = static_cast<uint16_t>(Below(65536));
    if (OneIn(30)) packet.ip_options = Bytes(4, 1);
    if (packet.payload.size() >= 2 && OneIn(20)) MakeChecksumZero(packet);
    flow.sequence += static_cast<uint32_t>(packet.payload.size());
    // Half of the flows keep theirs, but for a hundredth of the time.
    if (flow.source_port % 2 == 0 || OneIn(100)) flow.id++;
    Bytes bytes = packet.Build();
    if (OneIn(30)) Flip(bytes, packet.l4_at() + 4);  // behind the ports: still of this flow
    if (OneIn(60)) bytes.resize(Below(bytes.size()));
    if (OneIn(60)) bytes.resize(bytes.size() + Below(10));
    return bytes;
  }

  /// A wrong bit at `from` or behind it.
  void Flip(Bytes& bytes, size_t from) {
    if (bytes.size() > from) bytes[from + Below(bytes.size() - from)] ^= static_cast<uint8_t>(1 << Below(8));
  }

 private:
  std::mt19937 random_;
};

struct Sent {
  std::vector<Bytes> packets;
  std::vector<size_t> flows;  // of which each packet is; the last number is for strangers, in no order
};

/// What comes out of a merge and a split, number by number, is what went in; and within a flow in order.
size_t CheckRoundTrip(const Sent& sent, const std::vector<Written>& writes, size_t flow_count,
                      Framing framing) {
  size_t merged = 0;
  std::vector<int> latest(flow_count + 1, -1);
  for (const Written& write : writes) {
    const std::vector<Bytes> segments = Split(write, framing);
    CHECK(GivenBack(segments, sent.packets, write, framing), "split(merge(x)) == x");
    for (const uint16_t member : write.members) {
      int& last = latest[sent.flows[member]];
      CHECK(last < member || sent.flows[member] == flow_count, "in order within the flow");
      last = member;
    }
    if (segments.size() > 1) merged += segments.size();
  }
  return merged;
}

}  // namespace

void TestRoundTrip() {
  size_t merged = 0;
  size_t all = 0;
  for (uint32_t seed = 1; seed <= 400; seed++) {
    Draw draw(seed);
    std::vector<PacketSpec> flows = draw.Flows(static_cast<int>(draw.Below(4)) - 1);
    Sent sent;
    const size_t count = 1 + draw.Below(96);
    for (size_t i = 0; i < count; i++) {
      const size_t flow = draw.Below(flows.size());
      for (size_t run = 1 + draw.Below(6); run > 0 && sent.packets.size() < count; run--) {
        sent.packets.push_back(draw.Next(flows[flow]));
        sent.flows.push_back(flow);
        if (!draw.OneIn(40)) continue;
        draw.Flip(sent.packets.back(), 0);  // perhaps in an address
        sent.flows.back() = flows.size();
      }
    }
    const Framing framing = flows[0].framing();
    GroTable table({true, true, true, framing});
    merged += CheckRoundTrip(sent, Flush(table, sent.packets), flows.size(), framing);
    all += sent.packets.size();
  }
  CHECK(merged > all / 3, "a good part of the packets has merged: " + std::to_string(merged));
  CHECK(merged < all, "and not all of them");
}

}  // namespace tunsock::test
