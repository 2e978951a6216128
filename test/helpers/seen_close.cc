// For the thread sanitizer: libuv closes descriptors by syscall(2), which the sanitizer does not look into; it would take a number that is given
// out again for one that two threads share. Here such a call is one of close(2), which it knows.
#include <dlfcn.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdarg>

extern "C" long syscall(long number, ...) {
  va_list list;
  va_start(list, number);
  long args[6];
  for (long& arg : args) arg = va_arg(list, long);
  va_end(list);
  if (number == SYS_close) return close(static_cast<int>(args[0]));
  static auto* const next = reinterpret_cast<decltype(&syscall)>(dlsym(RTLD_NEXT, "syscall"));
  return next(number, args[0], args[1], args[2], args[3], args[4], args[5]);
}
