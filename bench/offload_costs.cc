#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "core/offload/checksum.h"
#include "core/offload/gro_table.h"
#include "core/offload/gso_split.h"

// What core/offload costs, with nothing else around it: JSON on one line, medians of rounds, in nanoseconds.

namespace {

using namespace tunsock;
using Bytes = std::vector<uint8_t>;

constexpr size_t kPayload = 1448;
constexpr size_t kHeader = 40;
constexpr size_t kSegments = 45;
constexpr int kRounds = 9;

volatile uint64_t sink;  // so that no result is thrown away

/// The median over rounds of the time that `work` takes, divided by `units`.
template <typename Work>
double Measure(size_t repeats, size_t units, Work work) {
  std::vector<double> rounds;
  for (int round = 0; round < kRounds; round++) {
    const auto start = std::chrono::steady_clock::now();
    for (size_t i = 0; i < repeats; i++) work();
    const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - start;
    rounds.push_back(took.count() / static_cast<double>(repeats * units));
  }
  std::nth_element(rounds.begin(), rounds.begin() + kRounds / 2, rounds.end());
  return rounds[kRounds / 2];
}

double ChecksumCost(size_t size) {
  const Bytes bytes(size, 0x5a);
  return Measure(20'000'000 / (size + 100), 1, [&] { sink = InternetSum(bytes.data(), size); });
}

/// A TCPv4 superpacket of kSegments full segments.
Bytes MakeSuperpacket() {
  Bytes packet(kHeader + kPayload * kSegments);
  for (size_t i = 0; i < packet.size(); i++) packet[i] = static_cast<uint8_t>(i * 31);
  uint8_t* ip = packet.data();
  std::memset(ip, 0, kHeader);
  ip[0] = 0x45;
  ip[2] = static_cast<uint8_t>(packet.size() >> 8);
  ip[3] = static_cast<uint8_t>(packet.size());
  ip[8] = 64;
  ip[9] = IPPROTO_TCP;
  ip[15] = 1;
  ip[19] = 2;
  ip[20 + kTcpOffset] = 0x50;
  ip[20 + kTcpFlags] = kTcpAck;
  // What is to be made is derived from it, as the kernel hands it over.
  PacketView view;
  if (!view.Parse(packet.data(), packet.size(), Framing::kIp)) std::abort();
  StoreWord(ip + 20 + kTcpChecksum, FoldSum(PseudoHeaderSum(ip, view, view.l4_size())));
  return packet;
}

VirtioNetHdr SuperpacketHeader() {
  VirtioNetHdr header;
  header.flags = kVnetNeedsChecksum;
  header.gso_type = kVnetGsoTcp4;
  header.gso_size = kPayload;
  header.csum_start = 20;
  header.csum_offset = kTcpChecksum;
  return header;
}

/// Cuts `original` into slots; the splitter rewrites headers in place, so that each cut starts from a copy of
/// them.
void Split(const Bytes& original, Bytes& packet, std::vector<Bytes>& slots) {
  std::memcpy(packet.data(), original.data(), kHeader);
  GsoSplitter splitter;
  if (splitter.Begin(packet.data(), packet.size(), SuperpacketHeader(), Framing::kIp) != 0) std::abort();
  for (size_t i = 0; !splitter.done(); i++) sink = splitter.Next(slots[i].data(), slots[i].size());
}

void Merge(GroTable& table, const std::vector<Bytes>& packets) {
  iovec iov[GroTable::kMaxIovecs];
  for (const Bytes& packet : packets) table.Add(packet.data(), packet.size());
  for (size_t i = 0; i < table.group_count(); i++) sink = table.Gather(i, iov).size;
  table.Clear();
}

}  // namespace

int main() {
  const Bytes superpacket = MakeSuperpacket();
  Bytes work = superpacket;
  std::vector<Bytes> slots(kSegments, Bytes(kHeader + kPayload));
  const double split = Measure(2000, kSegments, [&] { Split(superpacket, work, slots); });

  GroTable merging({true, true, true, Framing::kIp});
  const double merge = Measure(2000, kSegments, [&] { Merge(merging, slots); });
  // A lone packet, as in a conversation of small packets: what offload costs where it gains nothing.
  const std::vector<Bytes> lone(1, slots[0]);
  const double alone = Measure(200'000, 1, [&] { Merge(merging, lone); });

  std::printf(
      "{\"checksum1448\":%.1f,\"checksum65536\":%.1f,\"splitSegment\":%.1f,\"mergeSegment\":%.1f,"
      "\"mergeLonePacket\":%.1f}\n",
      ChecksumCost(1448), ChecksumCost(65536), split, merge, alone);
  return 0;
}
