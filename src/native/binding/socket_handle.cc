#include "binding/socket_handle.h"

#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "binding/args.h"
#include "binding/memory_args.h"
#include "binding/packet_args.h"
#include "core/io/offload_io.h"
#include "core/sys/poll_wait.h"

namespace tunsock {
namespace {

/// copied, size, flags, protocol.
constexpr uint32_t kDetailsWords = 4;
constexpr uint32_t kMetaWords = sizeof(PacketMeta) / sizeof(uint32_t);

/// Bits of the value of Event::kLink.
constexpr int kLinkPresent = 1;
constexpr int kLinkUp = 2;

}  // namespace

Napi::Function SocketHandle::Define(Napi::Env env) {
  return DefineClass(env, "SocketHandle",
                     {
                         InstanceAccessor<&SocketHandle::Fd>("fd"),
                         InstanceMethod<&SocketHandle::Receive>("receive"),
                         InstanceMethod<&SocketHandle::Send>("send"),
                         InstanceMethod<&SocketHandle::SendTo>("sendTo"),
                         InstanceMethod<&SocketHandle::ReceiveBatch>("receiveBatch"),
                         InstanceMethod<&SocketHandle::SendBatch>("sendBatch"),
                         InstanceMethod<&SocketHandle::Listen>("listen"),
                         InstanceMethod<&SocketHandle::WatchLink>("watchLink"),
                         InstanceMethod<&SocketHandle::Watch>("watch"),
                         InstanceMethod<&SocketHandle::SetRef>("setRef"),
                         InstanceMethod<&SocketHandle::Stats>("stats"),
                         InstanceMethod<&SocketHandle::PendingError>("pendingError"),
                         InstanceMethod<&SocketHandle::Close>("close"),
                         InstanceMethod<&SocketHandle::Release>("release"),
                         InstanceMethod<&SocketHandle::Control>("control"),
                         InstanceMethod<&SocketHandle::SetQueue>("setQueue"),
                         InstanceMethod<&SocketHandle::SetOffload>("setOffload"),
                         InstanceAccessor<&SocketHandle::VirtioHeader>("virtioHeader"),
                         InstanceAccessor<&SocketHandle::Held>("held"),
                         InstanceMethod<&SocketHandle::DeliverHeld>("deliverHeld"),
                         InstanceAccessor<&SocketHandle::RefusedOffload>("refusedOffload"),
                         InstanceMethod<&SocketHandle::Name>("name"),
                         InstanceMethod<&SocketHandle::NetworkNamespace>("networkNamespace"),
                     });
}

SocketHandle::SocketHandle(const Napi::CallbackInfo& info) : Napi::ObjectWrap<SocketHandle>(info) {}

SocketHandle::~SocketHandle() {
  CloseAll();
}

SocketHandle* SocketHandle::New(Napi::Env env) {
  const Napi::Object object = env.GetInstanceData<Napi::FunctionReference>()->New({});
  return object.IsEmpty() ? nullptr : Unwrap(object);
}

Napi::Object SocketHandle::Create(Napi::Env env, TunDevice&& device) {
  SocketHandle* handle = New(env);
  if (handle == nullptr) return {};
  auto tun = std::make_unique<TunDevice>(std::move(device));
  handle->tun_ = tun.get();
  handle->device_ = std::move(tun);
  handle->MakeIo();
  return handle->Value();
}

Napi::Object SocketHandle::Create(Napi::Env env, PacketDevice&& device) {
  SocketHandle* handle = New(env);
  if (handle == nullptr) return {};
  auto packet = std::make_unique<PacketDevice>(std::move(device));
  handle->packet_ = packet.get();
  handle->device_ = std::move(packet);
  handle->MakeIo();
  return handle->Value();
}

void SocketHandle::MakeIo() {
  if (tun_ != nullptr) {
    io_ = std::make_unique<TunIo>(fd(), tun_->framing());
  } else {
    auto io = std::make_unique<SocketIo>(fd(), packet_->framing());
    socket_ = io.get();
    io_ = std::move(io);
  }
}

Napi::Value SocketHandle::Fd(const Napi::CallbackInfo& info) {
  return ResultValue(info.Env(), closed() ? -1 : fd());
}

/// receive(views, flags, timeoutMs, details)
Napi::Value SocketHandle::Receive(const Napi::CallbackInfo& info) {
  if (closed()) return ResultValue(info.Env(), -EBADF);
  Views views;
  SysResult result = ReadViews(info.Env(), info[0], &views);
  auto* words = static_cast<uint32_t*>(FixedArray(info, 3, napi_uint32_array, kDetailsWords + kMetaWords));
  if (words == nullptr) result = -EINVAL;
  if (result < 0) return ResultValue(info.Env(), result);
  const int flags = IntArg(info, 1);
  PacketDetails details;
  result = AttemptWhenReady(fd(), POLLIN, flags, IntArg(info, 2),
                            [&] { return io_->Receive(views.entries, views.count, flags, &details); });
  if (result >= 0) {
    words[0] = details.copied;
    words[1] = details.size;
    words[2] = details.flags;
    words[3] = details.protocol;
    std::memcpy(words + kDetailsWords, &details.meta, sizeof details.meta);
  }
  return ResultValue(info.Env(), result);
}

/// send(views, flags, timeoutMs, header | undefined): `header` is a virtio header of kMaxVirtioHeader bytes.
Napi::Value SocketHandle::Send(const Napi::CallbackInfo& info) {
  if (closed()) return ResultValue(info.Env(), -EBADF);
  Views views;
  SysResult result = ReadViews(info.Env(), info[0], &views);
  if (result < 0) return ResultValue(info.Env(), result);
  PacketMeta meta{};
  const void* header = FixedArray(info, 3, napi_uint8_array, kMaxVirtioHeader);
  if (header != nullptr) std::memcpy(meta.virtio_header, header, kMaxVirtioHeader);
  const PacketMeta* sent_with = header != nullptr ? &meta : nullptr;
  const int flags = IntArg(info, 1);
  result = AttemptWhenReady(fd(), POLLOUT, flags, IntArg(info, 2),
                            [&] { return io_->Send(views.entries, views.count, flags, sent_with); });
  return ResultValue(info.Env(), result);
}

/// sendTo(views, flags, timeoutMs, address, protocol): to a hardware address of 8 bytes at most.
Napi::Value SocketHandle::SendTo(const Napi::CallbackInfo& info) {
  if (closed() || socket_ == nullptr) return ResultValue(info.Env(), -EBADF);
  Views views;
  SysResult result = ReadViews(info.Env(), info[0], &views);
  Destination destination;
  if (!ReadDestination(info[3], info[4], &destination)) result = -EINVAL;
  if (result < 0) return ResultValue(info.Env(), result);
  const int flags = IntArg(info, 1);
  result = AttemptWhenReady(fd(), POLLOUT, flags, IntArg(info, 2),
                            [&] { return socket_->SendTo(views.entries, views.count, flags, destination); });
  return ResultValue(info.Env(), result);
}

/// receiveBatch(memory, capacity, packetSize, limit, flags, timeoutMs)
Napi::Value SocketHandle::ReceiveBatch(const Napi::CallbackInfo& info) {
  Batch batch;
  if (closed()) return ResultValue(info.Env(), -EBADF);
  if (!ReadBatch(info, 0, &batch)) return ResultValue(info.Env(), -EINVAL);
  batch.capacity = std::min(batch.capacity, UintArg(info, 3));
  const int flags = IntArg(info, 4);
  return ResultValue(info.Env(), AttemptWhenReady(fd(), POLLIN, flags, IntArg(info, 5),
                                                  [&] { return io_->ReceiveBatch(batch, flags); }));
}

/// sendBatch(memory, capacity, packetSize, start, end, flags, timeoutMs, hasHeaders)
Napi::Value SocketHandle::SendBatch(const Napi::CallbackInfo& info) {
  Batch batch;
  if (closed()) return ResultValue(info.Env(), -EBADF);
  const uint32_t start = UintArg(info, 3);
  const uint32_t end = UintArg(info, 4);
  if (!ReadBatch(info, 0, &batch) || start > end || end > batch.capacity)
    return ResultValue(info.Env(), -EINVAL);
  batch.has_headers = info[7].ToBoolean();
  const int flags = IntArg(info, 5);
  return ResultValue(info.Env(), AttemptWhenReady(fd(), POLLOUT, flags, IntArg(info, 6),
                                                  [&] { return io_->SendBatch(batch, start, end, flags); }));
}

/// listen(onEvent, inboxMemory, inboxCapacity): who hears events, and where the packets of a wake-up go.
Napi::Value SocketHandle::Listen(const Napi::CallbackInfo& info) {
  listener_.Set(info[0].As<Napi::Function>(), info[1].As<Napi::ArrayBuffer>(), UintArg(info, 2));
  if (held_) listener_.Hold();
  return ResultValue(info.Env(), 0);
}

/// watchLink(index): makes ready to hear of the interface, in the calling thread's network namespace.
Napi::Value SocketHandle::WatchLink(const Napi::CallbackInfo& info) {
  auto link = std::make_unique<LinkWatch>();
  const SysResult result = LinkWatch::Open(UintArg(info, 0), link.get());
  if (result >= 0) link_ = std::move(link);
  return ResultValue(info.Env(), result);
}

/// watch(events, limit, link): UV_READABLE | UV_WRITABLE of the socket, how many packets a wake-up reads at
/// most, and whether to hear of the interface.
Napi::Value SocketHandle::Watch(const Napi::CallbackInfo& info) {
  if (closed()) return ResultValue(info.Env(), -EBADF);
  const int events = IntArg(info, 0);
  limit_ = std::min(UintArg(info, 1), listener_.capacity());
  const bool link = link_ != nullptr && info[2].ToBoolean();
  SysResult result = socket_poller_.Start(
      info.Env(), fd(), events,
      [](void* self, int status, int ready) {
        static_cast<SocketHandle*>(self)->OnSocketEvent(status, ready);
      },
      this);
  if (link_ != nullptr && result >= 0) {
    link_poller_.SetRef(false);
    result = link_poller_.Start(
        info.Env(), link_->fd(), link ? UV_READABLE : 0,
        [](void* self, int status, int) { static_cast<SocketHandle*>(self)->OnLinkEvent(status); }, this);
  }
  SetHeld(events != 0 || link);
  return ResultValue(info.Env(), result);
}

/// setRef(ref): whether watching the socket keeps the process alive.
Napi::Value SocketHandle::SetRef(const Napi::CallbackInfo& info) {
  socket_poller_.SetRef(info[0].ToBoolean());
  return info.Env().Undefined();
}

void SocketHandle::SetHeld(bool held) {
  if (held == held_) return;
  held_ = held;
  if (held) {
    Ref();
    listener_.Hold();
  } else {
    Unref();
    listener_.LetGo();
  }
}

void SocketHandle::OnSocketEvent(int status, int events) {
  const Napi::HandleScope scope(Env());
  if (status < 0) {
    // libuv reports every POLLERR as EBADF: the descriptor knows better. 0 when the error is past.
    Emit(Event::kError, io_->PendingError());
    return;
  }
  if ((events & UV_WRITABLE) != 0) Emit(Event::kWritable, 0);
  if ((events & UV_READABLE) == 0 || !reading()) return;
  ReadInbox(limit_);
  DeliverHeld();
}

/// Reads `most` packets into the inbox, and says so. The handle may be closed when this returns.
void SocketHandle::ReadInbox(uint32_t most) {
  Batch inbox;
  SysResult result = -EINVAL;
  if (listener_.MapInbox(Env(), &inbox)) {
    inbox.capacity = std::min(inbox.capacity, most);
    result = io_->ReceiveBatch(inbox, MSG_DONTWAIT);
  }
  if (result != -EAGAIN) Emit(Event::kReadable, result);
}

/// What the io holds: the rest of one superpacket, which no poll shows.
void SocketHandle::DeliverHeld() {
  while (reading() && io_->Held() != 0) {
    ReadInbox(static_cast<uint32_t>(std::min<size_t>(limit_, io_->Held())));
  }
}

void SocketHandle::OnLinkEvent(int status) {
  const Napi::HandleScope scope(Env());
  const SysResult changed = status < 0 ? status : link_->Drain();
  if (changed < 0) Emit(Event::kError, changed);
  if (changed <= 0) return;
  const LinkState& state = link_->state();
  // Moved to another namespace, or detached from on purpose: the socket itself knows whether it still works.
  if (!state.present && io_->PendingError() == 0) return;
  Emit(Event::kLink, (state.present ? kLinkPresent : 0) | (state.up ? kLinkUp : 0));
}

/// The handle may be closed when this returns.
void SocketHandle::Emit(Event event, SysResult value) {
  listener_.Call(Env(), Value(), static_cast<int>(event), value);
}

/// stats(counters): a Float64Array of fourteen: received and sent, each in the order of IoStats::Direction,
/// and the superpackets of each.
Napi::Value SocketHandle::Stats(const Napi::CallbackInfo& info) {
  auto* counters = static_cast<double*>(FixedArray(info, 0, napi_float64_array, 14));
  if (closed() || counters == nullptr) return ResultValue(info.Env(), -EBADF);
  const auto put = [&](uint64_t counter) { *counters++ = static_cast<double>(counter); };
  const IoStats& stats = io_->stats();
  for (const IoStats::Direction* direction : {&stats.received, &stats.sent}) {
    for (const uint64_t counter : {direction->packets, direction->bytes, direction->truncated,
                                   direction->would_block, direction->errors, direction->dropped}) {
      put(counter);
    }
  }
  const OffloadStats* offload = io_->offload_stats();
  put(offload != nullptr ? offload->received : 0);
  put(offload != nullptr ? offload->sent : 0);
  return ResultValue(info.Env(), 0);
}

/// pendingError(): what is wrong with the descriptor, as a negative errno, or 0.
Napi::Value SocketHandle::PendingError(const Napi::CallbackInfo& info) {
  return ResultValue(info.Env(), closed() ? -EBADF : io_->PendingError());
}

Napi::Value SocketHandle::Close(const Napi::CallbackInfo& info) {
  SetHeld(false);
  CloseAll();
  return info.Env().Undefined();
}

/// release(): gives the descriptor back to who it was taken over from, and closes the rest.
Napi::Value SocketHandle::Release(const Napi::CallbackInfo& info) {
  if (device_ != nullptr) (void)device_->Release();
  return Close(info);
}

void SocketHandle::CloseAll() {
  socket_poller_.Close();
  link_poller_.Close();
  listener_.Close(Env());
  tun_ = nullptr;
  packet_ = nullptr;
  socket_ = nullptr;
  io_.reset();
  link_.reset();
  device_.reset();
}

/// control(request, value)
Napi::Value SocketHandle::Control(const Napi::CallbackInfo& info) {
  return ResultValue(info.Env(),
                     device_ == nullptr ? -EBADF : device_->Control(StringArg(info, 0), IntArg(info, 1)));
}

/// setQueue(attached)
Napi::Value SocketHandle::SetQueue(const Napi::CallbackInfo& info) {
  return ResultValue(info.Env(), tun_ == nullptr ? -EBADF : tun_->SetQueue(info[0].ToBoolean()));
}

/// setOffload(wanted, split, shared): what is in force (TUN_F_*), or a negative errno. `split`: packets that
/// are whole. Before the first packet is moved, since it makes the io anew.
Napi::Value SocketHandle::SetOffload(const Napi::CallbackInfo& info) {
  if (closed()) return ResultValue(info.Env(), -EBADF);
  const bool split = info[1].ToBoolean();
  OffloadOptions options;
  options.socket_semantics = packet_ != nullptr;
  const SysResult framed = split ? device_->PacketFraming(&options.merge.framing) : 0;
  if (framed < 0) return ResultValue(info.Env(), framed);
  const SysResult granted = device_->SetOffload(UintArg(info, 0), info[2].ToBoolean());
  if (granted < 0) return ResultValue(info.Env(), granted);
  MakeIo();
  if (split) {
    const SysResult mtu = packet_ != nullptr ? packet_->Mtu() : 0;
    if (mtu > 0) options.merge.max_ip_packet = static_cast<size_t>(mtu);
    options.merge.tso4 = (granted & OffloadStats::kTso4) != 0;
    options.merge.tso6 = (granted & OffloadStats::kTso6) != 0;
    options.merge.uso = (granted & OffloadStats::kUso) != 0;
    io_ = std::make_unique<OffloadIo>(std::move(io_), options);
  }
  return ResultValue(info.Env(), granted);
}

/// virtioHeader: bytes of virtio header before each packet of the descriptor; 0 for none.
Napi::Value SocketHandle::VirtioHeader(const Napi::CallbackInfo& info) {
  const size_t bytes = tun_ != nullptr      ? tun_->framing().virtio_header
                       : packet_ != nullptr ? packet_->framing().virtio_header
                                            : 0;
  return ResultValue(info.Env(), static_cast<SysResult>(bytes));
}

/// held: packets that were taken from the descriptor and wait to be received.
Napi::Value SocketHandle::Held(const Napi::CallbackInfo& info) {
  return ResultValue(info.Env(), closed() ? 0 : static_cast<SysResult>(io_->Held()));
}

/// deliverHeld(): hands them out as a wake-up does, if somebody waits.
Napi::Value SocketHandle::DeliverHeld(const Napi::CallbackInfo& info) {
  DeliverHeld();
  return info.Env().Undefined();
}

/// refusedOffload: kinds of superpackets (TUN_F_*) that the kernel has refused and that are not made any
/// more.
Napi::Value SocketHandle::RefusedOffload(const Napi::CallbackInfo& info) {
  const OffloadStats* stats = closed() ? nullptr : io_->offload_stats();
  return ResultValue(info.Env(), stats == nullptr ? 0 : static_cast<SysResult>(stats->refused));
}

/// name(): the interface's name, or a negative errno.
Napi::Value SocketHandle::Name(const Napi::CallbackInfo& info) {
  std::string name;
  const SysResult result = device_ == nullptr ? -EBADF : device_->Name(&name);
  if (result < 0) return ResultValue(info.Env(), result);
  return Napi::String::New(info.Env(), name);
}

/// networkNamespace(): a descriptor that the caller owns, or a negative errno.
Napi::Value SocketHandle::NetworkNamespace(const Napi::CallbackInfo& info) {
  return ResultValue(info.Env(), device_ == nullptr ? -EBADF : device_->NetworkNamespace());
}

}  // namespace tunsock
