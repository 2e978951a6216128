#include "binding/listener.h"

#include <utility>

#include "binding/args.h"
#include "binding/loop_call.h"

namespace tunsock {

void Listener::Set(const Napi::Function& on_event, const Napi::ArrayBuffer& inbox, uint32_t capacity) {
  const Napi::Env env = on_event.Env();
  if (async_context_ == nullptr) {
    napi_async_init(env, nullptr, Napi::String::New(env, "TUNSOCK"), &async_context_);
  }
  on_event_ = Napi::Weak(on_event);
  inbox_ = Napi::Reference<Napi::ArrayBuffer>::New(inbox, 0);
  capacity_ = capacity;
}

void Listener::Pin() {
  on_event_.Ref();
  inbox_.Ref();
}

void Listener::Unpin() {
  on_event_.Unref();
  inbox_.Unref();
}

bool Listener::MapInbox(Napi::Env env, Batch* inbox) const {
  void* data = nullptr;
  size_t bytes = 0;
  napi_get_arraybuffer_info(env, inbox_.Value(), &data, &bytes);
  return inbox->Map(static_cast<uint8_t*>(data), bytes, capacity_, 0);
}

void Listener::Call(Napi::Env env, napi_value self, int kind, SysResult value) const {
  const napi_value arguments[] = {ResultValue(env, kind), ResultValue(env, value)};
  CallFromLoop(env, async_context_, self, on_event_.Value(), 2, arguments);
}

void Listener::Close(Napi::Env env) {
  if (async_context_ != nullptr) napi_async_destroy(env, std::exchange(async_context_, nullptr));
}

}  // namespace tunsock
