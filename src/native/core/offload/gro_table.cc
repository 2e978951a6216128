#include "core/offload/gro_table.h"

#include <cstring>

#include "core/offload/byte_order.h"
#include "core/offload/checksum.h"

namespace tunsock {

namespace {

constexpr uint16_t kIp4DontFragment = 0x4000;

bool SameBytes(const uint8_t* a, const uint8_t* b, size_t from, size_t to) {
  return to == from || std::memcmp(a + from, b + from, to - from) == 0;
}

/// Addresses, ports and protocol: what keeps its order.
bool SameFlow(const uint8_t* a, const PacketView& view_a, const uint8_t* b, const PacketView& view_b) {
  if (view_a.version != view_b.version || view_a.protocol != view_b.protocol ||
      LoadWord<uint32_t>(a + view_a.l4_offset) != LoadWord<uint32_t>(b + view_b.l4_offset)) {
    return false;
  }
  const uint8_t* from = a + view_a.addresses();
  const uint8_t* to = b + view_b.addresses();
  return view_a.version == 4 ? SameBytes(from, to, 0, 8) : SameBytes(from, to, 0, 32);
}

uint64_t HashFlow(const uint8_t* packet, const PacketView& view) {
  constexpr uint64_t kOdd = 0x9e3779b97f4a7c15;  // 2^64 by the golden ratio
  uint64_t hash = LoadWord<uint32_t>(packet + view.l4_offset);
  const uint8_t* addresses = packet + view.addresses();
  for (size_t at = 0; at < 2 * view.address_size(); at += 8) {
    hash = (hash ^ LoadWord<uint64_t>(addresses + at)) * kOdd;
    hash ^= hash >> 32;
  }
  return hash;
}

/// For two packets of one flow, both mergeable: all header bytes that segmentation copies are equal. What it
/// makes itself (lengths, checksums, IPv4 id, TCP sequence) is left out, and PSH.
bool SameHeaders(const uint8_t* a, const uint8_t* b, const PacketView& view) {
  if (!SameBytes(a, b, 0, view.ip_offset)) return false;
  const uint8_t* ip_a = a + view.ip_offset;
  const uint8_t* ip_b = b + view.ip_offset;
  if (view.version == 4) {
    if (!SameBytes(ip_a, ip_b, 0, kIp4TotalLength)) return false;
    if (!SameBytes(ip_a, ip_b, kIp4Fragment, kIp4Checksum)) return false;
  } else {
    if (!SameBytes(ip_a, ip_b, 0, kIp6PayloadLength)) return false;
    if (!SameBytes(ip_a, ip_b, kIp6PayloadLength + 2, kIp6Addresses)) return false;
  }
  if (!view.is_tcp()) return true;
  const uint8_t* tcp_a = a + view.l4_offset;
  const uint8_t* tcp_b = b + view.l4_offset;
  return SameBytes(tcp_a, tcp_b, kTcpSequence + 4, kTcpFlags) &&
         ((tcp_a[kTcpFlags] ^ tcp_b[kTcpFlags]) & ~kTcpPsh) == 0 &&
         SameBytes(tcp_a, tcp_b, kTcpFlags + 1, kTcpChecksum) &&
         SameBytes(tcp_a, tcp_b, kTcpChecksum + 2, view.l4_header);
}

bool HasPush(const uint8_t* packet, const PacketView& view) {
  return view.is_tcp() && (packet[view.l4_offset + kTcpFlags] & kTcpPsh) != 0;
}

/// Whether the packet, by itself, is one that segmentation could have made.
bool Mergeable(const uint8_t* packet, const PacketView& view) {
  // A right checksum has two forms where it is zero; segmentation makes one of them.
  constexpr uint16_t kOtherZero = 0xffff;
  if (view.extended || !view.exact() || view.payload_size() == 0) return false;
  const uint8_t* ip = packet + view.ip_offset;
  if (view.version == 4 && ((LoadBe16(ip + kIp4Fragment) & ~kIp4DontFragment) != 0 ||
                            LoadWord<uint16_t>(ip + kIp4Checksum) == kOtherZero)) {
    return false;
  }
  const uint8_t* l4 = packet + view.l4_offset;
  const auto checksum = LoadWord<uint16_t>(packet + view.checksum_offset());
  if (view.is_tcp()) return (l4[kTcpFlags] & ~(kTcpPsh | kTcpEce)) == kTcpAck && checksum != kOtherZero;
  return LoadBe16(l4 + kUdpLength) == view.l4_size() && checksum != 0;
}

}  // namespace

void GroTable::Clear() {
  if (recent_ != nullptr) buckets_.fill(kNone);
  recent_ = nullptr;
  packet_count_ = group_count_ = barrier_ = 0;
}

bool GroTable::Add(const uint8_t* packet, size_t size) {
  if (full()) return false;
  PacketView view;
  if (!view.Parse(packet, size, options_.framing) || view.l4_header == 0) {
    StartRun(packet, view, State::kClosed);
    barrier_ = group_count_;
  } else if (!DeviceTakes(view)) {
    StartRun(packet, view, State::kClosed);
  } else {
    AddToFlow(packet, view);
  }
  return true;
}

bool GroTable::DeviceTakes(const PacketView& view) const {
  if (!view.is_tcp()) return options_.uso;
  return view.version == 4 ? options_.tso4 : options_.tso6;
}

void GroTable::AddToFlow(const uint8_t* packet, const PacketView& view) {
  uint16_t& latest = LatestRun(packet, view);
  State state = Mergeable(packet, view) ? State::kUnverified : State::kClosed;
  if (state != State::kClosed && latest != kNone && Continues(latest, packet, view)) {
    state = ChecksumsRight(packet, view) ? State::kVerified : State::kClosed;
    if (state == State::kVerified && VerifyFirst(runs_[latest])) {
      Append(runs_[latest], packet, view);
      return;
    }
  }
  latest = static_cast<uint16_t>(group_count_);
  StartRun(packet, view, state);
}

uint16_t& GroTable::LatestRun(const uint8_t* packet, const PacketView& view) {
  const auto is_of = [&](uint16_t latest) {
    const Run& run = runs_[latest];
    return SameFlow(packets_[run.first].bytes, run.view, packet, view);
  };
  // Mostly it is the flow of the packet before.
  if (recent_ != nullptr && is_of(*recent_)) return *recent_;
  size_t at = HashFlow(packet, view) % kBuckets;
  while (buckets_[at] != kNone && !is_of(buckets_[at])) at = (at + 1) % kBuckets;
  recent_ = &buckets_[at];
  return *recent_;
}

bool GroTable::Continues(size_t index, const uint8_t* packet, const PacketView& view) const {
  const Run& run = runs_[index];
  if (index < barrier_ || run.state == State::kClosed) return false;
  if (view.ip_offset != run.view.ip_offset) return false;  // from here on, offsets hold for both packets
  if (view.payload_size() > run.segment_size) return false;
  if (view.header_size() - view.ip_offset + run.payload + view.payload_size() > kMaxIpSize) return false;
  if (!view.is_tcp() && run.count == kMaxUdpSegments) return false;

  const uint8_t* first = packets_[run.first].bytes;
  const uint8_t* ip = packet + view.ip_offset;
  if (view.version == 4) {
    const uint16_t first_id = LoadBe16(first + view.ip_offset + kIp4Id);
    if (LoadBe16(ip + kIp4Id) != static_cast<uint16_t>(first_id + run.count)) return false;
  }
  if (view.is_tcp()) {
    const uint32_t first_sequence = LoadBe32(first + view.l4_offset + kTcpSequence);
    const uint32_t expected = first_sequence + static_cast<uint32_t>(run.payload);
    if (LoadBe32(packet + view.l4_offset + kTcpSequence) != expected) return false;
  }
  return SameHeaders(first, packet, view);
}

bool GroTable::VerifyFirst(Run& run) const {
  if (run.state == State::kUnverified) {
    const bool right = ChecksumsRight(packets_[run.first].bytes, run.view);
    run.state = right ? State::kVerified : State::kClosed;
  }
  return run.state == State::kVerified;
}

void GroTable::StartRun(const uint8_t* packet, const PacketView& view, State state) {
  const auto number = static_cast<uint16_t>(packet_count_++);
  packets_[number] = {packet, view.size, kNone};
  Run& run = runs_[group_count_++];
  run.view = view;
  run.first = run.last = number;
  run.count = 1;
  run.state = state;
  if (state == State::kClosed) return;
  run.payload = run.segment_size = view.payload_size();
  if (HasPush(packet, view)) run.state = State::kClosed;
}

void GroTable::Append(Run& run, const uint8_t* packet, const PacketView& view) {
  const auto number = static_cast<uint16_t>(packet_count_++);
  packets_[number] = {packet, view.size, kNone};
  packets_[run.last].next = number;
  run.last = number;
  run.count++;
  run.payload += view.payload_size();
  if (view.payload_size() < run.segment_size || HasPush(packet, view)) run.state = State::kClosed;
}

GroGroup GroTable::Gather(size_t index, iovec* iov) {
  const Run& run = runs_[index];
  GroGroup group;
  group.members = members_.data();
  for (uint16_t at = run.first; at != kNone; at = packets_[at].next) members_[group.member_count++] = at;

  if (run.count == 1) {
    const Packet& only = packets_[run.first];
    iov[group.iov_count++] = {const_cast<uint8_t*>(only.bytes), only.size};
    group.size = only.size;
    return group;
  }
  const size_t header_size = run.view.header_size();
  group.header = BuildHeader(run);
  iov[group.iov_count++] = {header_.data(), header_size};
  for (size_t i = 0; i < group.member_count; i++) {
    const Packet& packet = packets_[members_[i]];
    iov[group.iov_count++] = {const_cast<uint8_t*>(packet.bytes) + header_size, packet.size - header_size};
  }
  group.size = header_size + run.payload;
  return group;
}

VirtioNetHdr GroTable::BuildHeader(const Run& run) {
  const PacketView& view = run.view;
  std::memcpy(header_.data(), packets_[run.first].bytes, view.header_size());
  if (HasPush(packets_[run.last].bytes, view)) header_[view.l4_offset + kTcpFlags] |= kTcpPsh;
  SetPayloadSize(header_.data(), view, run.payload);
  const uint64_t partial = PseudoHeaderSum(header_.data(), view, view.l4_header + run.payload);
  StoreWord(header_.data() + view.checksum_offset(), FoldSum(partial));

  VirtioNetHdr header;
  header.flags = kVnetNeedsChecksum;
  header.gso_type = !view.is_tcp() ? kVnetGsoUdpL4 : view.version == 4 ? kVnetGsoTcp4 : kVnetGsoTcp6;
  header.hdr_len = static_cast<uint16_t>(view.header_size());
  header.gso_size = static_cast<uint16_t>(run.segment_size);
  header.csum_start = view.l4_offset;
  header.csum_offset = static_cast<uint16_t>(view.checksum_in_l4());
  return header;
}

}  // namespace tunsock
