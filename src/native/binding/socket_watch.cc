#include "binding/socket_watch.h"

#include <sys/socket.h>
#include <uv.h>

#include <algorithm>

namespace tunsock {
namespace {

int LoopEvents(short events) {
  return ((events & POLLIN) != 0 ? UV_READABLE : 0) | ((events & POLLOUT) != 0 ? UV_WRITABLE : 0);
}

short PollEvents(int events) {
  const int bits = ((events & UV_READABLE) != 0 ? POLLIN : 0) | ((events & UV_WRITABLE) != 0 ? POLLOUT : 0);
  return static_cast<short>(bits);
}

}  // namespace

void SocketWatch::SetListener(const Napi::Function& on_event, const Napi::ArrayBuffer& inbox,
                              uint32_t capacity) {
  listener_.Set(on_event, inbox, capacity);
  if (pinned_) listener_.Pin();
}

short SocketWatch::wanted() const {
  return PollEvents(events_);
}

SysResult SocketWatch::Watch(HeldIo* io, int events, uint32_t limit) {
  io_ = io;
  events_ = events;
  limit_ = std::min(limit, listener_.capacity());
  const PollTarget target = io->Target(wanted());
  const SysResult result = poller_.Start(
      env(), target.fd, events == 0 ? 0 : LoopEvents(target.events),
      [](void* self, int status, int ready) { static_cast<SocketWatch*>(self)->OnReady(status, ready); },
      this);
  if (result < 0) events_ = 0;
  Pin(events_ != 0);
  if (result < 0) return result;
  return Rearm() ? 1 : 0;
}

bool SocketWatch::Rearm() {
  return io_ != nullptr && events_ != 0 && io_->Arm(wanted());
}

void SocketWatch::Turn() {
  if (io_ != nullptr) Tell(wanted());
}

void SocketWatch::OnReady(int status, int ready) {
  const Napi::HandleScope scope(env());
  if (status < 0) {
    // libuv reports every POLLERR as EBADF: the descriptor knows better.
    Emit(Event::kError, io_->PendingError());
    return;
  }
  Tell(io_->Acknowledge(PollEvents(ready)));
}

void SocketWatch::Tell(short ready) {
  if ((ready & wanted() & POLLOUT) != 0) Emit(Event::kWritable, 0);
  if ((ready & wanted() & POLLIN) != 0) ReadInbox();
  // Listeners may have closed the socket or changed what is waited for.
  if (Rearm()) Emit(Event::kAgain, 0);
}

void SocketWatch::ReadInbox() {
  if (limit_ == 0) return Emit(Event::kReadable, 0);
  Batch inbox;
  SysResult result = -EINVAL;
  if (listener_.MapInbox(env(), &inbox)) {
    inbox.capacity = std::min(inbox.capacity, limit_);
    result = io_->ReceiveBatch(inbox, MSG_DONTWAIT);
  }
  if (result != -EAGAIN) Emit(Event::kReadable, result);
}

void SocketWatch::Emit(Event event, SysResult value) {
  listener_.Call(env(), self_->Value(), static_cast<int>(event), value);
}

void SocketWatch::Pin(bool pinned) {
  if (pinned == pinned_) return;
  pinned_ = pinned;
  if (pinned) {
    self_->Ref();
    listener_.Pin();
  } else {
    self_->Unref();
    listener_.Unpin();
  }
}

void SocketWatch::Close() {
  poller_.Close();
  events_ = 0;
  io_ = nullptr;
  Pin(false);
  listener_.Close(env());
}

}  // namespace tunsock
