#include "binding/netns_binding.h"

#include <sys/socket.h>

#include <mutex>
#include <utility>

#include "binding/args.h"
#include "core/host/inet_socket.h"
#include "core/host/netns.h"

namespace tunsock {
namespace {

/// Makes libuv's thread pool start, once in a process. Its threads live in the namespace of the thread that
/// first needs them; were that one elsewhere at the time, fs and dns.lookup would stay there for good. Node's
/// own async work, unlike uv_queue_work, is waited for by a Worker that ends.
void StartThreadPool(napi_env env) {
  static std::mutex mutex;
  static bool started = false;
  const std::lock_guard<std::mutex> lock(mutex);
  if (started) return;
  started = true;
  struct Work {
    napi_async_work handle = nullptr;
  };
  auto* work = new Work;
  napi_value name = nullptr;
  napi_create_string_utf8(env, "tunsock:pool", NAPI_AUTO_LENGTH, &name);
  napi_create_async_work(
      env, nullptr, name, [](napi_env, void*) {},
      [](napi_env done_env, napi_status, void* data) {
        napi_delete_async_work(done_env, static_cast<Work*>(data)->handle);
        delete static_cast<Work*>(data);
      },
      work, &work->handle);
  napi_queue_async_work(env, work->handle);
}

/// A network namespace, opened. Closed with the object when nothing else closes it.
class NetnsHandle : public Napi::ObjectWrap<NetnsHandle> {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(
        env, "NetnsHandle",
        {StaticMethod<&NetnsHandle::Create>("create"), StaticMethod<&NetnsHandle::Open>("open"),
         StaticMethod<&NetnsHandle::Current>("current"), InstanceAccessor<&NetnsHandle::Fd>("fd"),
         InstanceAccessor<&NetnsHandle::Inode>("inode"), InstanceMethod<&NetnsHandle::Run>("run"),
         InstanceMethod<&NetnsHandle::Enter>("enter"), InstanceMethod<&NetnsHandle::Close>("close"),
         InstanceMethod<&NetnsHandle::SetName>("setName"),
         StaticMethod<&NetnsHandle::RemoveName>("removeName")});
  }

  /// From one of the static methods, which pass the descriptor to own; anything else makes a closed one.
  explicit NetnsHandle(const Napi::CallbackInfo& info) : Napi::ObjectWrap<NetnsHandle>(info) {
    if (info[0].IsExternal()) fd_ = std::move(*info[0].As<Napi::External<UniqueFd>>().Data());
  }

 private:
  /// create(loopback): a NetnsHandle, or { error, syscall }; so are the two that follow.
  static Napi::Value Create(const Napi::CallbackInfo& info) {
    UniqueFd fd;
    const bool loopback = info[0].IsBoolean() && info[0].As<Napi::Boolean>().Value();
    const Failure failure = CreateNetns(loopback, &fd);
    return Wrap(info, failure, &fd);
  }

  /// open(path)
  static Napi::Value Open(const Napi::CallbackInfo& info) {
    UniqueFd fd;
    const Failure failure = OpenNetns(StringArg(info, 0).c_str(), &fd);
    return Wrap(info, failure, &fd);
  }

  /// current()
  static Napi::Value Current(const Napi::CallbackInfo& info) {
    UniqueFd fd;
    const Failure failure = OpenThreadNetns(&fd);
    return Wrap(info, failure, &fd);
  }

  /// `this` of a static method is the class.
  static Napi::Value Wrap(const Napi::CallbackInfo& info, const Failure& failure, UniqueFd* fd) {
    if (failure.error != 0) return FailureValue(info.Env(), failure);
    return info.This().As<Napi::Function>().New({Napi::External<UniqueFd>::New(info.Env(), fd)});
  }

  /// -1 when closed.
  Napi::Value Fd(const Napi::CallbackInfo& info) { return ResultValue(info.Env(), fd_.get()); }
  Napi::Value Inode(const Napi::CallbackInfo& info) { return ResultValue(info.Env(), NetnsInode(fd_.get())); }

  /// run(fn): calls fn with this thread in the namespace. Returns undefined, or { error, syscall } when fn
  /// was not called; what fn throws goes through. The scope holds descriptors of its own, so that fn may
  /// close this.
  Napi::Value Run(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    StartThreadPool(env);
    NetnsScope scope;
    const Failure failure = scope.Enter(fd_.get());
    if (failure.error != 0) return FailureValue(env, failure);
    // A pending exception, or the end of a Worker, is left as it is: it takes effect when this has returned.
    napi_call_function(env, env.Undefined(), info[0], 0, nullptr, nullptr);
    if (scope.Leave() < 0) {
      // Going on would do the rest of the program's work in the wrong network.
      napi_fatal_error("Netns.run", NAPI_AUTO_LENGTH,
                       "this thread can't be brought back to its network namespace", NAPI_AUTO_LENGTH);
    }
    return {};
  }

  Napi::Value Enter(const Napi::CallbackInfo& info) {
    StartThreadPool(info.Env());
    return ResultValue(info.Env(), EnterNetns(fd_.get()));
  }

  /// setName(directory, name): undefined, or { error, syscall }.
  Napi::Value SetName(const Napi::CallbackInfo& info) {
    return Outcome(info, NameNetns(fd_.get(), StringArg(info, 0), StringArg(info, 1)));
  }

  /// removeName(path): the same.
  static Napi::Value RemoveName(const Napi::CallbackInfo& info) {
    return Outcome(info, RemoveNetnsName(StringArg(info, 0)));
  }

  static Napi::Value Outcome(const Napi::CallbackInfo& info, const Failure& failure) {
    return failure.error < 0 ? FailureValue(info.Env(), failure) : info.Env().Undefined();
  }

  Napi::Value Close(const Napi::CallbackInfo&) {
    fd_.reset();
    return {};
  }

  UniqueFd fd_;
};

/// openSocket({ family, datagram, interface, reuseAddress, reusePort, ipv6Only, connect, address, port }): a
/// descriptor of the calling thread's namespace, which the caller owns, or { error, syscall }. `family` is 4,
/// 6, or 0 for AF_UNIX. Without `address` it isn't bound.
Napi::Value OpenSocketHere(const Napi::CallbackInfo& info) {
  const auto options = info[0].As<Napi::Object>();
  const auto flag = [&](const char* key) { return options.Get(key).ToBoolean().Value(); };
  const auto text = [&](const char* key) {
    const Napi::Value value = options.Get(key);
    return value.IsString() ? value.As<Napi::String>().Utf8Value() : std::string();
  };
  const uint32_t family = options.Get("family").ToNumber().Uint32Value();
  SocketSpec spec;
  spec.family = family == 4 ? AF_INET : family == 6 ? AF_INET6 : AF_UNIX;
  spec.type = flag("datagram") ? SOCK_DGRAM : SOCK_STREAM;
  spec.interface = text("interface");
  spec.reuse_address = flag("reuseAddress");
  spec.reuse_port = flag("reusePort");
  spec.ipv6_only = flag("ipv6Only");
  spec.connect = flag("connect");
  spec.bind = !spec.connect && options.Get("address").IsString();
  spec.address = text("address");
  spec.port = static_cast<uint16_t>(options.Get("port").ToNumber().Uint32Value());
  UniqueFd fd;
  const Failure failure = OpenSocket(spec, &fd);
  return failure.error < 0 ? FailureValue(info.Env(), failure) : ResultValue(info.Env(), fd.release());
}

}  // namespace

void RegisterNetnsBinding(Napi::Env env, Napi::Object exports) {
  exports.Set("openSocket", Napi::Function::New<&OpenSocketHere>(env, "openSocket"));
  exports.Set("NetnsHandle", NetnsHandle::Define(env));
}

}  // namespace tunsock
