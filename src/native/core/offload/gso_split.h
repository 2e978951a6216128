#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>

#include "core/offload/ip_layers.h"
#include "core/offload/packet_view.h"
#include "core/offload/virtio_net_hdr.h"

namespace tunsock {

/// Finishes, in place, the checksum of a packet that carries kVnetNeedsChecksum; does nothing to any other,
/// nor to an IP packet of which the end is missing. As skb_checksum_help() in net/core/dev.c: summed to the
/// packet's end, and 0 becomes 0xffff; SCTP gets its CRC-32C (skb_crc32c_csum_help()).
/// 0, or -EINVAL where the field is not inside the packet.
int CompleteChecksum(uint8_t* packet, size_t size, const VirtioNetHdr& header, Framing framing);

/// Cuts a packet that was read behind a virtio header into the packets that it stands for: a superpacket as
/// the kernel's own segmentation would (tcp_gso_segment, __udp_gso_segment, inet_gso_segment,
/// ipv6_gso_segment, __skb_udp_tunnel_segment, gre_gso_segment), any other into itself, and always with
/// finished checksums.
///
/// Where the checksum is still to be made, each segment's derives from the sum in its field, as in the
/// kernel: that has the pseudo header's addresses, of which one does not stand in the IP header when a source
/// route or a routing header has more hops to go.
///
///     if (splitter.Begin(packet, size, header, framing) == 0)
///       while (!splitter.done() && there_is_room) splitter.Next(slot, slot_size);
///
/// A cursor: whoever has room for k segments takes k, and the rest at another time. The packet's memory is
/// the caller's and must stay in place until done(); its headers are rewritten in place for each segment, so
/// only the splitter may read it meanwhile. A superpacket may be longer than 65535 bytes (BIG TCP). Nothing
/// is allocated and no memory outside the packet is touched, whatever the headers say.
class GsoSplitter {
 public:
  /// Starts on a packet, and gives up whatever was left of the one before. -EINVAL, with the packet as it was
  /// and nothing to take, where `header` and the packet's own headers don't fit together. `hdr_len` is not
  /// looked at: it is a hint. A gso_type on a packet with no more payload than gso_size is ignored, as
  /// virtio_net_hdr_to_skb() does.
  int Begin(uint8_t* packet, size_t size, const VirtioNetHdr& header, Framing framing);

  [[nodiscard]] bool done() const { return position_ == end_; }

  /// Segments not yet taken.
  [[nodiscard]] size_t remaining() const {
    return done() ? 0 : (end_ - position_ + segment_size_ - 1) / segment_size_;
  }

  /// The true length of the segment that Next() will give; 0 when done().
  [[nodiscard]] size_t next_size() const { return done() ? 0 : header_size_ + NextPayload(); }

  /// Copies the next segment to `to` and moves on. As a receive call with MSG_TRUNC: returns the segment's
  /// true length, and what there is no room for is gone. 0 when done().
  size_t Next(const iovec* to, int count);
  size_t Next(uint8_t* to, size_t room) {
    const iovec one = {to, room};
    return Next(&one, 1);
  }

 private:
  /// What differs from segment to segment in an IP header, and in the header of a tunnel behind it.
  struct Layer {
    uint64_t ip_sum = 0;  // of the IPv4 header without the fields that differ
    uint16_t ip_id = 0;
    bool checksum = false;     // the tunnel's header has one
    uint64_t tunnel_seed = 0;  // what it covers beside the tunnel's bytes
  };

  int BeginSegments(const VirtioNetHdr& header);
  [[nodiscard]] size_t NextPayload() const {
    return segment_size_ < end_ - position_ ? segment_size_ : end_ - position_;
  }
  [[nodiscard]] const PacketView& view() const { return layers_.innermost(); }
  int RemoveJumboOption();
  void TakeFields(bool unfinished);
  void TakeIpFields(const PacketView& ip, Layer* layer);
  void TakeTunnelFields(const PacketView& ip, Layer* layer);
  void WriteFields(size_t payload, uint64_t payload_sum);
  void WriteIpFields(const PacketView& ip, size_t size, Layer* layer);
  void WriteTunnelFields(const PacketView& ip, size_t size, uint64_t payload_sum, const Layer& layer);

  uint8_t* packet_ = nullptr;
  IpLayers layers_;
  std::array<Layer, IpLayers::kMost> fields_;  // of each layer
  size_t header_size_ = 0;  // repeated before each segment; 0 for a packet that is its own only segment
  size_t segment_size_ = 0;
  size_t position_ = 0;  // of the payload that comes next
  size_t end_ = 0;
  uint64_t l4_sum_ = 0;  // what the transport's checksum covers beside what differs
  uint32_t sequence_ = 0;
  uint8_t tcp_flags_ = 0;
  bool no_checksum_ = false;  // UDP without one
};

}  // namespace tunsock
