#include "binding/socket_calls.h"

#include <algorithm>
#include <cstring>

#include "binding/memory_args.h"
#include "core/io/wait_ready.h"

namespace tunsock {
namespace {

constexpr size_t kMaxArguments = 8;

/// What of a batch's metadata means anything when it is sent (META_* in src/ts/packet/packet-meta.ts).
constexpr uint32_t kMetaOffload = 2;
constexpr uint32_t kMetaDestination = 4;
constexpr uint32_t kMetaDatagram = 8;

}  // namespace

/// What JavaScript gave; what is missing is undefined.
struct SocketCalls::Arguments {
  napi_env env;
  size_t count;
  napi_value values[kMaxArguments];

  [[nodiscard]] int Int(size_t index) const {
    int32_t value = 0;
    napi_get_value_int32(env, values[index], &value);
    return value;
  }
  [[nodiscard]] uint32_t Uint(size_t index) const { return static_cast<uint32_t>(Int(index)); }

  /// A batch: (memory, capacity, packetSize) from the first argument on, and of it packets `start` to `end`.
  bool Range(Batch* batch, uint32_t* start, uint32_t* end) const {
    *start = Uint(3);
    *end = Uint(4);
    return ReadBatch(env, values, batch) && *start <= *end && *end <= batch->capacity;
  }
};

napi_status SocketCalls::Define(napi_env env, napi_value object) {
  // Never transferred away: nobody but the socket's own code has it.
  void* memory = nullptr;
  napi_value details = nullptr;
  napi_status made = napi_create_arraybuffer(env, sizeof(PacketDetails), &memory, &details);
  if (made == napi_ok) made = napi_set_named_property(env, object, "details", details);
  if (made != napi_ok) return made;
  details_ = static_cast<PacketDetails*>(memory);
  const struct {
    const char* name;
    napi_callback callback;
  } functions[] = {
      {"receive", Call<&SocketCalls::Receive>},           {"send", Call<&SocketCalls::Send>},
      {"receiveBatch", Call<&SocketCalls::ReceiveBatch>}, {"sendBatch", Call<&SocketCalls::SendBatch>},
      {"putBack", Call<&SocketCalls::PutBack>},
  };
  for (const auto& [name, callback] : functions) {
    napi_value function = nullptr;
    napi_status status = napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, this, &function);
    if (status != napi_ok) return status;
    // Not to be changed: `this` must live as long as the function can be called.
    const napi_property_descriptor owner{"handle", nullptr, nullptr,      nullptr,
                                         nullptr,  object,  napi_default, nullptr};
    status = napi_define_properties(env, function, 1, &owner);
    if (status == napi_ok) status = napi_set_named_property(env, object, name, function);
    if (status != napi_ok) return status;
  }
  return napi_ok;
}

template <SocketCalls::Function function>
napi_value SocketCalls::Call(napi_env env, napi_callback_info info) {
  Arguments arguments;
  arguments.env = env;
  arguments.count = kMaxArguments;
  void* data = nullptr;
  napi_get_cb_info(env, info, &arguments.count, arguments.values, nullptr, &data);
  auto* self = static_cast<SocketCalls*>(data);
  HeldIo* io = self->io_->get();
  const SysResult result = io == nullptr ? -EBADF : (self->*function)(io, arguments);
  napi_value value = nullptr;
  napi_create_int32(env, static_cast<int32_t>(result), &value);
  return value;
}

/// receive(views, flags, timeoutMs)
SysResult SocketCalls::Receive(HeldIo* io, const Arguments& arguments) {
  Views views;
  const SysResult read = ReadViews(arguments.env, arguments.values[0], &views);
  if (read < 0) return read;
  const int flags = arguments.Int(1);
  return AttemptWhenReady(io, POLLIN, flags, arguments.Int(2),
                          [&] { return io->Receive(views.entries, views.count, flags, details_); });
}

/// send(views, flags, timeoutMs, meta | undefined): `meta` is a PacketMeta, with the virtio header and the
/// destination of the packet.
SysResult SocketCalls::Send(HeldIo* io, const Arguments& arguments) {
  Views views;
  const SysResult read = ReadViews(arguments.env, arguments.values[0], &views);
  if (read < 0) return read;
  PacketMeta meta;
  const void* given = arguments.count > 3 ? FixedArray(arguments.env, arguments.values[3], napi_uint8_array,
                                                       sizeof(PacketMeta))
                                          : nullptr;
  if (given != nullptr) std::memcpy(&meta, given, sizeof meta);
  const int flags = arguments.Int(1);
  return AttemptWhenReady(io, POLLOUT, flags, arguments.Int(2), [&] {
    return io->Send(views.entries, views.count, flags, given != nullptr ? &meta : nullptr);
  });
}

/// receiveBatch(memory, capacity, packetSize, limit, flags, timeoutMs)
SysResult SocketCalls::ReceiveBatch(HeldIo* io, const Arguments& arguments) {
  Batch batch;
  if (!ReadBatch(arguments.env, arguments.values, &batch)) return -EINVAL;
  batch.capacity = std::min(batch.capacity, arguments.Uint(3));
  const int flags = arguments.Int(4);
  return AttemptWhenReady(io, POLLIN, flags, arguments.Int(5),
                          [&] { return io->ReceiveBatch(batch, flags); });
}

/// sendBatch(memory, capacity, packetSize, start, end, flags, timeoutMs, kinds)
SysResult SocketCalls::SendBatch(HeldIo* io, const Arguments& arguments) {
  Batch batch;
  uint32_t start = 0;
  uint32_t end = 0;
  if (!arguments.Range(&batch, &start, &end)) return -EINVAL;
  const uint32_t kinds = arguments.Uint(7);
  batch.has_datagrams = (kinds & kMetaDatagram) != 0;
  batch.has_headers = !batch.has_datagrams && (kinds & kMetaOffload) != 0;
  batch.has_destinations = !batch.has_datagrams && (kinds & kMetaDestination) != 0;
  const int flags = arguments.Int(5);
  return AttemptWhenReady(io, POLLOUT, flags, arguments.Int(6),
                          [&] { return io->SendBatch(batch, start, end, flags); });
}

/// putBack(memory, capacity, packetSize, start, end): packets of a received batch that nobody took.
SysResult SocketCalls::PutBack(HeldIo* io, const Arguments& arguments) {
  Batch batch;
  uint32_t start = 0;
  uint32_t end = 0;
  return arguments.Range(&batch, &start, &end) ? io->PutBack(batch, start, end) : -EINVAL;
}

}  // namespace tunsock
