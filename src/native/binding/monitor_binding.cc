#include "binding/monitor_binding.h"

#include <utility>
#include <vector>

#include "binding/args.h"
#include "binding/host_values.h"
#include "binding/loop_call.h"
#include "binding/poller.h"
#include "core/host/link_monitor.h"

namespace tunsock {
namespace {

Napi::Object RecordValue(Napi::Env env, const HostRecord& record) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("removed", record.removed);
  object.Set("index", record.index);
  if (record.link.has_value()) {
    auto link = LinkValue(env, *record.link).As<Napi::Object>();
    link.Set("carrier", record.carrier);
    object.Set("link", link);
  }
  if (record.index_in_netns.has_value()) object.Set("indexInNetns", *record.index_in_netns);
  if (record.address.has_value()) object.Set("address", record.address->ToString());
  if (record.route.has_value()) object.Set("route", RouteValue(env, *record.route));
  return object;
}

/// A subscription and its place in the event loop. It keeps itself, and the process while it is referred,
/// alive from listen() to close().
class MonitorHandle : public Napi::ObjectWrap<MonitorHandle> {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(
        env, "MonitorHandle",
        {InstanceMethod<&MonitorHandle::Open>("open"), InstanceMethod<&MonitorHandle::Listen>("listen"),
         InstanceMethod<&MonitorHandle::Hear>("hear"), InstanceMethod<&MonitorHandle::List>("list"),
         InstanceMethod<&MonitorHandle::Read>("read"), InstanceMethod<&MonitorHandle::SetRef>("setRef"),
         InstanceMethod<&MonitorHandle::Close>("close")});
  }

  explicit MonitorHandle(const Napi::CallbackInfo& info) : Napi::ObjectWrap<MonitorHandle>(info) {}
  ~MonitorHandle() override { CloseAll(); }

 private:
  /// open(): in the calling thread's namespace.
  Napi::Value Open(const Napi::CallbackInfo& info) {
    return ResultValue(info.Env(), LinkMonitor::Open(&monitor_));
  }

  /// listen(onReadable): called when read() has something to say.
  Napi::Value Listen(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    if (listening_) return ResultValue(env, -EALREADY);
    on_readable_ = Napi::Persistent(info[0].As<Napi::Function>());
    napi_async_init(env, nullptr, Napi::String::New(env, "TUNSOCK_MONITOR"), &async_context_);
    const SysResult result = Poll();
    listening_ = result >= 0;
    if (listening_) Ref();
    return ResultValue(env, result);
  }

  SysResult Poll() {
    return poller_.Start(
        Env(), monitor_.fd(), UV_READABLE,
        [](void* self, int, int) { static_cast<MonitorHandle*>(self)->OnReadable(); }, this);
  }

  /// Of an error too: it is one of the socket, which read() tells and clears, or which comes again.
  void OnReadable() {
    const Napi::HandleScope scope(Env());
    const Napi::Object self = Value();
    CallFromLoop(Env(), async_context_, self, on_readable_.Value(), 0, nullptr);
    // libuv has stopped the watch at POLLERR, which is how lost messages show.
    if (listening_ && poller_.events() == 0) (void)Poll();
  }

  /// hear(kinds)
  Napi::Value Hear(const Napi::CallbackInfo& info) {
    return ResultValue(info.Env(), monitor_.Hear(UintArg(info, 0)));
  }

  /// list(kinds): an array of records, or a negative errno.
  Napi::Value List(const Napi::CallbackInfo& info) {
    std::vector<HostRecord> records;
    return RecordsValue(info.Env(), monitor_.List(UintArg(info, 0), &records), records);
  }

  /// read(limit): the same, of what has changed.
  Napi::Value Read(const Napi::CallbackInfo& info) {
    std::vector<HostRecord> records;
    return RecordsValue(info.Env(), monitor_.Read(UintArg(info, 0), &records), records);
  }

  static Napi::Value RecordsValue(Napi::Env env, SysResult result, const std::vector<HostRecord>& records) {
    if (result < 0) return ResultValue(env, result);
    Napi::Array array = Napi::Array::New(env, records.size());
    for (uint32_t i = 0; i < records.size(); ++i) {
      const Napi::HandleScope scope(env);
      array.Set(i, RecordValue(env, records[i]));
    }
    return array;
  }

  /// setRef(ref): whether listening keeps the process alive.
  Napi::Value SetRef(const Napi::CallbackInfo& info) {
    poller_.SetRef(info[0].ToBoolean());
    return info.Env().Undefined();
  }

  Napi::Value Close(const Napi::CallbackInfo& info) {
    CloseAll();
    if (std::exchange(listening_, false)) Unref();
    return info.Env().Undefined();
  }

  void CloseAll() {
    poller_.Close();
    if (async_context_ != nullptr) napi_async_destroy(Env(), std::exchange(async_context_, nullptr));
    on_readable_.Reset();
    monitor_ = {};
  }

  LinkMonitor monitor_;
  Poller poller_;
  bool listening_ = false;
  napi_async_context async_context_ = nullptr;
  Napi::FunctionReference on_readable_;
};

}  // namespace

void RegisterMonitorBinding(Napi::Env env, Napi::Object exports) {
  exports.Set("MonitorHandle", MonitorHandle::Define(env));
}

}  // namespace tunsock
