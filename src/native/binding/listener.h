#pragma once

#include <napi.h>

#include "core/io/batch.h"
#include "core/sys/sys_result.h"

namespace tunsock {

/// Who hears what the loop has to say: a function onEvent(kind, value) of JavaScript, and the memory of the
/// packed batch that packets are in by then. Both are referred to weakly until Pin(), since their owner
/// keeps them alive otherwise.
class Listener {
 public:
  void Set(const Napi::Function& on_event, const Napi::ArrayBuffer& inbox, uint32_t capacity);

  /// Keeps both alive, or no longer.
  void Pin();
  void Unpin();

  /// Packets that the inbox has room for.
  [[nodiscard]] uint32_t capacity() const { return capacity_; }

  /// The inbox, empty; false when its memory was transferred away.
  bool MapInbox(Napi::Env env, Batch* inbox) const;

  /// Calls onEvent as the loop does: next ticks and microtasks run after it, and what it throws is uncaught.
  void Call(Napi::Env env, napi_value self, int kind, SysResult value) const;

  /// Before it is destroyed, if it was set.
  void Close(Napi::Env env);

 private:
  napi_async_context async_context_ = nullptr;
  Napi::FunctionReference on_event_;
  Napi::Reference<Napi::ArrayBuffer> inbox_;
  uint32_t capacity_ = 0;
};

}  // namespace tunsock
