#pragma once

#include <linux/if_packet.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>

#include "core/io/packet_messages.h"

namespace tunsock {

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
  sockaddr_ll senders_[kPackets];
  ControlRoom rooms_[kPackets];
};

}  // namespace tunsock
