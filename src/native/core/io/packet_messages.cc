#include "core/io/packet_messages.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstring>

// Linux 5.1. The first layouts have a word of the machine, the new ones 64 bits everywhere.
#ifndef SO_TIMESTAMPNS_NEW
#define SO_TIMESTAMP_OLD SO_TIMESTAMP
#define SO_TIMESTAMPNS_OLD SO_TIMESTAMPNS
#define SO_TIMESTAMPING_OLD SO_TIMESTAMPING
#define SO_TIMESTAMP_NEW 63
#define SO_TIMESTAMPNS_NEW 64
#define SO_TIMESTAMPING_NEW 65
#endif

namespace tunsock {
namespace {

/// Of the three times of SO_TIMESTAMPING: the system's, one that is no more, and the hardware's own.
constexpr size_t kSystemTime = 0;
constexpr size_t kHardwareTime = 2;
constexpr size_t kTimes = 3;

struct Time {
  uint64_t seconds = 0;
  uint64_t fraction = 0;
};

/// Time `index` of a message whose words have the type `Word`.
template <typename Word>
Time TimeAt(const cmsghdr* item, size_t index) {
  Word words[2] = {};
  const size_t at = index * sizeof words;
  if (item->cmsg_len >= CMSG_LEN(at + sizeof words)) std::memcpy(words, CMSG_DATA(item) + at, sizeof words);
  return {static_cast<uint64_t>(words[0]), static_cast<uint64_t>(words[1])};
}

void SetTime(Time time, uint64_t nanoseconds_each, PacketMeta* meta) {
  if (time.seconds == 0 && time.fraction == 0) return;
  meta->timestamp_seconds = time.seconds;
  meta->timestamp_nanoseconds = static_cast<uint32_t>(time.fraction * nanoseconds_each);
}

template <typename Word>
void SetTimes(const cmsghdr* item, PacketMeta* meta) {
  static_assert(kHardwareTime < kTimes);
  SetTime(TimeAt<Word>(item, kSystemTime), 1, meta);
  SetTime(TimeAt<Word>(item, kHardwareTime), 1, meta);
}

void ReadSocketMessage(const cmsghdr* item, PacketMeta* meta) {
  switch (item->cmsg_type) {
    case SO_TIMESTAMPNS_OLD:
      return SetTime(TimeAt<long>(item, 0), 1, meta);
    case SO_TIMESTAMPNS_NEW:
      return SetTime(TimeAt<int64_t>(item, 0), 1, meta);
    case SO_TIMESTAMP_OLD:
      return SetTime(TimeAt<long>(item, 0), 1000, meta);
    case SO_TIMESTAMP_NEW:
      return SetTime(TimeAt<int64_t>(item, 0), 1000, meta);
    case SO_TIMESTAMPING_OLD:
      return SetTimes<long>(item, meta);
    case SO_TIMESTAMPING_NEW:
      return SetTimes<int64_t>(item, meta);
    default:
      return;
  }
}

}  // namespace

void ReadPacketMeta(msghdr* header, PacketMeta* meta, uint32_t* protocol) {
  // From the interface on, PacketMeta is as sockaddr_ll is.
  constexpr size_t kFrom = offsetof(sockaddr_ll, sll_ifindex);
  constexpr size_t kName = offsetof(PacketMeta, interface_index);
  constexpr size_t kRest = offsetof(PacketMeta, status);
  static_assert(offsetof(PacketMeta, address) - kName == offsetof(sockaddr_ll, sll_addr) - kFrom);
  static_assert(kRest - kName == sizeof(sockaddr_ll) - kFrom);
  auto* bytes = reinterpret_cast<uint8_t*>(meta);
  // The error queue's messages have no name.
  if (header->msg_namelen >= sizeof(sockaddr_ll)) {
    const auto* from = static_cast<const uint8_t*>(header->msg_name);
    std::memcpy(bytes + kName, from + kFrom, kRest - kName);
    meta->address_length = std::min<uint8_t>(meta->address_length, sizeof meta->address);
    uint16_t ether_type;
    std::memcpy(&ether_type, from + offsetof(sockaddr_ll, sll_protocol), sizeof ether_type);
    *protocol = ntohs(ether_type);
  } else {
    std::memset(bytes + kName, 0, kRest - kName);
    *protocol = 0;
  }
  std::memset(bytes + kRest, 0, sizeof *meta - kRest);
  for (cmsghdr* item = CMSG_FIRSTHDR(header); item != nullptr; item = CMSG_NXTHDR(header, item)) {
    if (item->cmsg_level == SOL_SOCKET) {
      ReadSocketMessage(item, meta);
    } else if (item->cmsg_level == SOL_PACKET && item->cmsg_type == PACKET_AUXDATA &&
               item->cmsg_len >= CMSG_LEN(sizeof(tpacket_auxdata))) {
      tpacket_auxdata data;
      std::memcpy(&data, CMSG_DATA(item), sizeof data);
      meta->status = data.tp_status;
      meta->vlan_tci = data.tp_vlan_tci;
      meta->vlan_tpid = data.tp_vlan_tpid;
    }
  }
}

}  // namespace tunsock
