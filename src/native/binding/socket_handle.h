#pragma once

#include <napi.h>

#include <memory>

#include "binding/listener.h"
#include "binding/poller.h"
#include "core/device/packet_device.h"
#include "core/device/tun_device.h"
#include "core/host/link_watch.h"
#include "core/io/packet_io.h"

namespace tunsock {

/// The native side of a MessageSocket: a device, the PacketIo that moves its packets, and its place in
/// the event loop. Methods return a count or a negative errno. What a call has to say beside that goes into
/// the `details` array that JavaScript gave: [copied, size, flags, protocol,
/// PacketMeta].
///
/// Life: while it watches anything, the JavaScript object is held; otherwise the garbage collector may take
/// it, and the descriptor is closed with it.
class SocketHandle : public Napi::ObjectWrap<SocketHandle> {
 public:
  static Napi::Function Define(Napi::Env env);
  explicit SocketHandle(const Napi::CallbackInfo& info);
  ~SocketHandle() override;

  /// Makes a handle that owns what it is given; empty in a Worker that is being terminated.
  static Napi::Object Create(Napi::Env env, TunDevice&& device);
  static Napi::Object Create(Napi::Env env, PacketDevice&& device);

 private:
  /// What the loop has to say, as the first argument of JavaScript's onEvent(kind, value).
  enum class Event : int {
    kReadable = 0,  // value: packets in the inbox, or a negative errno
    kWritable = 1,
    kError = 2,  // value: a negative errno
    kLink = 3,   // value: LinkState bits
  };

  Napi::Value Fd(const Napi::CallbackInfo& info);
  Napi::Value Receive(const Napi::CallbackInfo& info);
  Napi::Value Send(const Napi::CallbackInfo& info);
  Napi::Value SendTo(const Napi::CallbackInfo& info);
  Napi::Value ReceiveBatch(const Napi::CallbackInfo& info);
  Napi::Value SendBatch(const Napi::CallbackInfo& info);
  Napi::Value Listen(const Napi::CallbackInfo& info);
  Napi::Value WatchLink(const Napi::CallbackInfo& info);
  Napi::Value Watch(const Napi::CallbackInfo& info);
  Napi::Value SetRef(const Napi::CallbackInfo& info);
  Napi::Value Stats(const Napi::CallbackInfo& info);
  Napi::Value PendingError(const Napi::CallbackInfo& info);
  Napi::Value Close(const Napi::CallbackInfo& info);
  Napi::Value Release(const Napi::CallbackInfo& info);
  Napi::Value Control(const Napi::CallbackInfo& info);
  Napi::Value SetQueue(const Napi::CallbackInfo& info);
  Napi::Value SetOffload(const Napi::CallbackInfo& info);
  Napi::Value VirtioHeader(const Napi::CallbackInfo& info);
  Napi::Value Held(const Napi::CallbackInfo& info);
  Napi::Value DeliverHeld(const Napi::CallbackInfo& info);
  Napi::Value RefusedOffload(const Napi::CallbackInfo& info);
  Napi::Value Name(const Napi::CallbackInfo& info);
  Napi::Value NetworkNamespace(const Napi::CallbackInfo& info);

  void OnSocketEvent(int status, int events);
  void OnLinkEvent(int status);
  void ReadInbox(uint32_t most);
  void DeliverHeld();
  void Emit(Event event, SysResult value);
  void SetHeld(bool held);
  void CloseAll();
  /// Null in a Worker that is being terminated: then nothing can be made any more.
  static SocketHandle* New(Napi::Env env);
  /// The io of the device, as the device is framed now.
  void MakeIo();

  /// Whether somebody waits for packets.
  [[nodiscard]] bool reading() const {
    return limit_ != 0 && !closed() && (socket_poller_.events() & UV_READABLE) != 0;
  }
  [[nodiscard]] bool closed() const { return io_ == nullptr; }
  [[nodiscard]] int fd() const { return device_->fd(); }

  std::unique_ptr<Device> device_;
  std::unique_ptr<PacketIo> io_;
  /// The device, as the one or the other; and a packet socket's io, which another may wrap.
  TunDevice* tun_ = nullptr;
  PacketDevice* packet_ = nullptr;
  SocketIo* socket_ = nullptr;
  std::unique_ptr<LinkWatch> link_;
  Poller socket_poller_;
  Poller link_poller_;
  Listener listener_;
  uint32_t limit_ = 0;
  bool held_ = false;
};

}  // namespace tunsock
