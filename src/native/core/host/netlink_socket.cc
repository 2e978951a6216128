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
  // The kernel has worked on the request by the time that sendto returns, so its answer is queued: this never
  // waits.
  do {
    sockaddr_nl sender{};
    socklen_t sender_size = sizeof sender;
    result = RetryOnSignal([&] {
      return ::recvfrom(fd_.get(), buffer_.get(), kBufferSize, MSG_TRUNC,
                        reinterpret_cast<sockaddr*>(&sender), &sender_size);
    });
    if (result < 0) return result;
    if (static_cast<size_t>(result) > kBufferSize) return -EMSGSIZE;
    // Only the kernel is believed: a process with CAP_NET_ADMIN may send here too.
    result = sender.nl_pid == 0 ? answer.Take({buffer_.get(), static_cast<size_t>(result)}, mark) : 0;
    if (std::exchange(has_messages, false)) ++datagrams_;
  } while (result == 0);
  kernel_text_ = answer.kernel_text();
  if (result < 0) return result;
  return answer.interrupted() ? -EINTR : 0;
}

}  // namespace tunsock
