#include "core/offload/gso_split.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/offload/byte_order.h"
#include "core/offload/checksum.h"

namespace tunsock {

namespace {

constexpr uint16_t kZeroChecksum = 0xffff;  // how a finished checksum of 0 is written where 0 means "none"

/// Whether `header` describes the superpacket that `view` found.
bool Describes(const VirtioNetHdr& header, const PacketView& view) {
  if (view.l4_header == 0 || !view.exact() || header.gso_size == 0) return false;
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
      return !view.is_tcp() && header.needs_checksum();
    default:
      return false;
  }
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

int CompleteChecksum(uint8_t* packet, size_t size, const VirtioNetHdr& header) {
  if (!header.needs_checksum()) return 0;
  const size_t start = header.csum_start;
  const size_t field = start + header.csum_offset;
  if (field + sizeof(uint16_t) > size) return -EINVAL;
  const uint16_t checksum = FinishSum(InternetSum(packet + start, size - start));
  StoreWord(packet + field, checksum == 0 ? kZeroChecksum : checksum);
  return 0;
}

int GsoSplitter::Begin(uint8_t* packet, size_t size, const VirtioNetHdr& header, Framing framing) {
  packet_ = packet;
  position_ = end_ = header_size_ = 0;
  if (size == 0) return -EINVAL;
  if (header.gso_type != kVnetGsoNone) {
    if (!view_.Parse(packet, size, framing) || !Describes(header, view_)) return -EINVAL;
    if (view_.payload_size() > header.gso_size) return BeginSegments(header);
  }
  const int result = CompleteChecksum(packet, size, header);
  if (result == 0) end_ = segment_size_ = size;
  return result;
}

int GsoSplitter::BeginSegments(const VirtioNetHdr& header) {
  const uint8_t* l4 = packet_ + view_.l4_offset;
  if (!view_.is_tcp() && LoadBe16(l4 + kUdpLength) != view_.l4_size()) return -EINVAL;

  header_size_ = position_ = view_.header_size();
  end_ = view_.size;
  segment_size_ = header.gso_size;
  TakeFields();
  return 0;
}

/// Takes out of the headers what differs from segment to segment, and sums the rest once.
void GsoSplitter::TakeFields() {
  uint8_t* ip = packet_ + view_.ip_offset;
  uint8_t* l4 = packet_ + view_.l4_offset;
  if (view_.version == 4) {
    ip_id_ = LoadBe16(ip + kIp4Id);
    StoreWord<uint16_t>(ip + kIp4TotalLength, 0);
    StoreWord<uint16_t>(ip + kIp4Id, 0);
    StoreWord<uint16_t>(ip + kIp4Checksum, 0);
    ip_sum_ = InternetSum(ip, view_.ip_header());
  }
  if (view_.is_tcp()) {
    sequence_ = LoadBe32(l4 + kTcpSequence);
    tcp_flags_ = l4[kTcpFlags];
    StoreBe32(l4 + kTcpSequence, 0);
    l4[kTcpFlags] = 0;
  } else {
    StoreWord<uint16_t>(l4 + kUdpLength, 0);
  }
  StoreWord<uint16_t>(packet_ + view_.checksum_offset(), 0);
  l4_sum_ = InternetSum(l4, view_.l4_header, PseudoHeaderSum(packet_, view_, 0));
}

void GsoSplitter::WriteFields(size_t payload, uint64_t payload_sum) {
  uint8_t* ip = packet_ + view_.ip_offset;
  uint8_t* l4 = packet_ + view_.l4_offset;
  const auto l4_size = static_cast<uint16_t>(view_.l4_header + payload);
  if (view_.version == 4) {
    const auto total = static_cast<uint16_t>(view_.ip_header() + l4_size);
    StoreBe16(ip + kIp4TotalLength, total);
    StoreBe16(ip + kIp4Id, ip_id_);
    StoreWord(ip + kIp4Checksum, FinishSum(ip_sum_ + SumOfWord(total) + SumOfWord(ip_id_)));
    ip_id_++;
  } else {
    StoreBe16(ip + kIp6PayloadLength, static_cast<uint16_t>(view_.ip_header() + l4_size - kIp6Header));
  }
  uint64_t sum = l4_sum_ + payload_sum + SumOfWord(l4_size);
  if (view_.is_tcp()) {
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
  const uint16_t checksum = FinishSum(sum);
  StoreWord(packet_ + view_.checksum_offset(), checksum == 0 && !view_.is_tcp() ? kZeroChecksum : checksum);
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
