#include "binding/packet_args.h"

#include <cstring>
#include <utility>

namespace tunsock {
namespace {

/// Words of one instruction in `filter`: code, jt, jf, k.
constexpr size_t kInstructionWords = 4;

uint32_t UintOf(const Napi::Object& object, const char* key) {
  const Napi::Value value = object.Get(key);
  return value.IsNumber() ? value.As<Napi::Number>().Uint32Value() : 0;
}

bool FlagOf(const Napi::Object& object, const char* key) {
  const Napi::Value value = object.Get(key);
  return value.IsBoolean() && value.As<Napi::Boolean>().Value();
}

std::optional<int> IntOf(const Napi::Object& object, const char* key) {
  if (!object.Get(key).IsNumber()) return std::nullopt;
  return static_cast<int>(UintOf(object, key));
}

bool ReadFanout(const Napi::Value& value, std::optional<FanoutGroup>* fanout) {
  if (!value.IsObject()) return true;
  const auto object = value.As<Napi::Object>();
  FanoutGroup group;
  group.argument = UintOf(object, "argument");
  group.members = UintOf(object, "members");
  group.program_fd = IntOf(object, "programFd").value_or(-1);
  if (!ReadFilter(object.Get("program"), &group.program)) return false;
  *fanout = std::move(group);
  return true;
}

}  // namespace

bool ReadFilter(const Napi::Value& value, std::vector<sock_filter>* filter) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint32_array)
    return false;
  const auto words = value.As<Napi::Uint32Array>();
  const size_t count = words.ElementLength() / kInstructionWords;
  if (count > BPF_MAXINSNS) return false;
  for (size_t i = 0; i < count; ++i) {
    const uint32_t* at = words.Data() + i * kInstructionWords;
    filter->push_back(
        {static_cast<uint16_t>(at[0]), static_cast<uint8_t>(at[1]), static_cast<uint8_t>(at[2]), at[3]});
  }
  return true;
}

Napi::Value FilterValue(Napi::Env env, const std::vector<sock_filter>& filter) {
  Napi::Uint32Array words = Napi::Uint32Array::New(env, filter.size() * kInstructionWords);
  for (size_t i = 0; i < filter.size(); ++i) {
    uint32_t* at = words.Data() + i * kInstructionWords;
    at[0] = filter[i].code;
    at[1] = filter[i].jt;
    at[2] = filter[i].jf;
    at[3] = filter[i].k;
  }
  return words;
}

bool ReadDestination(const Napi::Value& address, const Napi::Value& protocol, Destination* destination) {
  if (protocol.IsNumber())
    destination->protocol = static_cast<uint16_t>(protocol.As<Napi::Number>().Uint32Value());
  if (address.IsUndefined()) return true;
  if (!address.IsTypedArray() || address.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array)
    return false;
  const auto bytes = address.As<Napi::Uint8Array>();
  if (bytes.ByteLength() > sizeof destination->address) return false;
  destination->length = static_cast<uint8_t>(bytes.ByteLength());
  // An empty array may have no memory at all, which memcpy(3) does not take.
  if (destination->length != 0) std::memcpy(destination->address, bytes.Data(), destination->length);
  return true;
}

bool ReadPacketOptions(const Napi::Value& value, PacketOptions* options) {
  if (!value.IsObject()) return false;
  const auto object = value.As<Napi::Object>();
  options->interface_index = UintOf(object, "interfaceIndex");
  options->protocol = static_cast<uint16_t>(UintOf(object, "protocol"));
  options->datagram = FlagOf(object, "datagram");
  options->promiscuous = FlagOf(object, "promiscuous");
  options->ignore_outgoing = FlagOf(object, "ignoreOutgoing");
  options->auxdata = FlagOf(object, "auxdata");
  options->tags_inline = FlagOf(object, "tagsInline");
  options->original_device = FlagOf(object, "originalDevice");
  options->timestamps = FlagOf(object, "timestamps");
  options->transmit_timestamps = FlagOf(object, "transmitTimestamps");
  options->qdisc_bypass = FlagOf(object, "qdiscBypass");
  options->receive_buffer = static_cast<int>(UintOf(object, "receiveBuffer"));
  options->send_buffer = static_cast<int>(UintOf(object, "sendBuffer"));
  options->mark = IntOf(object, "mark");
  options->priority = IntOf(object, "priority");
  return ReadFanout(object.Get("fanout"), &options->fanout) &&
         ReadFilter(object.Get("filter"), &options->filter) &&
         ReadDestination(object.Get("address"), object.Get("addressProtocol"), &options->destination);
}

}  // namespace tunsock
