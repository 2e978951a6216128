#include "binding/socket_handle.h"

#include <cstring>
#include <utility>

#include "binding/args.h"
#include "binding/memory_args.h"
#include "binding/packet_args.h"

namespace tunsock {
namespace {

/// How long what was sent has to leave when a socket is closed.
constexpr int kDrainMs = 100;

}  // namespace

Napi::Function SocketHandle::Define(Napi::Env env) {
  return DefineClass(env, "SocketHandle",
                     {
                         InstanceMethod<&SocketHandle::Fd>("fd"),
                         InstanceMethod<&SocketHandle::Held>("held"),
                         InstanceMethod<&SocketHandle::Listen>("listen"),
                         InstanceMethod<&SocketHandle::Watch>("watch"),
                         InstanceMethod<&SocketHandle::Turn>("turn"),
                         InstanceMethod<&SocketHandle::Rearm>("rearm"),
                         InstanceMethod<&SocketHandle::SetRef>("setRef"),
                         InstanceMethod<&SocketHandle::Stats>("stats"),
                         InstanceMethod<&SocketHandle::Close>("close"),
                         InstanceMethod<&SocketHandle::Release>("release"),
                         InstanceMethod<&SocketHandle::GiveBack>("giveBack"),
                         InstanceMethod<&SocketHandle::Control>("control"),
                         InstanceMethod<&SocketHandle::SetFilter>("setFilter"),
                         InstanceMethod<&SocketHandle::GetFilter>("getFilter"),
                         InstanceMethod<&SocketHandle::SetTransmitFilter>("setTransmitFilter"),
                         InstanceMethod<&SocketHandle::ChangeMembership>("changeMembership"),
                         InstanceMethod<&SocketHandle::Address>("address"),
                         InstanceMethod<&SocketHandle::OpenPath>("openPath"),
                         InstanceMethod<&SocketHandle::Vhost>("vhost"),
                         InstanceMethod<&SocketHandle::SetMtu>("setMtu"),
                         InstanceMethod<&SocketHandle::VirtioHeader>("virtioHeader"),
                         InstanceMethod<&SocketHandle::RefusedOffload>("refusedOffload"),
                         InstanceMethod<&SocketHandle::Name>("name"),
                         InstanceMethod<&SocketHandle::NetworkNamespace>("networkNamespace"),
                     });
}

SocketHandle::SocketHandle(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<SocketHandle>(info), calls_(&io_), watch_(this) {}

SocketHandle::~SocketHandle() {
  CloseAll();
}

Napi::Value SocketHandle::Create(Napi::Env env, std::unique_ptr<Device>* device) {
  DataPath path;
  const Failure failure = OpenDataPath(device->get(), {}, &path);
  if (failure.error < 0) return FailureValue(env, {failure.error, "open"});
  const Napi::Object object = env.GetInstanceData<Napi::FunctionReference>()->New({});
  if (object.IsEmpty()) return object;
  SocketHandle* handle = Unwrap(object);
  handle->device_ = std::move(*device);
  handle->io_ = std::move(path.io);
  if (handle->calls_.Define(env, object) != napi_ok) return {};
  return object;
}

/// fd(): -1 once closed.
Napi::Value SocketHandle::Fd(const Napi::CallbackInfo& info) {
  return ResultValue(info.Env(), closed() ? -1 : device_->fd());
}

/// held(): packets that were taken from the descriptor and wait to be received.
Napi::Value SocketHandle::Held(const Napi::CallbackInfo& info) {
  return ResultValue(info.Env(), closed() ? 0 : static_cast<SysResult>(io_->Held()));
}

/// listen(onEvent, inboxMemory, inboxCapacity): who hears events, and where the packets of a wake-up go.
Napi::Value SocketHandle::Listen(const Napi::CallbackInfo& info) {
  watch_.SetListener(info[0].As<Napi::Function>(), info[1].As<Napi::ArrayBuffer>(), UintArg(info, 2));
  return ResultValue(info.Env(), 0);
}

/// watch(events, limit): UV_READABLE | UV_WRITABLE of the socket, and how many packets a wake-up reads at
/// most. 1 when turn() is due.
Napi::Value SocketHandle::Watch(const Napi::CallbackInfo& info) {
  if (closed()) return ResultValue(info.Env(), -EBADF);
  return ResultValue(info.Env(), watch_.Watch(io_.get(), IntArg(info, 0), UintArg(info, 1)));
}

/// turn(): what a wake-up does.
Napi::Value SocketHandle::Turn(const Napi::CallbackInfo& info) {
  watch_.Turn();
  return info.Env().Undefined();
}

/// rearm(): after a call that may have taken the event that the loop waits for. True when turn() is due.
Napi::Value SocketHandle::Rearm(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), watch_.Rearm());
}

/// setRef(ref): whether watching the socket keeps the process alive.
Napi::Value SocketHandle::SetRef(const Napi::CallbackInfo& info) {
  watch_.SetRef(info[0].ToBoolean());
  return info.Env().Undefined();
}

/// stats(counters): a Float64Array of fifteen: received and sent, each in the order of IoStats::Direction,
/// the superpackets of each, and what arrived.
Napi::Value SocketHandle::Stats(const Napi::CallbackInfo& info) {
  auto* counters = static_cast<double*>(FixedArray(info.Env(), info[0], napi_float64_array, 15));
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
  put(stats.received.arrived);
  return ResultValue(info.Env(), 0);
}

Napi::Value SocketHandle::Close(const Napi::CallbackInfo& info) {
  CloseAll();
  return info.Env().Undefined();
}

/// release(): the descriptor, which is the caller's from here on; the rest is closed.
Napi::Value SocketHandle::Release(const Napi::CallbackInfo& info) {
  watch_.Close();
  CloseIo();
  const SysResult fd = closed() ? -EBADF : device_->Release();
  CloseAll();
  return ResultValue(info.Env(), fd);
}

/// giveBack(): the same for a descriptor that was taken over, which is as it was before that.
Napi::Value SocketHandle::GiveBack(const Napi::CallbackInfo& info) {
  watch_.Close();
  CloseIo();
  const SysResult fd = closed() ? -EBADF : device_->GiveBack();
  CloseAll();
  return ResultValue(info.Env(), fd);
}

void SocketHandle::CloseIo() {
  // Nothing can be done about what does not leave.
  if (io_ != nullptr) (void)io_->Drain(kDrainMs);
  io_.reset();
}

void SocketHandle::CloseAll() {
  watch_.Close();
  CloseIo();
  device_.reset();
}

/// control(request, value)
Napi::Value SocketHandle::Control(const Napi::CallbackInfo& info) {
  return ResultValue(info.Env(), closed() ? -EBADF : device_->Control(StringArg(info, 0), IntArg(info, 1)));
}

/// setFilter(program): what is received from now on; what came before is gone. With an empty one: everything.
Napi::Value SocketHandle::SetFilter(const Napi::CallbackInfo& info) {
  std::vector<sock_filter> program;
  if (closed()) return ResultValue(info.Env(), -EBADF);
  if (!ReadFilter(info[0], &program)) return ResultValue(info.Env(), -EINVAL);
  const SysResult result = device_->SetFilter(program);
  if (result >= 0) io_->Discard();
  return ResultValue(info.Env(), result);
}

/// getFilter(): the program that is in force, undefined without one, or a negative errno.
Napi::Value SocketHandle::GetFilter(const Napi::CallbackInfo& info) {
  std::vector<sock_filter> program;
  const SysResult result = closed() ? -EBADF : device_->GetFilter(&program);
  if (result < 0) return ResultValue(info.Env(), result);
  if (program.empty()) return info.Env().Undefined();
  return FilterValue(info.Env(), program);
}

/// setTransmitFilter(flags, addresses)
Napi::Value SocketHandle::SetTransmitFilter(const Napi::CallbackInfo& info) {
  if (closed()) return ResultValue(info.Env(), -EBADF);
  if (!info[1].IsTypedArray() || info[1].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    return ResultValue(info.Env(), -EINVAL);
  }
  const auto bytes = info[1].As<Napi::Uint8Array>();
  const std::vector<uint8_t> addresses(bytes.Data(), bytes.Data() + bytes.ByteLength());
  return ResultValue(info.Env(),
                     device_->SetTransmitFilter(static_cast<uint16_t>(UintArg(info, 0)), addresses));
}

/// changeMembership(add, type, address): PACKET_MR_* and a hardware address, which may be empty.
Napi::Value SocketHandle::ChangeMembership(const Napi::CallbackInfo& info) {
  Destination group;
  if (closed()) return ResultValue(info.Env(), -EBADF);
  if (!ReadDestination(info[2], info.Env().Undefined(), &group)) return ResultValue(info.Env(), -EINVAL);
  return ResultValue(info.Env(),
                     device_->ChangeMembership(info[0].ToBoolean(), static_cast<uint16_t>(UintArg(info, 1)),
                                               group.address, group.length));
}

/// address(request, meta): `meta` is a PacketMeta that has, or gets, the address.
Napi::Value SocketHandle::Address(const Napi::CallbackInfo& info) {
  if (closed()) return ResultValue(info.Env(), -EBADF);
  void* bytes = FixedArray(info.Env(), info[1], napi_uint8_array, sizeof(PacketMeta));
  if (bytes == nullptr) return ResultValue(info.Env(), -EINVAL);
  PacketMeta meta;
  std::memcpy(&meta, bytes, sizeof meta);
  const SysResult result = device_->Address(StringArg(info, 0), &meta);
  std::memcpy(bytes, &meta, sizeof meta);
  return ResultValue(info.Env(), result);
}

/// openPath(offload, split, shared, vhostDevice | undefined, vhostRing, vhostRequired): sets the device up
/// and makes its data path anew, before the first packet is moved. What of `offload` (TUN_F_*) is in force,
/// or { error, syscall }, whose syscall is empty where the device refuses the offload.
Napi::Value SocketHandle::OpenPath(const Napi::CallbackInfo& info) {
  if (closed()) return FailureValue(info.Env(), {-EBADF, ""});
  DataPathOptions options;
  options.offload = UintArg(info, 0);
  options.split = info[1].ToBoolean();
  options.shared = info[2].ToBoolean();
  if (info[3].IsString()) options.vhost = {StringArg(info, 3), UintArg(info, 4), info[5].ToBoolean()};
  DataPath path;
  const Failure failure = OpenDataPath(device_.get(), options, &path);
  if (failure.error < 0) return FailureValue(info.Env(), failure);
  io_ = std::move(path.io);
  vhost_ = path.vhost;
  return ResultValue(info.Env(), path.offload);
}

/// vhost(): whether packets go by the kernel's thread.
Napi::Value SocketHandle::Vhost(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), vhost_);
}

/// setMtu(bytes): nothing longer is made of what is sent.
Napi::Value SocketHandle::SetMtu(const Napi::CallbackInfo& info) {
  if (closed()) return ResultValue(info.Env(), -EBADF);
  io_->SetMtu(UintArg(info, 0));
  return ResultValue(info.Env(), 0);
}

/// virtioHeader(): bytes of virtio header before each packet of the descriptor; 0 for none.
Napi::Value SocketHandle::VirtioHeader(const Napi::CallbackInfo& info) {
  return ResultValue(info.Env(), closed() ? 0 : static_cast<SysResult>(device_->virtio_header()));
}

/// refusedOffload(): kinds of superpackets (TUN_F_*) that the kernel has refused and that are not made any
/// more.
Napi::Value SocketHandle::RefusedOffload(const Napi::CallbackInfo& info) {
  const OffloadStats* stats = closed() ? nullptr : io_->offload_stats();
  return ResultValue(info.Env(), stats == nullptr ? 0 : static_cast<SysResult>(stats->refused));
}

/// name(): the interface's name, or a negative errno.
Napi::Value SocketHandle::Name(const Napi::CallbackInfo& info) {
  std::string name;
  const SysResult result = closed() ? -EBADF : device_->Name(&name);
  if (result < 0) return ResultValue(info.Env(), result);
  return Napi::String::New(info.Env(), name);
}

/// networkNamespace(): a descriptor that the caller owns, or a negative errno.
Napi::Value SocketHandle::NetworkNamespace(const Napi::CallbackInfo& info) {
  return ResultValue(info.Env(), closed() ? -EBADF : device_->NetworkNamespace());
}

}  // namespace tunsock
