#include "binding/memory_args.h"

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
  // First the case that is to be fast.
  views->count = 1;
  if (ReadView(env, value, &views->entries[0])) return 0;
  uint32_t length = 0;
  if (napi_get_array_length(env, value, &length) != napi_ok) return -EINVAL;
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

bool ReadBatch(napi_env env, const napi_value* arguments, Batch* batch) {
  void* data = nullptr;
  size_t bytes = 0;
  uint32_t capacity = 0;
  uint32_t packet_size = 0;
  return napi_get_arraybuffer_info(env, arguments[0], &data, &bytes) == napi_ok &&
         napi_get_value_uint32(env, arguments[1], &capacity) == napi_ok &&
         napi_get_value_uint32(env, arguments[2], &packet_size) == napi_ok &&
         batch->Map(static_cast<uint8_t*>(data), bytes, capacity, packet_size);
}

void* FixedArray(napi_env env, napi_value value, napi_typedarray_type wanted, size_t elements) {
  void* data = nullptr;
  size_t length = 0;
  napi_typedarray_type type = napi_uint8_array;
  const napi_status status = napi_get_typedarray_info(env, value, &type, &length, &data, nullptr, nullptr);
  return status == napi_ok && type == wanted && length >= elements ? data : nullptr;
}

}  // namespace tunsock
