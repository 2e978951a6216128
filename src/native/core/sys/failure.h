#pragma once

#include "core/sys/sys_result.h"

namespace tunsock {

/// The system call that failed in a step of several: a negative errno, and its name; `error` 0 is success.
struct Failure {
  SysResult error = 0;
  const char* syscall = "";
};

}  // namespace tunsock
