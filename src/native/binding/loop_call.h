#pragma once

#include <napi.h>

namespace tunsock {

/// Calls a function as the event loop does: next ticks and microtasks run after it, and what it throws is
/// uncaught.
inline void CallFromLoop(napi_env env, napi_async_context context, napi_value self, napi_value function,
                         size_t count, const napi_value* arguments) {
  napi_value result = nullptr;
  const napi_status status = napi_make_callback(env, context, self, function, count, arguments, &result);
  if (status != napi_pending_exception) return;
  napi_value error = nullptr;
  if (napi_get_and_clear_last_exception(env, &error) == napi_ok) napi_fatal_exception(env, error);
}

}  // namespace tunsock
