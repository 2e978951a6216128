#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>

#include "core/offload/packet_view.h"
#include "core/offload/virtio_net_hdr.h"

namespace tunsock {

/// What the device takes, as TUNSETOFFLOAD has left it.
struct GroOptions {
  bool tso4 = false;
  bool tso6 = false;
  bool uso = false;
  Framing framing = Framing::kIp;
  /// A longer packet is no segment: on a cable the kernel takes it only as long as the mtu.
  size_t max_ip_packet = 65535;
};

/// One write: a superpacket, or a single packet as it was.
struct GroGroup {
  VirtioNetHdr header;
  int iov_count = 0;                  // entries of the caller's array that Gather() has filled
  size_t size = 0;                    // bytes in them
  const uint16_t* members = nullptr;  // which packets: what Add() counted, ascending
  size_t member_count = 0;
};

/// Merges runs of one flow among the packets of one flush into superpackets, without copying a payload.
///
///     while (there_are_packets && !table.full()) table.Add(packet, size);
///     iovec iov[1 + GroTable::kMaxIovecs];  // iov[0] for the encoded virtio header
///     for (size_t i = 0; i < table.group_count(); i++) { group = table.Gather(i, iov + 1); … writev … }
///     table.Clear();
///
/// Packets merge that the kernel, cutting the superpacket again, gives back: equal headers but for what
/// counts up (TCP sequence, IPv4 id), equal payload lengths but for a shorter last one, checksums that are
/// right. Bit for bit, but for two fields that say nothing: an IPv4 id that stands still beside DF (RFC 6864;
/// it counts up afterwards), and the checksum of UDP over IPv4 that has none (RFC 768; it has one
/// afterwards). Each merges with its own kind only, as the kernel's GRO has the former. SYN, FIN, RST, URG,
/// CWR, fragments, IPv4 options, IPv6 extension headers and empty payloads never merge; PSH ends a run.
/// Everything else is a group of its own, untouched.
///
/// Order: groups stand in the order of their first packets, and a packet joins the latest group of its flow
/// or starts the next one. So within a flow nothing is overtaken. Flows may overtake each other: what has
/// been written when group i fails is exactly the members of the groups before it. A packet whose flow can't
/// be told (a fragment, another protocol) is overtaken by nothing that comes after it, and overtakes nothing.
///
/// Memory: packets are the caller's, are only read, and must stay in place until Clear(). The table is about
/// 44 KiB with all that it needs; nothing is allocated.
class GroTable {
 public:
  static constexpr size_t kMaxPackets = 512;             // of one flush
  static constexpr size_t kMaxIovecs = kMaxPackets + 1;  // of one group: the header and each payload
  static constexpr size_t kMaxUdpSegments = 64;          // UDP_MAX_SEGMENTS before Linux 6.9
  static constexpr size_t kMaxFrame = kMaxIpSize + 18;   // what is sent at most: one VLAN tag

  explicit GroTable(const GroOptions& options) : options_(options) { buckets_.fill(kNone); }

  [[nodiscard]] bool full() const { return packet_count_ == kMaxPackets; }
  [[nodiscard]] size_t packet_count() const { return packet_count_; }
  [[nodiscard]] size_t group_count() const { return group_count_; }

  /// Takes the next packet of the flush; its number is the count of those before it. False when full().
  bool Add(const uint8_t* packet, size_t size);

  /// Group `index`, ready to be written: fills up to member count + 1 entries of `iov`. `members` and the
  /// rebuilt header that iov[0] points to are the table's, and valid until the next Gather() or Clear().
  GroGroup Gather(size_t index, iovec* iov);

  /// Forgets all packets; the next flush starts.
  void Clear();

  /// What the device takes: counts for packets that are added from now on.
  void SetOptions(const GroOptions& options) { options_ = options; }
  [[nodiscard]] const GroOptions& options() const { return options_; }

 private:
  static constexpr size_t kBuckets = 2 * kMaxPackets;  // a power of two
  static constexpr uint16_t kNone = UINT16_MAX;

  /// Of a run: takes no more packets, or does. The first packet's checksum is looked at only when a second
  /// packet would join, so that a lone packet costs no pass over its payload.
  enum class State : uint8_t { kClosed, kUnverified, kVerified };

  struct Packet {
    const uint8_t* bytes = nullptr;
    size_t size = 0;
    uint16_t next = kNone;  // of the same run
  };

  /// One packet, or several whose headers are like the first one's.
  struct Run {
    PacketView view;  // of the first packet
    uint32_t payload = 0;
    uint32_t segment_size = 0;
    uint16_t first = kNone;
    uint16_t last = kNone;
    uint16_t count = 0;
    State state = State::kClosed;
    bool fixed_id = false;     // the second packet had the first one's IPv4 id
    bool no_checksum = false;  // UDP without one
  };

  [[nodiscard]] bool DeviceTakes(const PacketView& view) const;
  void AddToFlow(const uint8_t* packet, const PacketView& view);
  [[nodiscard]] uint16_t& LatestRun(const uint8_t* packet, const PacketView& view);
  /// Adds the packet to run `index`, if it continues it.
  bool Join(size_t index, const uint8_t* packet, size_t size);
  [[nodiscard]] bool VerifyFirst(Run& run) const;
  void StartRun(const uint8_t* packet, const PacketView& view, State state);
  void Append(Run& run, const uint8_t* packet, const PacketView& view);
  [[nodiscard]] VirtioNetHdr BuildHeader(const Run& run);

  GroOptions options_;
  size_t packet_count_ = 0;
  size_t group_count_ = 0;
  size_t barrier_ = 0;          // groups before it are closed
  uint16_t* recent_ = nullptr;  // the bucket of the flow that came last; null while all buckets are empty
  std::array<Packet, kMaxPackets> packets_;
  std::array<Run, kMaxPackets> runs_;
  std::array<uint16_t, kBuckets> buckets_;  // each flow's latest run
  std::array<uint16_t, kMaxPackets> members_;
  std::array<uint8_t, kMaxEthernetHeader + kIp6Header + kMaxTcpHeader> header_;
};

}  // namespace tunsock
