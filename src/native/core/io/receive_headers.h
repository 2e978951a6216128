#pragma once

#include <linux/if_packet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>

namespace tunsock {

/// Room for the address of one packet.
union SocketAddress {
  sockaddr any;
  sockaddr_ll link;
  sockaddr_in v4;
  sockaddr_in6 v6;
};

/// Room for all control data that the kernel may send with one packet: whoever opened the descriptor, or
/// shares it, may have asked for more than we have, and what comes first would push ours out. Times in each
/// form, their hardware's, drops, mark, priority and Wi-Fi; of a packet socket tpacket_auxdata; of a datagram
/// its destination in both forms, traffic class, segment size, and an error with its sender.
struct alignas(cmsghdr) ControlRoom {
  uint8_t bytes[512];
};

/// What a message that is sent has beside the packet: a datagram's control data are its source address, its
/// traffic class and its segment size.
struct SendRoom {
  SocketAddress address;
  struct alignas(cmsghdr) {
    uint8_t bytes[CMSG_SPACE(sizeof(in6_pktinfo)) + 2 * CMSG_SPACE(sizeof(int))];
  } control;
};

/// The headers of a recvmmsg(2). They are laid out once: before each call only what the kernel has
/// overwritten is put back, and where the packets go. That is 1 % of what a packet costs.
class ReceiveHeaders {
 public:
  /// Packets in one recvmmsg(2).
  static constexpr uint32_t kPackets = 64;

  /// `virtio_header`: whether each packet has one.
  explicit ReceiveHeaders(bool virtio_header) {
    for (uint32_t i = 0; i < kPackets; ++i) {
      msghdr& header = headers_[i].msg_hdr;
      header.msg_name = &senders_[i];
      header.msg_iov = views_[i];
      header.msg_iovlen = virtio_header ? 2 : 1;
      header.msg_control = rooms_[i].bytes;
    }
  }
  ReceiveHeaders(const ReceiveHeaders&) = delete;
  ReceiveHeaders& operator=(const ReceiveHeaders&) = delete;
  ~ReceiveHeaders() = default;

  /// Makes header `index` ready; returns its views, which the caller fills: the virtio header's, if there is
  /// one, and the packet's.
  iovec* Prepare(uint32_t index) {
    msghdr& header = headers_[index].msg_hdr;
    header.msg_namelen = sizeof senders_[index];
    header.msg_controllen = sizeof rooms_[index].bytes;
    return views_[index];
  }

  mmsghdr* data() { return headers_; }

 private:
  mmsghdr headers_[kPackets] = {};
  iovec views_[kPackets][2];
  SocketAddress senders_[kPackets];
  ControlRoom rooms_[kPackets];
};

}  // namespace tunsock
