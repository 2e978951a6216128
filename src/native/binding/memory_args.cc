#include "binding/memory_args.h"

#include "binding/args.h"

namespace tunsock {
namespace {

/// One Uint8Array, wherever its memory is: a detached one has length 0.
bool ReadView(napi_env env, napi_value value, iovec* view) {
  napi_typedarray_type type = napi_int8_array;
  const napi_status status =
      napi_get_typedarray_info(env, value, &type, &view->iov_len, &view->iov_base, nullptr, nullptr);
  return status == napi_ok && type == napi_uint8_array;
}

}  // namespace

SysResult ReadViews(napi_env env, napi_value value, Views* views) {
  bool is_array = false;
  napi_is_array(env, value, &is_array);
  if (!is_array) {
    views->count = 1;
    return ReadView(env, value, &views->entries[0]) ? 0 : -EINVAL;
  }
  uint32_t length = 0;
  napi_get_array_length(env, value, &length);
  if (length > static_cast<uint32_t>(kMaxViews)) return -EMSGSIZE;
  views->count = static_cast<int>(length);
  for (uint32_t i = 0; i < length; ++i) {
    napi_value element = nullptr;
    if (napi_get_element(env, value, i, &element) != napi_ok || !ReadView(env, element, &views->entries[i])) {
      return -EINVAL;
    }
  }
  return 0;
}

bool ReadBatch(const Napi::CallbackInfo& info, size_t index, Batch* batch) {
  void* data = nullptr;
  size_t bytes = 0;
  if (napi_get_arraybuffer_info(info.Env(), info[index], &data, &bytes) != napi_ok) return false;
  return batch->Map(static_cast<uint8_t*>(data), bytes, UintArg(info, index + 1), UintArg(info, index + 2));
}

void* FixedArray(const Napi::CallbackInfo& info, size_t index, napi_typedarray_type wanted, size_t elements) {
  void* data = nullptr;
  size_t length = 0;
  napi_typedarray_type type = napi_uint8_array;
  const napi_status status =
      napi_get_typedarray_info(info.Env(), info[index], &type, &length, &data, nullptr, nullptr);
  return status == napi_ok && type == wanted && length >= elements ? data : nullptr;
}

}  // namespace tunsock
