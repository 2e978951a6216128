#include "core/host/netns.h"

#include <fcntl.h>
#include <linux/nsfs.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <utility>

#include "core/host/rtnetlink.h"

namespace tunsock {
namespace {

/// Loopback is the first interface of every namespace (LOOPBACK_IFINDEX in include/net/flow.h).
constexpr uint32_t kLoopbackIndex = 1;

struct Creation {
  bool loopback = false;
  UniqueFd netns;
  Failure failure;
};

/// Runs on a thread of its own, which leaves with its move.
void* Create(void* argument) {
  auto* creation = static_cast<Creation*>(argument);
  const SysResult unshared = CallOnce([] { return ::unshare(CLONE_NEWNET); });
  if (unshared < 0) {
    creation->failure = {unshared, "unshare"};
    return nullptr;
  }
  creation->failure = OpenThreadNetns(&creation->netns);
  if (creation->failure.error == 0 && creation->loopback) {
    LinkSettings settings;
    settings.up = true;
    const SysResult result = Rtnetlink().ChangeLink(kLoopbackIndex, settings);
    if (result < 0) creation->failure = {result, "RTM_SETLINK"};
  }
  return nullptr;
}

}  // namespace

Failure CreateNetns(bool loopback, UniqueFd* netns) {
  Creation creation;
  creation.loopback = loopback;
  // Not std::thread, which has no way but an exception to say that there are too many threads.
  pthread_t thread;
  const int error = ::pthread_create(&thread, nullptr, Create, &creation);
  if (error != 0) return {-error, "pthread_create"};
  ::pthread_join(thread, nullptr);
  if (creation.failure.error == 0) *netns = std::move(creation.netns);
  return creation.failure;
}

Failure OpenNetns(const char* path, UniqueFd* netns) {
  // O_NONBLOCK: a FIFO given by mistake must not wait for its other end.
  const SysResult fd = RetryOnSignal([&] { return ::open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC); });
  if (fd < 0) return {fd, "open"};
  UniqueFd opened(static_cast<int>(fd));
  if (::ioctl(opened.get(), NS_GET_NSTYPE) != CLONE_NEWNET) return {-EINVAL, "NS_GET_NSTYPE"};
  *netns = std::move(opened);
  return {};
}

Failure OpenThreadNetns(UniqueFd* netns) {
  return OpenNetns("/proc/thread-self/ns/net", netns);
}

SysResult NetnsInode(int fd) {
  struct stat status {};
  const SysResult result = CallOnce([&] { return ::fstat(fd, &status); });
  return result < 0 ? result : static_cast<SysResult>(status.st_ino);
}

SysResult EnterNetns(int fd) {
  return CallOnce([&] { return ::setns(fd, CLONE_NEWNET); });
}

Failure NetnsScope::Enter(int fd) {
  const Failure failure = OpenThreadNetns(&previous_);
  if (failure.error != 0) return failure;
  return {EnterNetns(fd), "setns"};
}

SysResult NetnsScope::Leave() {
  return EnterNetns(previous_.get());
}

}  // namespace tunsock
