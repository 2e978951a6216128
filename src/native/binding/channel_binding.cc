#include "binding/channel_binding.h"

#include <utility>
#include <vector>

#include "binding/args.h"
#include "binding/loop_call.h"
#include "binding/poller.h"
#include "core/host/descriptor_channel.h"

namespace tunsock {
namespace {

/// A channel and its place in the event loop. It keeps itself, and the process while it is referred, alive
/// while it is watched.
class ChannelHandle : public Napi::ObjectWrap<ChannelHandle> {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(
        env, "ChannelHandle",
        {InstanceMethod<&ChannelHandle::Connect>("connect"), InstanceMethod<&ChannelHandle::Listen>("listen"),
         InstanceMethod<&ChannelHandle::Pair>("pair"), InstanceMethod<&ChannelHandle::Adopt>("adopt"),
         InstanceMethod<&ChannelHandle::Accept>("accept"), InstanceMethod<&ChannelHandle::Fd>("fd"),
         InstanceMethod<&ChannelHandle::Send>("send"), InstanceMethod<&ChannelHandle::Receive>("receive"),
         InstanceMethod<&ChannelHandle::Credentials>("credentials"),
         InstanceMethod<&ChannelHandle::Watch>("watch"), InstanceMethod<&ChannelHandle::SetRef>("setRef"),
         InstanceMethod<&ChannelHandle::Close>("close")});
  }

  explicit ChannelHandle(const Napi::CallbackInfo& info) : Napi::ObjectWrap<ChannelHandle>(info) {}
  ~ChannelHandle() override { CloseAll(); }

 private:
  /// undefined, or { error, syscall }.
  static Napi::Value Outcome(Napi::Env env, const Failure& failure) {
    return failure.error < 0 ? FailureValue(env, failure) : env.Undefined();
  }

  static DescriptorChannel* ChannelArg(const Napi::CallbackInfo& info) {
    return &Unwrap(info[0].As<Napi::Object>())->channel_;
  }

  /// connect(path), listen(path)
  Napi::Value Connect(const Napi::CallbackInfo& info) {
    return Outcome(info.Env(), DescriptorChannel::Connect(StringArg(info, 0), &channel_));
  }
  Napi::Value Listen(const Napi::CallbackInfo& info) {
    return Outcome(info.Env(), DescriptorChannel::Listen(StringArg(info, 0), &channel_));
  }

  /// pair(other): makes this and the other one the two ends of a connection.
  Napi::Value Pair(const Napi::CallbackInfo& info) {
    return Outcome(info.Env(), DescriptorChannel::Pair(&channel_, ChannelArg(info)));
  }

  /// adopt(fd)
  Napi::Value Adopt(const Napi::CallbackInfo& info) {
    return Outcome(info.Env(), DescriptorChannel::Adopt(IntArg(info, 0), &channel_));
  }

  /// accept(into)
  Napi::Value Accept(const Napi::CallbackInfo& info) {
    return Outcome(info.Env(), channel_.Accept(ChannelArg(info)));
  }

  /// -1 when closed.
  Napi::Value Fd(const Napi::CallbackInfo& info) { return ResultValue(info.Env(), channel_.fd()); }

  /// send(data, descriptors): bytes, or a negative errno.
  Napi::Value Send(const Napi::CallbackInfo& info) {
    const auto data = info[0].As<Napi::Uint8Array>();
    const auto numbers = info[1].As<Napi::Int32Array>();
    return ResultValue(
        info.Env(), channel_.Send(data.Data(), data.ByteLength(), numbers.Data(), numbers.ElementLength()));
  }

  /// receive(memory): { size, ended, descriptors }, or a negative errno. The descriptors are the caller's.
  Napi::Value Receive(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    auto memory = info[0].As<Napi::Uint8Array>();
    ChannelMessage message;
    const SysResult result = channel_.Receive(memory.Data(), memory.ByteLength(), &message);
    if (result < 0) return ResultValue(env, result);
    auto numbers = Napi::Int32Array::New(env, message.descriptors.size());
    const auto object = Napi::Object::New(env);
    object.Set("size", static_cast<double>(message.size));
    object.Set("ended", message.ended);
    object.Set("descriptors", numbers);
    // In a Worker that is being terminated nobody takes them.
    if (env.IsExceptionPending()) return {};
    for (size_t i = 0; i < message.descriptors.size(); ++i) numbers[i] = message.descriptors[i].release();
    return object;
  }

  /// credentials(): { pid, uid, gid }, or a negative errno.
  Napi::Value Credentials(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    ucred credentials{};
    const SysResult result = channel_.Credentials(&credentials);
    if (result < 0) return ResultValue(env, result);
    const auto object = Napi::Object::New(env);
    object.Set("pid", static_cast<double>(credentials.pid));
    object.Set("uid", static_cast<double>(credentials.uid));
    object.Set("gid", static_cast<double>(credentials.gid));
    return object;
  }

  /// watch(events, onEvent): the loop calls onEvent(events) from here on; with 0 no more. A channel that is
  /// not watched can be collected, and is closed by that.
  Napi::Value Watch(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const int events = IntArg(info, 0);
    if (events != 0 && async_context_ == nullptr)
      napi_async_init(env, nullptr, Napi::String::New(env, "TUNSOCK_CHANNEL"), &async_context_);
    const SysResult result = Start(events);
    if (result < 0) return ResultValue(env, result);
    if (events == 0) {
      on_event_.Reset();
    } else {
      on_event_ = Napi::Persistent(info[1].As<Napi::Function>());
    }
    Keep(events != 0);
    return ResultValue(env, 0);
  }

  SysResult Start(int events) {
    if (channel_.fd() < 0) return -EBADF;
    return poller_.Start(
        Env(), channel_.fd(), events,
        [](void* self, int status, int ready) { static_cast<ChannelHandle*>(self)->OnEvent(status, ready); },
        this);
  }

  void Keep(bool watched) {
    if (std::exchange(watched_, watched) == watched) return;
    if (watched) {
      Ref();
    } else {
      Unref();
    }
  }

  /// After an error the watch has stopped; what it was, the next call tells: it is told as all events.
  void OnEvent(int status, int ready) {
    const Napi::HandleScope scope(Env());
    const Napi::Object self = Value();
    const napi_value events = Napi::Number::New(Env(), status < 0 ? UV_READABLE | UV_WRITABLE : ready);
    CallFromLoop(Env(), async_context_, self, on_event_.Value(), 1, &events);
  }

  /// setRef(ref): whether being watched keeps the process alive.
  Napi::Value SetRef(const Napi::CallbackInfo& info) {
    poller_.SetRef(info[0].ToBoolean());
    return info.Env().Undefined();
  }

  Napi::Value Close(const Napi::CallbackInfo& info) {
    CloseAll();
    Keep(false);
    return info.Env().Undefined();
  }

  void CloseAll() {
    poller_.Close();
    if (async_context_ != nullptr) napi_async_destroy(Env(), std::exchange(async_context_, nullptr));
    on_event_.Reset();
    channel_ = {};
  }

  DescriptorChannel channel_;
  Poller poller_;
  bool watched_ = false;
  napi_async_context async_context_ = nullptr;
  Napi::FunctionReference on_event_;
};

/// setCloseOnExec(fd)
Napi::Value CloseOnExec(const Napi::CallbackInfo& info) {
  return ResultValue(info.Env(), SetCloseOnExec(IntArg(info, 0)));
}

}  // namespace

void RegisterChannelBinding(Napi::Env env, Napi::Object exports) {
  exports.Set("ChannelHandle", ChannelHandle::Define(env));
  exports.Set("setCloseOnExec", Napi::Function::New<&CloseOnExec>(env, "setCloseOnExec"));
}

}  // namespace tunsock
