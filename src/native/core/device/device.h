#pragma once

#include <string>

#include "core/sys/sys_result.h"

namespace tunsock {

/// A descriptor that moves the packets of an interface, and what can be asked of it besides.
class Device {
 public:
  Device() = default;
  Device(Device&&) = default;
  Device& operator=(Device&&) = default;
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  virtual ~Device() = default;

  /// -1 once released or closed.
  [[nodiscard]] virtual int fd() const = 0;

  /// Makes a request that takes or gives an int, by its name ("TUNSETPERSIST", "SO_RCVBUF"). Returns 0, or
  /// for one that gets a value that value; -EINVAL for a name that is none.
  virtual SysResult Control(const std::string& request, int value) = 0;

  /// The interface's name, which another program can change; a negative errno when the interface is gone.
  virtual SysResult Name(std::string* name) const = 0;

  /// The network namespace of the interface, as a descriptor that the caller owns.
  [[nodiscard]] virtual SysResult NetworkNamespace() const = 0;

  /// Gives up the descriptor without closing it.
  virtual int Release() = 0;
};

}  // namespace tunsock
