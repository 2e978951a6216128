#include "binding/poller.h"

#include <fcntl.h>

#include <atomic>
#include <cerrno>

#include "binding/args.h"

namespace tunsock {
namespace {

std::atomic<Runtime> runtime{Runtime::kNode};

void SetRuntime(const Napi::CallbackInfo& info) {
  runtime = static_cast<Runtime>(IntArg(info, 0));
}

}  // namespace

void RegisterPoller(Napi::Env env, Napi::Object exports) {
  exports.Set("setRuntime", Napi::Function::New<SetRuntime>(env, "setRuntime"));
}

/// What the loop knows of: it lives until uv_close has called back, which can be after its Poller is gone.
struct Poller::Handle {
  uv_poll_t poll{};
  Poller* owner = nullptr;
  Callback callback = nullptr;
  void* context = nullptr;
  napi_async_cleanup_hook_handle cleanup = nullptr;

  static void OnEvent(uv_poll_t* poll, int status, int events) {
    auto* handle = static_cast<Handle*>(poll->data);
    if (handle->owner == nullptr) return;
    if (status < 0) {
      handle->owner->events_ = 0;
    } else if (runtime == Runtime::kDeno) {
      // Before the callback, which may close the handle, or ask for something else.
      uv_poll_start(poll, handle->owner->events_, OnEvent);
    }
    handle->callback(handle->context, status, events);
  }

  void Close() {
    if (owner != nullptr) owner->handle_ = nullptr;
    owner = nullptr;
    auto* base = reinterpret_cast<uv_handle_t*>(&poll);
    if (!uv_is_closing(base)) uv_close(base, OnClosed);
  }

  static void OnClosed(uv_handle_t* base) {
    auto* handle = static_cast<Handle*>(base->data);
    // Tells an environment that is being torn down that this handle no longer needs its loop.
    napi_remove_async_cleanup_hook(handle->cleanup);
    delete handle;
  }

  /// A Worker that ends, or the process: the loop must have no open handle left.
  static void OnTeardown(napi_async_cleanup_hook_handle, void* data) { static_cast<Handle*>(data)->Close(); }
};

SysResult Poller::Open(napi_env env, int fd, Callback callback, void* context) {
  // It has no uv_poll: to ask for one ends the process.
  if (runtime == Runtime::kBun) return -ENOSYS;
  uv_loop_t* loop = nullptr;
  if (napi_get_uv_event_loop(env, &loop) != napi_ok) return -EINVAL;
  auto* handle = new Handle;
  handle->poll.data = handle;
  const int result = uv_poll_init(loop, &handle->poll, fd);
  if (result < 0) {
    delete handle;
    return result;
  }
  handle->owner = this;
  handle->callback = callback;
  handle->context = context;
  napi_add_async_cleanup_hook(env, Handle::OnTeardown, handle, &handle->cleanup);
  handle_ = handle;
  SetRef(ref_);
  return 0;
}

SysResult Poller::Probe(napi_env env, int fd) {
  const int status = ::fcntl(fd, F_GETFL);
  if (status < 0) return -errno;
  Poller poller;
  const SysResult result = poller.Open(env, fd, nullptr, nullptr);
  poller.Close();
  // The loop makes everything O_NONBLOCK that it watches.
  (void)::fcntl(fd, F_SETFL, status);
  return result;
}

SysResult Poller::Start(napi_env env, int fd, int events, Callback callback, void* context) {
  if (events == events_) return 0;
  if (handle_ == nullptr) {
    const SysResult result = Open(env, fd, callback, context);
    if (result < 0) return result;
  }
  const int result =
      events == 0 ? uv_poll_stop(&handle_->poll) : uv_poll_start(&handle_->poll, events, Handle::OnEvent);
  if (result == 0) events_ = events;
  return result;
}

void Poller::SetRef(bool ref) {
  ref_ = ref;
  if (handle_ == nullptr) return;
  auto* base = reinterpret_cast<uv_handle_t*>(&handle_->poll);
  ref ? uv_ref(base) : uv_unref(base);
}

void Poller::Close() {
  events_ = 0;
  if (handle_ != nullptr) handle_->Close();
}

}  // namespace tunsock
