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

}  // namespace

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
