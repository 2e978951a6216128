#pragma once

#include <napi.h>

#include <cstdint>
#include <string>

#include "core/sys/failure.h"

namespace tunsock {

/// Readers for arguments that TypeScript has validated. A wrong type here is a bug of ours, not the user's:
/// it reads as zero or as an empty string, and never as memory.

inline int32_t IntArg(const Napi::CallbackInfo& info, size_t index) {
  int32_t value = 0;
  napi_get_value_int32(info.Env(), info[index], &value);
  return value;
}

inline uint32_t UintArg(const Napi::CallbackInfo& info, size_t index) {
  uint32_t value = 0;
  napi_get_value_uint32(info.Env(), info[index], &value);
  return value;
}

inline std::string StringArg(const Napi::CallbackInfo& info, size_t index) {
  return info[index].IsString() ? info[index].As<Napi::String>().Utf8Value() : std::string();
}

/// A count or a negative errno, as the number that JavaScript sees.
inline Napi::Value ResultValue(Napi::Env env, ssize_t result) {
  return Napi::Number::New(env, static_cast<double>(result));
}

/// { error, syscall }: what TypeScript makes an error of, for a call that does several steps.
inline Napi::Value FailureValue(Napi::Env env, const Failure& failure) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("error", ResultValue(env, failure.error));
  object.Set("syscall", failure.syscall);
  return object;
}

}  // namespace tunsock
