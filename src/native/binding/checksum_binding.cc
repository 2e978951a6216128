#include "binding/checksum_binding.h"

#include <arpa/inet.h>

#include "binding/args.h"
#include "core/offload/checksum.h"

namespace tunsock {
namespace {

/// internetSum(bytes, sum): the folded one's complement sum of `bytes` and a sum of before, both as numbers
/// in host order. Anything but a Uint8Array sums up to nothing.
Napi::Value InternetSumOf(const Napi::CallbackInfo& info) {
  void* data = nullptr;
  size_t size = 0;
  napi_typedarray_type type = napi_int8_array;
  if (napi_get_typedarray_info(info.Env(), info[0], &type, &size, &data, nullptr, nullptr) != napi_ok ||
      type != napi_uint8_array || data == nullptr) {
    size = 0;
  }
  const uint64_t before = SumOfWord(static_cast<uint16_t>(UintArg(info, 1)));
  const uint64_t sum = InternetSum(static_cast<const uint8_t*>(data), size, before);
  return ResultValue(info.Env(), ntohs(FoldSum(sum)));
}

}  // namespace

void RegisterChecksumBinding(Napi::Env env, Napi::Object exports) {
  exports.Set("internetSum", Napi::Function::New<InternetSumOf>(env, "internetSum"));
}

}  // namespace tunsock
