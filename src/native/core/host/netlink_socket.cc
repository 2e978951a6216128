#include "core/host/netlink_socket.h"

#include <linux/netlink.h>
#include <sys/socket.h>

#include <utility>
#include <vector>

namespace tunsock {
namespace {

/// The kernel makes dump datagrams of at most 32 KiB (netlink_dump() in net/netlink/af_netlink.c).
constexpr size_t kBufferSize = 65536;

void SetOption(int fd, int option) {
  const int on = 1;
  // Older kernels lack one or the other: then errors are told by their number alone, and lists are longer
  // than what was asked for.
  (void)::setsockopt(fd, SOL_NETLINK, option, &on, sizeof on);
}

}  // namespace

SysResult NetlinkSocket::Open(NetlinkSocket* socket) {
  const SysResult fd = CallOnce([] { return ::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE); });
  if (fd < 0) return fd;
  NetlinkSocket opened;
  opened.fd_.reset(static_cast<int>(fd));
  SetOption(opened.fd_.get(), NETLINK_EXT_ACK);
  SetOption(opened.fd_.get(), NETLINK_CAP_ACK);
  // Lists then hold what the request asks for, an interface's addresses for one, and not the whole host's.
  SetOption(opened.fd_.get(), NETLINK_GET_STRICT_CHK);
  // Unbound it would have the kernel's own number, 0, and not hear what the kernel multicasts.
  sockaddr_nl own{};
  own.nl_family = AF_NETLINK;
  const SysResult bound =
      CallOnce([&] { return ::bind(opened.fd(), reinterpret_cast<const sockaddr*>(&own), sizeof own); });
  if (bound < 0) return bound;
  opened.buffer_.reset(new uint8_t[kBufferSize]);
  *socket = std::move(opened);
  return 0;
}

SysResult NetlinkSocket::Request(NetlinkMessage* message, const Visitor& visit) {
  const std::vector<uint8_t>& request = message->Finish(++sequence_);
  NetlinkAnswer answer(sequence_);
  kernel_text_.clear();
  datagrams_ = 0;
  bool has_messages = false;
  const Visitor mark = [&](uint16_t type, Bytes payload) {
    has_messages = true;
    visit(type, payload);
  };
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  SysResult result = RetryOnSignal([&] {
    return ::sendto(fd_.get(), request.data(), request.size(), 0, reinterpret_cast<const sockaddr*>(&kernel),
                    sizeof kernel);
  });
  if (result < 0) return result;
  // The kernel has worked on the request by the time that sendto returns, and has the next part of a list
  // ready by the time that recvfrom returns the one before (netlink_recvmsg() in net/netlink/af_netlink.c).
  // Where nothing is queued the end of the answer can't have been read, and would be waited for without end.
  do {
    Bytes datagram;
    result = Receive(MSG_DONTWAIT, &datagram);
    if (result == -EAGAIN) return -EBADMSG;
    if (result < 0) return result;
    result = answer.Take(datagram, mark);
    if (std::exchange(has_messages, false)) ++datagrams_;
  } while (result == 0);
  kernel_text_ = answer.kernel_text();
  if (result < 0) return result;
  return answer.interrupted() ? -EINTR : 0;
}

SysResult NetlinkSocket::SetMembership(int group, bool member) {
  const int option = member ? NETLINK_ADD_MEMBERSHIP : NETLINK_DROP_MEMBERSHIP;
  return CallOnce([&] { return ::setsockopt(fd_.get(), SOL_NETLINK, option, &group, sizeof group); });
}

SysResult NetlinkSocket::Hear(const Visitor& visit) {
  Bytes datagram;
  SysResult result = Receive(MSG_DONTWAIT, &datagram);
  nlmsghdr header;
  Bytes payload;
  while (result >= 0 && (result = NextMessage(&datagram, &header, &payload)) > 0) {
    if (header.nlmsg_type >= NLMSG_MIN_TYPE) visit(header.nlmsg_type, payload);
  }
  return result;
}

SysResult NetlinkSocket::Receive(int flags, Bytes* datagram) {
  sockaddr_nl sender{};
  socklen_t sender_size = sizeof sender;
  const SysResult result = RetryOnSignal([&] {
    return ::recvfrom(fd_.get(), buffer_.get(), kBufferSize, flags | MSG_TRUNC,
                      reinterpret_cast<sockaddr*>(&sender), &sender_size);
  });
  if (result < 0) return result;
  if (static_cast<size_t>(result) > kBufferSize) return -EMSGSIZE;
  // Only the kernel is believed: a process with CAP_NET_ADMIN may send here too.
  *datagram = sender.nl_pid == 0 ? Bytes{buffer_.get(), static_cast<size_t>(result)} : Bytes{};
  return 0;
}

}  // namespace tunsock
