#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "core/sys/sys_result.h"

namespace tunsock {

/// The largest virtio header: struct virtio_net_hdr_v1_hash_tunnel (Linux 6.17).
constexpr size_t kMaxVirtioHeader = 24;

/// What is said of a packet beside its bytes: by the kernel of one that was received, by the sender of one
/// that is to be sent. 64 bytes, laid out for src/ts/packet/packet-meta.ts.
struct PacketMeta {
  /// virtio_net_hdr of an offload socket, as the kernel has it (native endian unless TUNSETVNETLE says
  /// otherwise).
  uint8_t virtio_header[kMaxVirtioHeader];
  /// sockaddr_ll of a packet socket: interface, packet type, hardware type, address.
  uint32_t interface_index;
  uint16_t hardware_type;
  uint8_t packet_type;
  uint8_t address_length;
  uint8_t address[8];
  /// tpacket_auxdata: TP_STATUS_* bits and the VLAN tag that the kernel took out.
  uint32_t status;
  uint16_t vlan_tci;
  uint16_t vlan_tpid;
  /// SO_TIMESTAMPNS: seconds and nanoseconds; 0 where none was asked for.
  uint64_t timestamp_seconds;
  uint32_t timestamp_nanoseconds;
  /// Of a packet to send on a socket without link headers: 1 where it goes to `address` rather than to where
  /// the socket's packets go, and the EtherType that it goes as; 0 is the socket's, or the packet's own.
  uint16_t has_destination;
  uint16_t destination_protocol;
};
static_assert(sizeof(PacketMeta) == 64, "packet-meta.ts knows this layout");

/// The same bytes as they are for a datagram of a UDP socket. Addresses of IPv4 take the first 4 bytes.
/// Families are 4, 6, or 0 for no address. Ports and lengths are in host order.
struct DatagramMeta {
  /// Whom it came from; with `has_destination`, where it goes.
  uint8_t address[16];
  uint32_t scope;  // the interface of a link-local address
  uint16_t port;
  uint8_t family;
  uint8_t traffic_class;
  /// Whom it was sent to; of one that is to be sent, the source that it gets; of an error, who told of it.
  uint8_t local_address[16];
  uint32_t interface_index;
  uint8_t local_family;
  /// Of one that is to be sent: `traffic_class` is given.
  uint8_t has_traffic_class;
  /// UDP_GRO, UDP_SEGMENT: this is several datagrams of that length, the last one of at most that; 0: one.
  uint16_t segment_size;
  uint64_t timestamp_seconds;
  uint32_t timestamp_nanoseconds;
  uint16_t has_destination;
  union {
    /// Of a message of the error queue: the errno.
    uint16_t error;
    /// Of one that is to be sent and is several datagrams: how many of them have gone already.
    uint16_t segments_gone;
  };
};
static_assert(sizeof(DatagramMeta) == sizeof(PacketMeta), "one is read as the other");
static_assert(offsetof(DatagramMeta, timestamp_seconds) == offsetof(PacketMeta, timestamp_seconds) &&
              offsetof(DatagramMeta, has_destination) == offsetof(PacketMeta, has_destination));

inline DatagramMeta DatagramOf(const PacketMeta& meta) {
  DatagramMeta datagram;
  std::memcpy(&datagram, &meta, sizeof datagram);
  return datagram;
}

inline void PutDatagram(const DatagramMeta& datagram, PacketMeta* meta) {
  std::memcpy(meta, &datagram, sizeof datagram);
}

/// Whether the header says more than that the packet is whole: it is cut, or lacks its checksum. (flags but
/// for VIRTIO_NET_HDR_F_DATA_VALID, gso_type.)
inline bool NeedsOffload(const PacketMeta& meta) {
  return (meta.virtio_header[0] & ~2) != 0 || meta.virtio_header[1] != 0;
}

/// One received packet, as recvmsg reports it. Laid out for src/ts/socket/socket-calls.ts.
struct PacketDetails {
  uint32_t copied;    // bytes in the caller's buffers
  uint32_t size;      // true length
  uint32_t flags;     // MSG_TRUNC
  uint32_t protocol;  // EtherType, host order; 0 where it can't be told
  PacketMeta meta;
};
static_assert(sizeof(PacketDetails) == 16 + sizeof(PacketMeta), "socket-calls.ts knows this layout");

/// Room after the last slot, so that every packet can be read with one read(2) that shows its true length: a
/// packet longer than its slot runs over slots that are still empty.
constexpr size_t kBatchTail = 65536 + 64;

/// The largest superpacket, with its link header: GSO_MAX_SIZE (BIG TCP). No tun device hands over one of
/// more than kMaxPacket; interfaces with a larger gso_max_size or gro_max_size do, to packet sockets.
constexpr size_t kMaxSuperpacket = 8 * 65535 + 18;

/// The free room that a batch whose packets lie one behind another has for each that is received: none of
/// them is cut. A multiple of 64.
constexpr size_t kPackedRoom = (kMaxSuperpacket + 63 + 64) & ~size_t{63};

/// A borrowed view of a PacketBatch's memory: PacketMeta for each packet, then columns of 32-bit words, one
/// word a packet, then, from the next multiple of 64, the slab. With `packet_size` 0 packets lie one behind
/// another and are never cut; otherwise each has a slot of that size. The owner keeps the memory alive and in
/// place while the view is used.
struct Batch {
  uint32_t* offsets = nullptr;
  uint32_t* lengths = nullptr;
  uint32_t* sizes = nullptr;
  uint32_t* flags = nullptr;
  uint32_t* protocols = nullptr;
  PacketMeta* meta = nullptr;
  uint8_t* slab = nullptr;
  size_t slab_bytes = 0;  // with the tail
  uint32_t capacity = 0;
  uint32_t packet_size = 0;
  /// For sending: whether the packets' virtio headers mean anything. Otherwise each packet is whole.
  bool has_headers = false;
  /// For sending: whether `has_destination` means anything. Otherwise all go where the socket's packets go.
  bool has_destinations = false;
  /// For sending: whether the metadata are those of datagrams.
  bool has_datagrams = false;

  static constexpr size_t kColumns = 5;
  static constexpr size_t kBytesForEach = kColumns * sizeof(uint32_t) + sizeof(PacketMeta);
  static constexpr size_t kPackedAlignment = 16;

  /// Lays a batch of `capacity` packets over `bytes` bytes at `memory`; false when they don't fit.
  bool Map(uint8_t* memory, size_t bytes, uint32_t packets, uint32_t slot) {
    const size_t head = (static_cast<size_t>(packets) * kBytesForEach + 63) & ~size_t{63};
    if (memory == nullptr || packets == 0 || bytes < head + kBatchTail) return false;
    if (slot != 0 && (bytes - head - kBatchTail) / slot < packets) return false;
    MapColumns(memory, packets);
    slab = memory + head;
    slab_bytes = bytes - head;
    packet_size = slot;
    return true;
  }

  /// Lays what is said of `packets` packets over packets * kBytesForEach bytes at `memory`.
  void MapColumns(uint8_t* memory, uint32_t packets) {
    meta = reinterpret_cast<PacketMeta*>(memory);
    auto* words = reinterpret_cast<uint32_t*>(memory + packets * sizeof(PacketMeta));
    offsets = words;
    lengths = words + packets;
    sizes = words + 2 * static_cast<size_t>(packets);
    flags = words + 3 * static_cast<size_t>(packets);
    protocols = words + 4 * static_cast<size_t>(packets);
    capacity = packets;
  }

  /// Where packet `index` goes, when the ones before it are in.
  [[nodiscard]] size_t SlotOffset(uint32_t index) const {
    if (packet_size != 0) return static_cast<size_t>(index) * packet_size;
    if (index == 0) return 0;
    const size_t end = static_cast<size_t>(offsets[index - 1]) + lengths[index - 1];
    return (end + kPackedAlignment - 1) & ~(kPackedAlignment - 1);
  }

  /// The most that packet `index` may keep of its length.
  [[nodiscard]] size_t SlotLength() const { return packet_size != 0 ? packet_size : SIZE_MAX; }

  /// What must be left of the slab from a packet's offset on.
  [[nodiscard]] size_t RoomForOne() const { return packet_size != 0 ? kBatchTail : kPackedRoom; }

  /// Whether packet `index` lies inside the slab: JavaScript can write what it likes into offsets and
  /// lengths.
  [[nodiscard]] bool Holds(uint32_t index) const {
    return offsets[index] <= slab_bytes && lengths[index] <= slab_bytes - offsets[index];
  }
};

/// Lends the bytes before a packet to a system call that has the virtio header there, and puts back what was
/// in them: a neighbouring packet, or the columns before the slab. One contiguous buffer costs the kernel a
/// tenth less than two (160 ns of a read).
class Headroom {
 public:
  Headroom(uint8_t* packet, size_t size) : at_(packet - size), size_(size) {
    std::memcpy(saved_, at_, size_);
  }
  Headroom(const Headroom&) = delete;
  Headroom& operator=(const Headroom&) = delete;
  ~Headroom() { std::memcpy(at_, saved_, size_); }

  [[nodiscard]] uint8_t* data() const { return at_; }

 private:
  uint8_t* at_;
  size_t size_;
  uint8_t saved_[kMaxVirtioHeader];
};

/// What a batch is told of an error that was met behind `count` packets: their number, and the error goes
/// into `behind`, since it may not show twice. One that was met at once is the result.
inline SysResult EndOfBatch(uint32_t count, SysResult error, SysResult* behind) {
  if (count == 0) return error;
  if (error != -EAGAIN) *behind = error;
  return count;
}

/// Receives packets one by one with `receive(slot, room, index)`, which returns a true length or a negative
/// errno, until the batch or its slab is full or there is an error. Bounded by the batch's capacity.
template <typename ReceiveOne>
SysResult FillBatch(const Batch& batch, SysResult* behind, ReceiveOne receive) {
  uint32_t count = 0;
  for (; count < batch.capacity; ++count) {
    const size_t offset = batch.SlotOffset(count);
    if (batch.slab_bytes < offset + batch.RoomForOne()) break;
    const size_t room = batch.slab_bytes - offset;
    const SysResult result = receive(batch.slab + offset, room, count);
    if (result < 0) return EndOfBatch(count, result, behind);
    const auto size = static_cast<size_t>(result);
    const size_t length = std::min({size, room, batch.SlotLength()});
    batch.offsets[count] = static_cast<uint32_t>(offset);
    batch.lengths[count] = static_cast<uint32_t>(length);
    batch.sizes[count] = static_cast<uint32_t>(size);
  }
  return count;
}

/// Sends packets `start` to `end` - 1 with `send(packet, length, index)` until one fails.
template <typename SendOne>
SysResult DrainBatch(const Batch& batch, uint32_t start, uint32_t end, SendOne send) {
  for (uint32_t index = start; index < end; ++index) {
    const SysResult result =
        batch.Holds(index) ? send(batch.slab + batch.offsets[index], batch.lengths[index], index) : -EINVAL;
    if (result < 0) return index != start ? static_cast<SysResult>(index - start) : result;
  }
  return end - start;
}

}  // namespace tunsock
