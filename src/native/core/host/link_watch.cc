#include "core/host/link_watch.h"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>

#include <cstddef>
#include <cstring>

namespace tunsock {
namespace {

/// Reads of one Drain: more than the default receive buffer holds.
constexpr int kMaxReads = 1024;

struct LinkRequest {
  nlmsghdr header;
  ifinfomsg link;
};

/// Lets through RTM_NEWLINK and RTM_DELLINK of one interface, and every other kind (errors). BPF loads are
/// big-endian and netlink is in host order, so the constants are turned.
SysResult AttachFilter(int fd, uint32_t index) {
  const auto load_half = [](size_t at) {
    return sock_filter(BPF_STMT(BPF_LD | BPF_H | BPF_ABS, static_cast<uint32_t>(at)));
  };
  const auto load_word = [](size_t at) {
    return sock_filter(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<uint32_t>(at)));
  };
  sock_filter code[] = {
      load_half(offsetof(nlmsghdr, nlmsg_type)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(RTM_NEWLINK), 1, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(RTM_DELLINK), 0, 2),
      load_word(offsetof(LinkRequest, link) + offsetof(ifinfomsg, ifi_index)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htonl(index), 0, 1),
      BPF_STMT(BPF_RET | BPF_K, 0xffffffff),
      BPF_STMT(BPF_RET | BPF_K, 0),
  };
  const sock_fprog program{static_cast<unsigned short>(sizeof code / sizeof code[0]), code};
  return CallOnce([&] { return ::setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program); });
}

}  // namespace

SysResult LinkWatch::Open(uint32_t index, LinkWatch* watch) {
  LinkWatch opened;
  opened.index_ = index;
  const SysResult fd =
      CallOnce([] { return ::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE); });
  if (fd < 0) return fd;
  opened.fd_.reset(static_cast<int>(fd));
  SysResult result = AttachFilter(opened.fd(), index);
  if (result < 0) return result;
  // Lost messages must not show as an error: it would be POLLERR, at which libuv stops its poll handle. Drain
  // does not depend on having them all.
  const int on = 1;
  result =
      CallOnce([&] { return ::setsockopt(opened.fd(), SOL_NETLINK, NETLINK_NO_ENOBUFS, &on, sizeof on); });
  if (result < 0) return result;
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = RTMGRP_LINK;
  result = CallOnce(
      [&] { return ::bind(opened.fd(), reinterpret_cast<const sockaddr*>(&address), sizeof address); });
  if (result < 0) return result;
  // The state to begin with: only changes from it are news.
  result = opened.Drain();
  if (result < 0) return result;
  *watch = std::move(opened);
  return 0;
}

SysResult LinkWatch::Ask() const {
  LinkRequest request{};
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = RTM_GETLINK;
  request.header.nlmsg_flags = NLM_F_REQUEST;
  request.link.ifi_family = AF_UNSPEC;
  request.link.ifi_index = static_cast<int>(index_);
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  return RetryOnSignal([&] {
    return ::sendto(fd(), &request, sizeof request, 0, reinterpret_cast<const sockaddr*>(&kernel),
                    sizeof kernel);
  });
}

SysResult LinkWatch::Drain() {
  const LinkState before = state_;
  // When the queue overflowed its last messages are missing, and an answer would not have fitted: so it is
  // emptied first, and then the interface is asked for. The kernel has queued the answer when Ask returns.
  SysResult result = ReadQueue();
  if (result >= 0) result = Ask();
  if (result >= 0) result = ReadQueue();
  if (result < 0) return result;
  return before.up != state_.up || before.present != state_.present ? 1 : 0;
}

SysResult LinkWatch::ReadQueue() {
  alignas(nlmsghdr) uint8_t buffer[16384];
  for (int reads = 0; reads < kMaxReads; ++reads) {
    // A message that is longer than the buffer still starts with all that is read here.
    sockaddr_nl sender{};
    socklen_t size = sizeof sender;
    const SysResult result = RetryOnSignal([&] {
      return ::recvfrom(fd(), buffer, sizeof buffer, MSG_DONTWAIT, reinterpret_cast<sockaddr*>(&sender),
                        &size);
    });
    if (result == -EAGAIN) break;
    if (result < 0) return result;
    // Only the kernel is believed: a process with CAP_NET_ADMIN may send here too.
    if (sender.nl_pid == 0) Take(buffer, static_cast<size_t>(result));
  }
  return 0;
}

void LinkWatch::Take(const uint8_t* bytes, size_t length) {
  nlmsghdr header;
  if (length < sizeof header) return;
  std::memcpy(&header, bytes, sizeof header);
  if (header.nlmsg_type == NLMSG_ERROR) {  // the answer to Ask
    int error = 0;
    if (length < sizeof header + sizeof error) return;
    std::memcpy(&error, bytes + sizeof header, sizeof error);
    if (error == -ENODEV) state_ = {};
    return;
  }
  LinkRequest message;
  if (length < sizeof message) return;
  std::memcpy(&message, bytes, sizeof message);
  if (static_cast<uint32_t>(message.link.ifi_index) != index_) return;
  // A bridge port that leaves its bridge is told as RTM_DELLINK too, of the bridge's family: it is still
  // there.
  if (header.nlmsg_type == RTM_DELLINK) {
    if (message.link.ifi_family == AF_UNSPEC) state_ = {};
  } else if (header.nlmsg_type == RTM_NEWLINK) {
    state_.present = true;
    state_.up = (message.link.ifi_flags & IFF_UP) != 0;
  }
}

}  // namespace tunsock
