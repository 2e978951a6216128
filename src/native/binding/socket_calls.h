#pragma once

#include <node_api.h>

#include <memory>

#include "core/io/held_io.h"

namespace tunsock {

/// The calls of a socket that move packets: receive, send, receiveBatch, sendBatch and putBack. They are
/// functions of the socket's object itself, not methods of its class: finding out from `this` whom a method
/// belongs to is a tenth of what a call costs. Each keeps the object alive, which owns this.
class SocketCalls {
 public:
  /// `io` is what moves the packets, while the socket is open.
  explicit SocketCalls(const std::unique_ptr<HeldIo>* io) : io_(io) {}
  SocketCalls(const SocketCalls&) = delete;
  SocketCalls& operator=(const SocketCalls&) = delete;
  ~SocketCalls() = default;

  /// Gives `object` the functions, and `details`: the memory of the PacketDetails of the last packet that
  /// receive() gave.
  napi_status Define(napi_env env, napi_value object);

 private:
  struct Arguments;
  using Function = SysResult (SocketCalls::*)(HeldIo* io, const Arguments& arguments);

  template <Function function>
  static napi_value Call(napi_env env, napi_callback_info info);

  SysResult Receive(HeldIo* io, const Arguments& arguments);
  SysResult Send(HeldIo* io, const Arguments& arguments);
  SysResult ReceiveBatch(HeldIo* io, const Arguments& arguments);
  SysResult SendBatch(HeldIo* io, const Arguments& arguments);
  SysResult PutBack(HeldIo* io, const Arguments& arguments);

  const std::unique_ptr<HeldIo>* io_;
  PacketDetails* details_ = nullptr;
};

}  // namespace tunsock
