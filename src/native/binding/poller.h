#pragma once

#include <napi.h>
#include <uv.h>

#include "core/sys/sys_result.h"

namespace tunsock {

/// Whose event loop napi_get_uv_event_loop gives, one for a process. As src/ts/native.ts has them.
enum class Runtime : int {
  kNode = 0,
  /// Stops a watch after each event: it has to be started again.
  kDeno = 1,
  /// Has no uv_poll_t, and ends the process when one is made.
  kBun = 2,
};

/// setRuntime(runtime).
void RegisterPoller(Napi::Env env, Napi::Object exports);

/// Watches one descriptor from the event loop of one environment (never the default loop, never the thread
/// pool). Owned by whoever owns the descriptor, which must outlive it: close the poller before its
/// descriptor.
class Poller {
 public:
  /// `status` is 0 or a negative errno, after which the watch has stopped; `events` are UV_READABLE and
  /// UV_WRITABLE.
  using Callback = void (*)(void* context, int status, int events);

  Poller() = default;
  Poller(const Poller&) = delete;
  Poller& operator=(const Poller&) = delete;
  ~Poller() { Close(); }

  /// Whether the loop could watch `fd`, which stays as it is: -EEXIST where something of this loop does so
  /// already.
  static SysResult Probe(napi_env env, int fd);

  /// Watches for `events`; 0 stops, and leaves the handle ready to start again. -ENOSYS where the loop can't
  /// watch.
  SysResult Start(napi_env env, int fd, int events, Callback callback, void* context);

  /// Whether the watch keeps the process alive.
  void SetRef(bool ref);

  /// Gives the handle back to the loop. The descriptor may be closed right after. Can be called at any time,
  /// twice too.
  void Close();

  [[nodiscard]] int events() const { return events_; }

 private:
  struct Handle;
  SysResult Open(napi_env env, int fd, Callback callback, void* context);

  Handle* handle_ = nullptr;
  int events_ = 0;
  bool ref_ = true;
};

}  // namespace tunsock
