#pragma once

#include <string>

#include "core/io/tun_io.h"
#include "core/sys/failure.h"
#include "core/sys/sys_result.h"
#include "core/sys/unique_fd.h"

namespace tunsock {

/// A descriptor of /dev/net/tun that is attached to a device: the ioctls of drivers/net/tun.c.
class TunDevice {
 public:
  /// Opens `path` and attaches to the device that `name` and `flags` (IFF_TUN, IFF_TAP, IFF_NO_PI, ...) name,
  /// in the calling thread's network namespace. `name` may hold one %d. Changes `device` only when all went
  /// well.
  static Failure Open(const char* path, const std::string& name, uint16_t flags, TunDevice* device);

  /// Tells the interface of a descriptor that something else opened, and its network namespace where that can be had:
  /// -ENOTSOCK for what is no tun descriptor, -EBADFD for one that is not attached.
  static Failure Inspect(int fd, std::string* name, UniqueFd* netns);

  /// Takes over a descriptor that Inspect found good, and makes it O_NONBLOCK; leaves it with the caller when it fails.
  /// `packet_info` is what rtnetlink says (IFLA_TUN_PI).
  static Failure Adopt(int fd, bool packet_info, TunDevice* device);

  /// Makes one of the ioctls that take or give an int, by its name ("TUNSETPERSIST"). Returns 0, or for one
  /// that gets a value that value; -EINVAL for a name that is none.
  SysResult Control(const std::string& request, int value);

  /// Detaches this queue, or attaches it again (IFF_DETACH_QUEUE, IFF_ATTACH_QUEUE).
  SysResult SetQueue(bool attached);

  /// The interface's name, which another program can change; -EBADFD when the device is gone.
  SysResult Name(std::string* name) const;

  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] const TunFraming& framing() const { return framing_; }

 private:
  Failure ReadFraming(bool packet_info);

  UniqueFd fd_;
  TunFraming framing_;
};

}  // namespace tunsock
