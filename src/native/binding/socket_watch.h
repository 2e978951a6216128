#pragma once

#include <napi.h>

#include "binding/listener.h"
#include "binding/poller.h"
#include "core/io/held_io.h"

namespace tunsock {

/// A socket's place in the event loop: what is waited for, who hears of it, and where the packets of a
/// wake-up go. Each wake-up calls JavaScript at most once for packets, with what one bounded read gave; what
/// is left waits for the next turn of the loop.
///
/// Life: while it watches anything, the socket's JavaScript object is pinned; otherwise the garbage collector
/// may take it, and the descriptor is closed with it.
class SocketWatch {
 public:
  /// `self` is the socket's JavaScript object, which owns this.
  explicit SocketWatch(Napi::Reference<Napi::Object>* self) : self_(self) {}
  SocketWatch(const SocketWatch&) = delete;
  SocketWatch& operator=(const SocketWatch&) = delete;
  ~SocketWatch() = default;

  /// Who hears events, and the memory of the packed batch where the packets of a wake-up go.
  void SetListener(const Napi::Function& on_event, const Napi::ArrayBuffer& inbox, uint32_t capacity);

  /// Waits for `events` (UV_READABLE, UV_WRITABLE) of `io`, which stays the same, and reads `limit` packets
  /// at each wake-up, or with 0 only tells. Returns 1 where something has come already that no poll will
  /// show: then Turn() is due; else 0, or a negative errno.
  SysResult Watch(HeldIo* io, int events, uint32_t limit);

  /// Does what a wake-up does: for what no poll shows. From a turn of the loop of its own.
  void Turn();

  /// Sees to it that the poll shows what is waited for, whoever waited for the io meanwhile. True where
  /// something has come already that no poll will show: then Turn() is due.
  [[nodiscard]] bool Rearm();

  /// Whether watching keeps the process alive.
  void SetRef(bool ref) { poller_.SetRef(ref); }

  /// Before the io goes away. Can be called twice.
  void Close();

 private:
  /// What the loop has to say, as the first argument of JavaScript's onEvent(kind, value).
  enum class Event : int {
    kReadable = 0,  // value: packets in the inbox, or a negative errno
    kWritable = 1,
    kError = 2,  // value: a negative errno, or 0 where none is left; the watch has stopped
    kAgain = 3,  // Turn() is due
  };

  void OnReady(int status, int ready);
  /// Tells what came. The socket may be closed when this returns.
  void Tell(short ready);
  void ReadInbox();
  void Emit(Event event, SysResult value);
  void Pin(bool pinned);
  /// POLLIN and POLLOUT, as far as they are waited for.
  [[nodiscard]] short wanted() const;
  [[nodiscard]] Napi::Env env() const { return self_->Env(); }

  Napi::Reference<Napi::Object>* self_;
  HeldIo* io_ = nullptr;
  Poller poller_;
  Listener listener_;
  int events_ = 0;
  uint32_t limit_ = 0;
  bool pinned_ = false;
};

}  // namespace tunsock
