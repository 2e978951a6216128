#pragma once

#include <cstdint>
#include <string>

#include "core/sys/failure.h"
#include "core/sys/sys_result.h"
#include "core/sys/unique_fd.h"

namespace tunsock {

/// Makes a network namespace, whose loopback interface is up if `loopback` says so. The calling thread stays
/// where it is. Changes `netns` only when all went well.
Failure CreateNetns(bool loopback, UniqueFd* netns);

/// Opens the namespace that a file stands for (/proc/PID/ns/net, /run/netns/NAME). What is no network
/// namespace is refused with -EINVAL of NS_GET_NSTYPE (ioctl_ns(2)).
Failure OpenNetns(const char* path, UniqueFd* netns);

/// Opens the calling thread's own namespace.
Failure OpenThreadNetns(UniqueFd* netns);

/// Gives a namespace a name, so that it lives on without a descriptor: mounts it on DIRECTORY/NAME, as `ip
/// netns add` does in /run/netns (ip-netns(8)). All of it, or nothing; -EEXIST of `open` where the name is
/// taken.
Failure NameNetns(int fd, const std::string& directory, const std::string& name);

/// Takes the name away; who else refers to the namespace keeps it.
Failure RemoveNetnsName(const std::string& path);

/// The number that tells a namespace from all others that exist at the time, or a negative errno.
SysResult NetnsInode(int fd);

/// Moves the calling thread, for good (setns(2)).
SysResult EnterNetns(int fd);

/// Moves the calling thread to another namespace and back.
class NetnsScope {
 public:
  /// Remembers where the thread is, and moves it. On failure it is where it was.
  Failure Enter(int fd);
  /// Moves it back. After a failure the thread is in a namespace that the program doesn't expect.
  SysResult Leave();

 private:
  UniqueFd previous_;
};

}  // namespace tunsock
