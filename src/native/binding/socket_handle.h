#pragma once

#include <napi.h>

#include <memory>

#include "binding/socket_calls.h"
#include "binding/socket_watch.h"
#include "core/device/data_path.h"
#include "core/device/device.h"

namespace tunsock {

/// The native side of a MessageSocket: a device, what moves its packets, and its place in the event loop.
/// Methods return a count or a negative errno. What moves packets is in SocketCalls.
///
/// Everything of it is a method, never an accessor: of a method Node-API itself checks what `this` is.
class SocketHandle : public Napi::ObjectWrap<SocketHandle> {
 public:
  static Napi::Function Define(Napi::Env env);
  explicit SocketHandle(const Napi::CallbackInfo& info);
  ~SocketHandle() override;

  /// Makes a handle that owns `device`: the handle, { error, syscall }, and then `device` is as it was, or
  /// empty in a Worker that is being terminated.
  static Napi::Value Create(Napi::Env env, std::unique_ptr<Device>* device);

 private:
  Napi::Value Fd(const Napi::CallbackInfo& info);
  Napi::Value Held(const Napi::CallbackInfo& info);
  Napi::Value Listen(const Napi::CallbackInfo& info);
  Napi::Value Watch(const Napi::CallbackInfo& info);
  Napi::Value Turn(const Napi::CallbackInfo& info);
  Napi::Value Rearm(const Napi::CallbackInfo& info);
  Napi::Value SetRef(const Napi::CallbackInfo& info);
  Napi::Value Stats(const Napi::CallbackInfo& info);
  Napi::Value Close(const Napi::CallbackInfo& info);
  Napi::Value Release(const Napi::CallbackInfo& info);
  Napi::Value GiveBack(const Napi::CallbackInfo& info);
  Napi::Value SetFilter(const Napi::CallbackInfo& info);
  Napi::Value GetFilter(const Napi::CallbackInfo& info);
  Napi::Value SetTransmitFilter(const Napi::CallbackInfo& info);
  Napi::Value ChangeMembership(const Napi::CallbackInfo& info);
  Napi::Value Control(const Napi::CallbackInfo& info);
  Napi::Value Address(const Napi::CallbackInfo& info);
  Napi::Value OpenPath(const Napi::CallbackInfo& info);
  Napi::Value Vhost(const Napi::CallbackInfo& info);
  Napi::Value SetMtu(const Napi::CallbackInfo& info);
  Napi::Value VirtioHeader(const Napi::CallbackInfo& info);
  Napi::Value RefusedOffload(const Napi::CallbackInfo& info);
  Napi::Value Name(const Napi::CallbackInfo& info);
  Napi::Value NetworkNamespace(const Napi::CallbackInfo& info);

  void CloseAll();
  /// Ends the movement of packets: what was sent has left, within a bound, and the descriptor is free.
  void CloseIo();
  [[nodiscard]] bool closed() const { return device_ == nullptr; }

  /// The descriptor goes last: the loop must not watch one that is closed, and packets must not go through
  /// it.
  std::unique_ptr<Device> device_;
  std::unique_ptr<HeldIo> io_;
  bool vhost_ = false;
  SocketCalls calls_;
  SocketWatch watch_;
};

}  // namespace tunsock
