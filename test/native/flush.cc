#include "flush.h"

#include "check.h"
#include "core/offload/gso_split.h"

namespace tunsock::test {

namespace {

Written Gather(GroTable& table, size_t index) {
  iovec iov[GroTable::kMaxIovecs];
  const GroGroup group = table.Gather(index, iov);
  Written write;
  write.header = group.header;
  write.members.assign(group.members, group.members + group.member_count);
  for (int i = 0; i < group.iov_count; i++) {
    const auto* from = static_cast<const uint8_t*>(iov[i].iov_base);
    write.bytes.insert(write.bytes.end(), from, from + iov[i].iov_len);
  }
  CHECK(write.bytes.size() == group.size, "a group's size");
  return write;
}

/// `packet` with what may differ as it is in `segment`; `first` is the first of the packets.
Bytes Adjusted(Bytes packet, const Bytes& segment, const Bytes& first, Framing framing) {
  PacketView view;
  if (!view.Parse(packet.data(), packet.size(), framing) || view.version != 4) return packet;
  const size_t ip = view.ip_offset;
  const bool same_id = packet[ip + 4] == first[ip + 4] && packet[ip + 5] == first[ip + 5];
  if (same_id && (packet[ip + 6] & 0x40) != 0) {
    packet[ip + 4] = segment[ip + 4];
    packet[ip + 5] = segment[ip + 5];
    packet[ip + 10] = packet[ip + 11] = 0;
    const unsigned sum = 0xffffU ^ SlowSum(packet.data() + ip, view.ip_header());
    packet[ip + 10] = static_cast<uint8_t>(sum >> 8);
    packet[ip + 11] = static_cast<uint8_t>(sum);
  }
  const size_t field = view.l4_offset + 6;
  if (view.protocol == IPPROTO_UDP && packet[field] == 0 && packet[field + 1] == 0) {
    packet[field] = segment[field];
    packet[field + 1] = segment[field + 1];
    const bool made = (segment[field] != 0 || segment[field + 1] != 0) && ChecksumsRight(packet.data(), view);
    CHECK(made, "the checksum that was made");
  }
  return packet;
}

}  // namespace

bool GivenBack(const std::vector<Bytes>& segments, const std::vector<Bytes>& packets, const Written& write,
               Framing framing) {
  const std::vector<uint16_t>& members = write.members;
  if (segments.size() != members.size()) return false;
  const Bytes& first = packets[members[0]];
  for (size_t i = 0; i < segments.size(); i++) {
    const Bytes& packet = packets[members[i]];
    if (segments[i] == packet) continue;
    if (segments.size() == 1 || segments[i] != Adjusted(packet, segments[i], first, framing)) return false;
  }
  return true;
}

std::vector<Written> Flush(GroTable& table, const std::vector<Bytes>& packets) {
  for (const Bytes& packet : packets) CHECK(table.Add(packet.data(), packet.size()), "room in the table");
  CHECK(table.packet_count() == packets.size(), "packets counted");
  std::vector<Written> writes;
  std::vector<bool> seen(packets.size());
  for (size_t i = 0; i < table.group_count(); i++) {
    Written write = Gather(table, i);
    CHECK(i == 0 || write.members[0] > writes.back().members[0], "groups in the order of first packets");
    for (const uint16_t member : write.members) {
      CHECK(!seen[member], "a packet in two groups");
      seen[member] = true;
    }
    writes.push_back(std::move(write));
  }
  for (size_t i = 0; i < packets.size(); i++) CHECK(seen[i], "a packet in no group");
  table.Clear();
  return writes;
}

std::vector<Bytes> Split(const Written& write, Framing framing) {
  Bytes packet = write.bytes;
  std::vector<Bytes> segments;
  if (packet.empty()) return {packet};  // refused by Begin(), and by the kernel
  GsoSplitter splitter;
  CHECK(splitter.Begin(packet.data(), packet.size(), write.header, framing) == 0,
        "what was merged can be cut");
  while (!splitter.done()) {
    segments.emplace_back(splitter.next_size());
    splitter.Next(segments.back().data(), segments.back().size());
  }
  return segments;
}

}  // namespace tunsock::test
