#include "core/host/descriptor_channel.h"

#include <fcntl.h>

#include <array>
#include <cstring>
#include <utility>

#include "core/host/control_message.h"
#include "core/host/unix_address.h"
#include "core/sys/socket_option.h"

namespace tunsock {
namespace {

constexpr int kType = SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC;

/// Connections that wait to be accepted; the kernel has its own bound too (net.core.somaxconn).
constexpr int kBacklog = 128;

/// All that a message can have: the most descriptors, credentials, a pidfd, and a security label where
/// another program has asked for one.
constexpr size_t kMaxControl = CMSG_SPACE(DescriptorChannel::kMaxDescriptors * sizeof(int)) +
                               CMSG_SPACE(sizeof(ucred)) + CMSG_SPACE(sizeof(int)) + CMSG_SPACE(1024);

Failure OpenUnix(UniqueFd* fd) {
  const SysResult result = CallOnce([] { return ::socket(AF_UNIX, kType, 0); });
  if (result < 0) return {result, "socket"};
  fd->reset(static_cast<int>(result));
  return {};
}

}  // namespace

Failure DescriptorChannel::Prepare(int fd) {
  return {SetSocketOption(fd, SOL_SOCKET, SO_PASSCRED, 1), "setsockopt"};
}

Failure DescriptorChannel::Connect(const std::string& path, DescriptorChannel* channel) {
  UnixAddress address;
  if (!address.Set(path)) return {-ENAMETOOLONG, "connect"};
  UniqueFd fd;
  Failure failure = OpenUnix(&fd);
  if (failure.error < 0) return failure;
  failure = Prepare(fd.get());
  if (failure.error < 0) return failure;
  failure = {CallOnce([&] { return ::connect(fd.get(), address.get(), address.size); }), "connect"};
  if (failure.error < 0) return failure;
  channel->fd_ = std::move(fd);
  return {};
}

Failure DescriptorChannel::Listen(const std::string& path, DescriptorChannel* channel) {
  UnixAddress address;
  if (!address.Set(path)) return {-ENAMETOOLONG, "bind"};
  UniqueFd fd;
  Failure failure = OpenUnix(&fd);
  if (failure.error < 0) return failure;
  failure = {CallOnce([&] { return ::bind(fd.get(), address.get(), address.size); }), "bind"};
  if (failure.error < 0) return failure;
  failure = {CallOnce([&] { return ::listen(fd.get(), kBacklog); }), "listen"};
  if (failure.error < 0) return failure;
  channel->fd_ = std::move(fd);
  return {};
}

Failure DescriptorChannel::Pair(DescriptorChannel* one, DescriptorChannel* other) {
  int fds[2] = {-1, -1};
  const SysResult result = CallOnce([&] { return ::socketpair(AF_UNIX, kType, 0, fds); });
  if (result < 0) return {result, "socketpair"};
  UniqueFd ends[2] = {UniqueFd(fds[0]), UniqueFd(fds[1])};
  for (const UniqueFd& end : ends) {
    const Failure failure = Prepare(end.get());
    if (failure.error < 0) return failure;
  }
  one->fd_ = std::move(ends[0]);
  other->fd_ = std::move(ends[1]);
  return {};
}

Failure DescriptorChannel::Adopt(int fd, DescriptorChannel* channel) {
  const SysResult domain = GetSocketOption(fd, SOL_SOCKET, SO_DOMAIN);
  if (domain < 0) return {domain, "getsockopt"};
  const SysResult type = GetSocketOption(fd, SOL_SOCKET, SO_TYPE);
  if (domain != AF_UNIX || type != SOCK_SEQPACKET) return {-EPROTOTYPE, "getsockopt"};
  sockaddr_storage peer{};
  socklen_t size = sizeof peer;
  const SysResult connected =
      CallOnce([&] { return ::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size); });
  if (connected < 0) return {connected, "getpeername"};
  const Failure failure = Prepare(fd);
  if (failure.error < 0) return failure;
  const SysResult closing = SetCloseOnExec(fd);
  if (closing < 0) return {closing, "fcntl"};
  channel->fd_.reset(fd);
  return {};
}

Failure DescriptorChannel::Accept(DescriptorChannel* channel) {
  const SysResult result =
      RetryOnSignal([&] { return ::accept4(fd_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC); });
  if (result < 0) return {result, "accept"};
  UniqueFd accepted(static_cast<int>(result));
  const Failure failure = Prepare(accepted.get());
  if (failure.error < 0) return failure;
  channel->fd_ = std::move(accepted);
  return {};
}

SysResult DescriptorChannel::Send(const uint8_t* data, size_t size, const int* descriptors, size_t count) {
  if (count > kMaxDescriptors) return -EINVAL;
  iovec part{const_cast<uint8_t*>(data), size};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  alignas(cmsghdr) std::array<uint8_t, CMSG_SPACE(kMaxDescriptors * sizeof(int))> control{};
  if (count > 0) {
    cmsghdr header{};
    header.cmsg_level = SOL_SOCKET;
    header.cmsg_type = SCM_RIGHTS;
    header.cmsg_len = CMSG_LEN(count * sizeof(int));
    std::memcpy(control.data(), &header, sizeof header);
    std::memcpy(control.data() + CMSG_LEN(0), descriptors, count * sizeof(int));
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(count * sizeof(int));
  }
  return RetryOnSignal([&] { return ::sendmsg(fd_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL); });
}

SysResult DescriptorChannel::Receive(uint8_t* memory, size_t capacity, ChannelMessage* message) {
  iovec part{memory, capacity};
  alignas(cmsghdr) std::array<uint8_t, kMaxControl> control;
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  const SysResult size =
      RetryOnSignal([&] { return ::recvmsg(fd_.get(), &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC); });
  if (size < 0) return size;
  const ControlInfo info = ParseControl({control.data(), header.msg_controllen});
  // First of all each has an owner, whatever becomes of the message.
  std::vector<UniqueFd> descriptors;
  for (const int fd : info.descriptors) descriptors.emplace_back(fd);
  for (const int fd : info.added) UniqueFd(fd).reset();
  if ((header.msg_flags & MSG_CTRUNC) != 0) return -EMFILE;
  if ((header.msg_flags & MSG_TRUNC) != 0) return -EMSGSIZE;
  message->size = static_cast<size_t>(size);
  message->ended = size == 0 && !info.credentials && descriptors.empty();
  message->descriptors = std::move(descriptors);
  return size;
}

SysResult DescriptorChannel::Credentials(ucred* credentials) const {
  socklen_t size = sizeof *credentials;
  return CallOnce([&] { return ::getsockopt(fd_.get(), SOL_SOCKET, SO_PEERCRED, credentials, &size); });
}

SysResult SetCloseOnExec(int fd) {
  return CallOnce([&] { return ::fcntl(fd, F_SETFD, FD_CLOEXEC); });
}

}  // namespace tunsock
