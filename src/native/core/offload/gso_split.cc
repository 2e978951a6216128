#include "core/offload/gso_split.h"

#include <endian.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/offload/byte_order.h"
#include "core/offload/checksum.h"
#include "core/offload/crc32c.h"

namespace tunsock {

namespace {

constexpr uint16_t kZeroChecksum = 0xffff;  // how a finished checksum of 0 is written where 0 means "none"

/// Whether `header` describes a superpacket of what `view` found, whose lengths are right.
bool Describes(const VirtioNetHdr& header, const PacketView& view) {
  if (header.gso_size == 0) return false;
  if (header.needs_checksum() &&
      (header.csum_start != view.l4_offset || header.csum_offset != view.checksum_in_l4())) {
    return false;
  }
  switch (header.gso_type) {
    case kVnetGsoTcp4:
    case kVnetGsoTcp4 | kVnetGsoEcn:
      return view.is_tcp() && view.version == 4;
    case kVnetGsoTcp6:
    case kVnetGsoTcp6 | kVnetGsoEcn:
      return view.is_tcp() && view.version == 6;
    case kVnetGsoUdpL4:
      return !view.is_tcp();
    default:
      return false;
  }
}

ZeroLength ZeroLengthOf(const VirtioNetHdr& header) {
  return header.gso_type == kVnetGsoUdpL4 ? ZeroLength::kIsWrong : ZeroLength::kIsAll;
}

/// Takes a length in a pseudo header's sum out of it again.
uint64_t WithoutLength(uint64_t sum, size_t length) {
  return sum + (UINT32_MAX - htonl(static_cast<uint32_t>(length)));
}

/// Fills one buffer after another, and drops what none has room for.
class Scatter {
 public:
  Scatter(const iovec* to, int count) : to_(to), left_(count) {}

  void Put(const uint8_t* from, size_t size) {
    while (size > 0 && left_ > 0) {
      const size_t step = std::min(size, to_->iov_len - used_);
      if (step > 0) std::memcpy(static_cast<uint8_t*>(to_->iov_base) + used_, from, step);
      from += step;
      size -= step;
      used_ += step;
      if (used_ == to_->iov_len) NextBuffer();
    }
  }

 private:
  void NextBuffer() {
    to_++;
    left_--;
    used_ = 0;
  }

  const iovec* to_;
  int left_;
  size_t used_ = 0;
};

}  // namespace

int CompleteChecksum(uint8_t* packet, size_t size, const VirtioNetHdr& header, Framing framing) {
  constexpr size_t kSctpChecksum = 8;
  if (!header.needs_checksum()) return 0;
  const size_t start = header.csum_start;
  const size_t field = start + header.csum_offset;
  if (field + sizeof(uint16_t) > size) return -EINVAL;
  PacketView view;
  if (view.Parse(packet, size, framing)) {
    if (view.protocol == IPPROTO_SCTP && start == view.l4_offset && header.csum_offset == kSctpChecksum) {
      if (view.l4_size() < kSctpChecksum + sizeof(uint32_t)) return -EINVAL;
      StoreWord<uint32_t>(packet + field, 0);
      StoreWord(packet + field, htole32(Crc32c(packet + start, view.l4_size())));
      return 0;
    }
  } else if (view.cut) {
    return 0;
  }
  const uint16_t checksum = FinishSum(InternetSum(packet + start, size - start));
  StoreWord(packet + field, checksum == 0 ? kZeroChecksum : checksum);
  return 0;
}

int GsoSplitter::Begin(uint8_t* packet, size_t size, const VirtioNetHdr& header, Framing framing) {
  packet_ = packet;
  position_ = end_ = header_size_ = 0;
  if (size == 0) return -EINVAL;
  if (header.gso_type != kVnetGsoNone) {
    const size_t transport = header.needs_checksum() ? header.csum_start : 0;
    if (!layers_.Parse(packet, size, framing, transport, ZeroLengthOf(header)) ||
        !Describes(header, view())) {
      return -EINVAL;
    }
    if (view().payload_size() > header.gso_size) return BeginSegments(header);
  }
  const int result = CompleteChecksum(packet, size, header, framing);
  if (result == 0) end_ = segment_size_ = size;
  return result;
}

int GsoSplitter::BeginSegments(const VirtioNetHdr& header) {
  for (size_t i = 0; i < layers_.count(); i++) {
    const PacketView& layer = layers_[i];
    if (layer.protocol == IPPROTO_UDP &&
        LoadBe16(packet_ + layer.l4_offset + kUdpLength) != layer.l4_size()) {
      return -EINVAL;
    }
  }
  if (header.gso_size + view().header_size() - layers_[0].ip_offset > kMaxIpSize) return -EINVAL;
  const int removed = RemoveJumboOption();
  if (removed < 0) return removed;

  header_size_ = position_ = view().header_size();
  end_ = view().size;
  segment_size_ = header.gso_size;
  TakeFields(header.needs_checksum());
  return 0;
}

/// A packet of no more than 65535 bytes has no jumbo payload length: the headers before it move up, as in
/// ipv6_hopopt_jumbo_remove().
int GsoSplitter::RemoveJumboOption() {
  const PacketView& outer = layers_[0];
  uint8_t* ip = packet_ + outer.ip_offset;
  if (!outer.jumbo || LoadBe16(ip + kIp6PayloadLength) != 0) return 0;
  const size_t said = LoadBe32(ip + kIp6Header + 4);
  if (layers_.count() != 1 || said != outer.ip_size - kIp6Header) return -EINVAL;
  ip[kIp6NextHeader] = IPPROTO_TCP;
  std::memmove(packet_ + kIp6JumboOption, packet_, outer.ip_offset + kIp6Header);
  packet_ += kIp6JumboOption;
  layers_.RemoveJumboOption();
  return 0;
}

/// Takes out of the headers what differs from segment to segment, and sums the rest once.
void GsoSplitter::TakeFields(bool unfinished) {
  for (size_t i = 0; i < layers_.count(); i++) {
    TakeIpFields(layers_[i], &fields_[i]);
    if (i + 1 < layers_.count()) TakeTunnelFields(layers_[i], &fields_[i]);
  }
  const PacketView& view = this->view();
  uint8_t* l4 = packet_ + view.l4_offset;
  const auto seed = LoadWord<uint16_t>(packet_ + view.checksum_offset());
  if (view.is_tcp()) {
    sequence_ = LoadBe32(l4 + kTcpSequence);
    tcp_flags_ = l4[kTcpFlags];
    StoreBe32(l4 + kTcpSequence, 0);
    l4[kTcpFlags] = 0;
  } else {
    StoreWord<uint16_t>(l4 + kUdpLength, 0);
  }
  StoreWord<uint16_t>(packet_ + view.checksum_offset(), 0);
  no_checksum_ = !unfinished && !view.is_tcp() && seed == 0;
  const uint64_t pseudo =
      unfinished ? WithoutLength(seed, view.l4_size()) : PseudoHeaderSum(packet_, view, 0);
  l4_sum_ = InternetSum(l4, view.l4_header, pseudo);
}

void GsoSplitter::TakeIpFields(const PacketView& ip, Layer* layer) {
  if (ip.version != 4) return;
  uint8_t* header = packet_ + ip.ip_offset;
  layer->ip_id = LoadBe16(header + kIp4Id);
  StoreWord<uint16_t>(header + kIp4TotalLength, 0);
  StoreWord<uint16_t>(header + kIp4Id, 0);
  StoreWord<uint16_t>(header + kIp4Checksum, 0);
  layer->ip_sum = InternetSum(header, ip.ip_header());
}

/// An outer UDP header's checksum is to be made too, from what its field has of the pseudo header; GRE's is
/// of its own bytes only.
void GsoSplitter::TakeTunnelFields(const PacketView& ip, Layer* layer) {
  uint8_t* header = packet_ + ip.l4_offset;
  layer->checksum = false;
  if (ip.protocol == IPPROTO_UDP) {
    const auto seed = LoadWord<uint16_t>(header + kUdpChecksum);
    layer->checksum = seed != 0;
    layer->tunnel_seed = WithoutLength(seed, ip.l4_size());
    StoreWord<uint16_t>(header + kUdpChecksum, 0);
  } else if (ip.protocol == IPPROTO_GRE) {
    layer->checksum = (header[0] & kGreHasChecksum) != 0;
    layer->tunnel_seed = 0;
    if (layer->checksum) StoreWord<uint16_t>(header + kGreChecksum, 0);
  }
}

void GsoSplitter::WriteFields(size_t payload, uint64_t payload_sum) {
  const PacketView& view = this->view();
  const size_t size = header_size_ + payload;
  for (size_t i = 0; i < layers_.count(); i++) WriteIpFields(layers_[i], size, &fields_[i]);

  uint8_t* l4 = packet_ + view.l4_offset;
  const auto l4_size = static_cast<uint16_t>(view.l4_header + payload);
  uint64_t sum = l4_sum_ + payload_sum + SumOfWord(l4_size);
  if (view.is_tcp()) {
    // The segments before the last end no record and no connection.
    const bool last = position_ + payload == end_;
    const auto flags = static_cast<uint8_t>(last ? tcp_flags_ : tcp_flags_ & ~(kTcpFin | kTcpPsh));
    StoreBe32(l4 + kTcpSequence, sequence_);
    l4[kTcpFlags] = flags;
    sum += LoadWord<uint32_t>(l4 + kTcpSequence) + SumOfWord(flags);
    sequence_ += static_cast<uint32_t>(payload);
    tcp_flags_ &= static_cast<uint8_t>(~kTcpCwr);  // answers one ECE once: the first segment carries it
  } else {
    StoreBe16(l4 + kUdpLength, l4_size);
    sum += SumOfWord(l4_size);
  }
  uint16_t checksum = FinishSum(sum);
  if (checksum == 0 && !view.is_tcp()) checksum = kZeroChecksum;
  StoreWord<uint16_t>(packet_ + view.checksum_offset(), no_checksum_ ? 0 : checksum);

  // From the inside out, since the outer checksums cover the inner ones.
  for (size_t i = layers_.count() - 1; i-- > 0;) WriteTunnelFields(layers_[i], size, payload_sum, fields_[i]);
}

void GsoSplitter::WriteIpFields(const PacketView& ip, size_t size, Layer* layer) {
  uint8_t* header = packet_ + ip.ip_offset;
  const auto total = static_cast<uint16_t>(size - ip.ip_offset);
  if (ip.version == 4) {
    StoreBe16(header + kIp4TotalLength, total);
    StoreBe16(header + kIp4Id, layer->ip_id);
    StoreWord(header + kIp4Checksum, FinishSum(layer->ip_sum + SumOfWord(total) + SumOfWord(layer->ip_id)));
    layer->ip_id++;
  } else {
    StoreBe16(header + kIp6PayloadLength, static_cast<uint16_t>(total - kIp6Header));
  }
}

void GsoSplitter::WriteTunnelFields(const PacketView& ip, size_t size, uint64_t payload_sum,
                                    const Layer& layer) {
  uint8_t* header = packet_ + ip.l4_offset;
  const auto length = static_cast<uint16_t>(size - ip.l4_offset);
  const bool udp = ip.protocol == IPPROTO_UDP;
  if (udp) StoreBe16(header + kUdpLength, length);
  if (!layer.checksum) return;
  uint8_t* field = header + (udp ? kUdpChecksum : kGreChecksum);
  StoreWord<uint16_t>(field, 0);
  uint64_t sum = InternetSum(header, header_size_ - ip.l4_offset, layer.tunnel_seed + payload_sum);
  if (udp) sum += SumOfWord(length);
  const uint16_t checksum = FinishSum(sum);
  StoreWord(field, checksum == 0 && udp ? kZeroChecksum : checksum);
}

size_t GsoSplitter::Next(const iovec* to, int count) {
  if (done()) return 0;
  const size_t payload = NextPayload();
  const size_t size = header_size_ + payload;
  const uint8_t* from = packet_ + position_;
  if (header_size_ > 0 && count == 1 && to->iov_len >= size) {
    auto* at = static_cast<uint8_t*>(to->iov_base);
    WriteFields(payload, CopyAndSum(at + header_size_, from, payload));
    std::memcpy(at, packet_, header_size_);
  } else {
    if (header_size_ > 0) WriteFields(payload, InternetSum(from, payload));
    Scatter out(to, count);
    out.Put(packet_, header_size_);
    out.Put(from, payload);
  }
  position_ += payload;
  return size;
}

}  // namespace tunsock
