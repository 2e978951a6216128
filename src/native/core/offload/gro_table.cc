#include "core/offload/gro_table.h"

#include <cstring>

#include "core/offload/byte_order.h"
#include "core/offload/checksum.h"

namespace tunsock {

namespace {

constexpr uint16_t kIp4DontFragment = 0x4000;
constexpr size_t kPorts = 4;

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

bool HasPush(const uint8_t* packet, const PacketView& view) {
  return view.is_tcp() && (packet[view.l4_offset + kTcpFlags] & kTcpPsh) != 0;
}

/// A right checksum has two forms where it is zero; segmentation makes one of them.
constexpr uint16_t kOtherZero = 0xffff;

/// Whether the checksum fields have the form that segmentation gives them, or UDP has none.
bool UsualChecksums(const uint8_t* packet, const PacketView& view) {
  if (view.version == 4 && LoadWord<uint16_t>(packet + view.ip_offset + kIp4Checksum) == kOtherZero)
    return false;
  const auto checksum = LoadWord<uint16_t>(packet + view.checksum_offset());
  if (view.is_tcp()) return checksum != kOtherZero;
  return checksum != 0 || view.version == 4;
}

/// Whether the packet, by itself, is one that segmentation could have made.
bool Mergeable(const uint8_t* packet, const PacketView& view) {
  if (view.extended || !view.exact() || view.payload_size() == 0 || !UsualChecksums(packet, view))
    return false;
  const uint8_t* ip = packet + view.ip_offset;
  if (view.version == 4 && (LoadBe16(ip + kIp4Fragment) & ~kIp4DontFragment) != 0) return false;
  const uint8_t* l4 = packet + view.l4_offset;
  if (view.is_tcp()) return (l4[kTcpFlags] & ~(kTcpPsh | kTcpEce)) == kTcpAck;
  return LoadBe16(l4 + kUdpLength) == view.l4_size();
}

/// How far the IPv4 id is from that of `first`.
uint16_t IdDistance(const uint8_t* first, const uint8_t* packet, const PacketView& view) {
  const size_t at = view.ip_offset + kIp4Id;
  return static_cast<uint16_t>(LoadBe16(packet + at) - LoadBe16(first + at));
}

/// Whether `packet`, the second of a run, has the IPv4 id of `first` where that means nothing.
bool KeepsId(const uint8_t* first, const uint8_t* packet, const PacketView& view) {
  return view.version == 4 && (LoadBe16(first + view.ip_offset + kIp4Fragment) & kIp4DontFragment) != 0 &&
         IdDistance(first, packet, view) == 0;
}

/// Whether the IP header is that of `first` but for what segmentation makes itself: it counts the packet's
/// bytes, all of them, and its id is `distance` away (IPv4).
bool SameIpHeader(const uint8_t* first, const uint8_t* packet, const PacketView& view, uint16_t distance) {
  const uint8_t* a = first + view.ip_offset;
  const uint8_t* b = packet + view.ip_offset;
  if (view.version == 4) {
    return LoadBe16(b + kIp4TotalLength) == view.ip_size && SameBytes(a, b, 0, kIp4TotalLength) &&
           IdDistance(first, packet, view) == distance && SameBytes(a, b, kIp4Fragment, kIp4Checksum) &&
           SameBytes(a, b, kIp4Addresses, kIp4Header);
  }
  return LoadBe16(b + kIp6PayloadLength) + kIp6Header == view.ip_size &&
         SameBytes(a, b, 0, kIp6PayloadLength) && SameBytes(a, b, kIp6PayloadLength + 2, kIp6Header);
}

/// The same for the transport's header; `sequence` is how far TCP's sequence number is from that of `first`.
/// PSH may differ.
bool SameL4Header(const uint8_t* first, const uint8_t* packet, const PacketView& view, size_t sequence) {
  const uint8_t* a = first + view.l4_offset;
  const uint8_t* b = packet + view.l4_offset;
  if (!SameBytes(a, b, 0, kPorts)) return false;
  if (!view.is_tcp()) return LoadBe16(b + kUdpLength) == view.l4_size();
  return LoadBe32(b + kTcpSequence) == LoadBe32(a + kTcpSequence) + static_cast<uint32_t>(sequence) &&
         SameBytes(a, b, kTcpSequence + 4, kTcpFlags) && ((a[kTcpFlags] ^ b[kTcpFlags]) & ~kTcpPsh) == 0 &&
         SameBytes(a, b, kTcpFlags + 1, kTcpChecksum) && SameBytes(a, b, kTcpChecksum + 2, view.l4_header);
}

}  // namespace

void GroTable::Clear() {
  if (recent_ != nullptr) buckets_.fill(kNone);
  recent_ = nullptr;
  packet_count_ = group_count_ = barrier_ = 0;
}

bool GroTable::Add(const uint8_t* packet, size_t size) {
  if (full()) return false;
  // Mostly it goes on where the packet before it ended: then its headers need no parsing.
  if (recent_ != nullptr && Join(*recent_, packet, size)) return true;
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
  const uint16_t* tried = recent_;
  recent_ = &LatestRun(packet, view);
  if (*recent_ != kNone && recent_ != tried && Join(*recent_, packet, view.size)) return;
  *recent_ = static_cast<uint16_t>(group_count_);
  const bool mergeable = view.ip_size <= options_.max_ip_packet && Mergeable(packet, view);
  StartRun(packet, view, mergeable ? State::kUnverified : State::kClosed);
}

uint16_t& GroTable::LatestRun(const uint8_t* packet, const PacketView& view) {
  size_t at = HashFlow(packet, view) % kBuckets;
  for (; buckets_[at] != kNone; at = (at + 1) % kBuckets) {
    const Run& run = runs_[buckets_[at]];
    if (SameFlow(packets_[run.first].bytes, run.view, packet, view)) break;
  }
  return buckets_[at];
}

bool GroTable::Join(size_t index, const uint8_t* packet, size_t size) {
  Run& run = runs_[index];
  if (index < barrier_ || run.state == State::kClosed || size <= run.view.header_size()) return false;
  PacketView view = run.view;  // the headers are compared with the first packet's, so they lie where those do
  view.size = size;
  view.ip_size = size - view.ip_offset;
  const size_t payload = size - view.header_size();
  const size_t whole = view.header_size() + run.payload + payload;
  if (payload > run.segment_size || whole - view.ip_offset > kMaxIpSize || whole > kMaxFrame) return false;
  if (!view.is_tcp() && run.count == kMaxUdpSegments) return false;
  const uint8_t* first = packets_[run.first].bytes;
  const bool fixed_id = run.count == 1 ? KeepsId(first, packet, view) : run.fixed_id;
  if (!SameBytes(first, packet, 0, view.ip_offset) ||
      !SameIpHeader(first, packet, view, fixed_id ? 0 : run.count) ||
      !SameL4Header(first, packet, view, run.payload) || !UsualChecksums(packet, view) ||
      WithoutChecksum(packet, view) != run.no_checksum) {
    return false;
  }
  if (!ChecksumsRight(packet, view) || !VerifyFirst(run)) return false;
  run.fixed_id = fixed_id;
  Append(run, packet, view);
  return true;
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
  run.fixed_id = false;
  run.no_checksum = WithoutChecksum(packet, view);
  run.payload = run.segment_size = static_cast<uint32_t>(view.payload_size());
  if (HasPush(packet, view)) run.state = State::kClosed;
}

void GroTable::Append(Run& run, const uint8_t* packet, const PacketView& view) {
  const auto number = static_cast<uint16_t>(packet_count_++);
  packets_[number] = {packet, view.size, kNone};
  packets_[run.last].next = number;
  run.last = number;
  run.count++;
  run.payload += static_cast<uint32_t>(view.payload_size());
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
