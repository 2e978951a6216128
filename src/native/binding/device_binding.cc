#include "binding/device_binding.h"

#include <unistd.h>

#include <memory>
#include <utility>

#include "binding/args.h"
#include "binding/packet_args.h"
#include "binding/poller.h"
#include "binding/socket_handle.h"
#include "core/device/packet_device.h"
#include "core/device/tun_device.h"
#include "core/device/udp_device.h"

namespace tunsock {
namespace {

template <typename DeviceType>
Napi::Value HandleOf(Napi::Env env, DeviceType&& opened) {
  std::unique_ptr<Device> device = std::make_unique<DeviceType>(std::move(opened));
  return SocketHandle::Create(env, &device);
}

/// The same for a descriptor that is the caller's until there is a handle.
template <typename DeviceType>
Napi::Value AdoptedHandleOf(Napi::Env env, DeviceType&& adopted) {
  std::unique_ptr<Device> device = std::make_unique<DeviceType>(std::move(adopted));
  const Napi::Value handle = SocketHandle::Create(env, &device);
  if (device != nullptr) (void)device->GiveBack();
  return handle;
}

/// openTun(path, name, flags, index): a SocketHandle, or { error, syscall }.
Napi::Value OpenTun(const Napi::CallbackInfo& info) {
  TunDevice device;
  const Failure failure = TunDevice::Open(StringArg(info, 0).c_str(), StringArg(info, 1),
                                          static_cast<uint16_t>(UintArg(info, 2)), IntArg(info, 3), &device);
  if (failure.error != 0) return FailureValue(info.Env(), failure);
  return HandleOf(info.Env(), std::move(device));
}

/// tunFeatures(path): { flags }, or { error, syscall }.
Napi::Value TunFeatures(const Napi::CallbackInfo& info) {
  uint32_t flags = 0;
  const Failure failure = TunDevice::Features(StringArg(info, 0).c_str(), &flags);
  if (failure.error != 0) return FailureValue(info.Env(), failure);
  Napi::Object object = Napi::Object::New(info.Env());
  object.Set("flags", flags);
  return object;
}

/// inspectTun(fd): { name, netns }, or { error, syscall }.
Napi::Value InspectTun(const Napi::CallbackInfo& info) {
  std::string name;
  UniqueFd netns;
  const Failure failure = TunDevice::Inspect(IntArg(info, 0), &name, &netns);
  if (failure.error != 0) return FailureValue(info.Env(), failure);
  Napi::Object object = Napi::Object::New(info.Env());
  object.Set("name", name);
  object.Set("netns", netns.release());
  return object;
}

/// adoptTun(fd, packetInfo): a SocketHandle that owns fd now, or { error, syscall } and fd is still the
/// caller's.
Napi::Value AdoptTun(const Napi::CallbackInfo& info) {
  TunDevice device;
  const Failure failure = TunDevice::Adopt(IntArg(info, 0), info[1].ToBoolean(), &device);
  if (failure.error != 0) return FailureValue(info.Env(), failure);
  return AdoptedHandleOf(info.Env(), std::move(device));
}

/// openPacket(settings): a SocketHandle, or { error, syscall }.
Napi::Value OpenPacket(const Napi::CallbackInfo& info) {
  PacketOptions options;
  PacketDevice device;
  Failure failure{-EINVAL, "socket"};
  if (ReadPacketOptions(info[0], &options)) failure = PacketDevice::Open(options, &device);
  if (failure.error != 0) return FailureValue(info.Env(), failure);
  return HandleOf(info.Env(), std::move(device));
}

/// adoptPacket(fd): as adoptTun, for a packet socket.
Napi::Value AdoptPacket(const Napi::CallbackInfo& info) {
  PacketDevice device;
  const Failure failure = PacketDevice::Adopt(IntArg(info, 0), &device);
  if (failure.error != 0) return FailureValue(info.Env(), failure);
  return AdoptedHandleOf(info.Env(), std::move(device));
}

/// probeFd(fd): 0 where the loop could watch it, which changes nothing about it, or a negative errno.
Napi::Value ProbeFd(const Napi::CallbackInfo& info) {
  return ResultValue(info.Env(), Poller::Probe(info.Env(), IntArg(info, 0)));
}

/// closeFd(fd): as fs.closeSync, which warns of descriptors that fs has not opened.
Napi::Value CloseFd(const Napi::CallbackInfo& info) {
  return ResultValue(info.Env(), CallOnce([&] { return ::close(IntArg(info, 0)); }));
}

/// openUdp(six): a SocketHandle that is not bound, or { error, syscall }.
Napi::Value OpenUdp(const Napi::CallbackInfo& info) {
  UdpDevice device;
  const Failure failure = UdpDevice::Open(info[0].ToBoolean(), &device);
  if (failure.error != 0) return FailureValue(info.Env(), failure);
  return HandleOf(info.Env(), std::move(device));
}

/// adoptUdp(fd): as adoptTun, for a UDP socket.
Napi::Value AdoptUdp(const Napi::CallbackInfo& info) {
  UdpDevice device;
  const Failure failure = UdpDevice::Adopt(IntArg(info, 0), &device);
  if (failure.error != 0) return FailureValue(info.Env(), failure);
  return AdoptedHandleOf(info.Env(), std::move(device));
}

}  // namespace

void RegisterDeviceBinding(Napi::Env env, Napi::Object exports) {
  // Each environment (main thread, Worker) has its own class.
  env.SetInstanceData(new Napi::FunctionReference(Napi::Persistent(SocketHandle::Define(env))));
  exports.Set("openTun", Napi::Function::New<OpenTun>(env, "openTun"));
  exports.Set("tunFeatures", Napi::Function::New<TunFeatures>(env, "tunFeatures"));
  exports.Set("inspectTun", Napi::Function::New<InspectTun>(env, "inspectTun"));
  exports.Set("adoptTun", Napi::Function::New<AdoptTun>(env, "adoptTun"));
  exports.Set("openPacket", Napi::Function::New<OpenPacket>(env, "openPacket"));
  exports.Set("adoptPacket", Napi::Function::New<AdoptPacket>(env, "adoptPacket"));
  exports.Set("probeFd", Napi::Function::New<ProbeFd>(env, "probeFd"));
  exports.Set("closeFd", Napi::Function::New<CloseFd>(env, "closeFd"));
  exports.Set("openUdp", Napi::Function::New<OpenUdp>(env, "openUdp"));
  exports.Set("adoptUdp", Napi::Function::New<AdoptUdp>(env, "adoptUdp"));
}

}  // namespace tunsock
