#include "core/host/netns.h"

#include <fcntl.h>
#include <linux/nsfs.h>
#include <pthread.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
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

/// Makes the directory a mount whose changes other mount namespaces see too, so that a name which is removed
/// in one of them is removed in all.
Failure ShareDirectory(const char* directory) {
  if (::mkdir(directory, 0755) < 0 && errno != EEXIST) return {-errno, "mkdir"};
  // Two processes that both find it no mount must not mount it on itself twice.
  const SysResult fd = RetryOnSignal([&] { return ::open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC); });
  if (fd < 0) return {fd, "open"};
  const UniqueFd lock(static_cast<int>(fd));
  const SysResult locked = RetryOnSignal([&] { return ::flock(lock.get(), LOCK_EX); });
  if (locked < 0) return {locked, "flock"};
  const auto share = [&] {
    return CallOnce([&] { return ::mount("", directory, "none", MS_SHARED | MS_REC, nullptr); });
  };
  SysResult result = share();
  if (result == -EINVAL) {  // no mount yet
    result = CallOnce([&] { return ::mount(directory, directory, "none", MS_BIND | MS_REC, nullptr); });
    if (result >= 0) result = share();
  }
  return {result, "mount"};
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

Failure NameNetns(int fd, const std::string& directory, const std::string& name) {
  const Failure shared = ShareDirectory(directory.c_str());
  if (shared.error < 0) return shared;
  const std::string path = directory + '/' + name;
  const SysResult file =
      RetryOnSignal([&] { return ::open(path.c_str(), O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0); });
  if (file < 0) return {file, "open"};
  UniqueFd(static_cast<int>(file)).reset();
  const std::string source = "/proc/self/fd/" + std::to_string(fd);
  const SysResult mounted =
      CallOnce([&] { return ::mount(source.c_str(), path.c_str(), "none", MS_BIND, nullptr); });
  if (mounted < 0) ::unlink(path.c_str());
  return {mounted < 0 ? mounted : 0, "mount"};
}

Failure RemoveNetnsName(const std::string& path) {
  const SysResult unmounted = CallOnce([&] { return ::umount2(path.c_str(), MNT_DETACH); });
  // -EINVAL: a file that nothing is mounted on, as a failure in between leaves it.
  if (unmounted < 0 && unmounted != -EINVAL) return {unmounted, "umount2"};
  return {CallOnce([&] { return ::unlink(path.c_str()); }), "unlink"};
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
