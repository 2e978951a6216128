#include "binding/link_binding.h"

#include <string>
#include <vector>

#include "binding/args.h"
#include "core/host/rtnetlink.h"

namespace tunsock {
namespace {

std::optional<uint32_t> OptionalUint(const Napi::Object& object, const char* key) {
  const Napi::Value value = object.Get(key);
  if (!value.IsNumber()) return std::nullopt;
  return value.As<Napi::Number>().Uint32Value();
}

std::optional<std::string> OptionalString(const Napi::Object& object, const char* key) {
  const Napi::Value value = object.Get(key);
  if (!value.IsString()) return std::nullopt;
  return value.As<Napi::String>().Utf8Value();
}

LinkSettings ReadSettings(const Napi::Value& value) {
  LinkSettings settings;
  if (!value.IsObject()) return settings;
  const Napi::Object object = value.As<Napi::Object>();
  settings.name = OptionalString(object, "name");
  settings.mac = OptionalString(object, "mac");
  settings.mtu = OptionalUint(object, "mtu");
  settings.tx_queue_length = OptionalUint(object, "txQueueLength");
  settings.master = OptionalUint(object, "master");
  const Napi::Value up = object.Get("up");
  if (up.IsBoolean()) settings.up = up.As<Napi::Boolean>().Value();
  const Napi::Value netns = object.Get("netns");
  if (netns.IsNumber()) settings.netns = netns.As<Napi::Number>().Int32Value();
  return settings;
}

Change ReadChange(const Napi::CallbackInfo& info) {
  return info[0].IsBoolean() && info[0].As<Napi::Boolean>().Value() ? Change::kAdd : Change::kRemove;
}

}  // namespace

Napi::Object LinkValue(Napi::Env env, const LinkInfo& link) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("index", link.index);
  object.Set("name", link.name);
  object.Set("type", link.kind);
  if (link.tun.has_value()) {
    Napi::Object tun = Napi::Object::New(env);
    tun.Set("packetInfo", link.tun->packet_info);
    tun.Set("queues", link.tun->queues);
    object.Set("tun", tun);
  }
  object.Set("flags", link.flags);
  object.Set("mtu", link.mtu);
  object.Set("mac", link.mac);
  object.Set("txQueueLength", link.tx_queue_length);
  object.Set("master", link.master);
  return object;
}

Napi::Object RouteValue(Napi::Env env, const RouteInfo& route) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("destination", route.destination.ToString());
  if (route.gateway.valid()) object.Set("gateway", route.gateway.ToString());
  if (route.source.valid()) object.Set("source", route.source.ToString());
  if (route.metric != 0) object.Set("metric", route.metric);
  return object;
}

namespace {

Napi::Object NeighbourValue(Napi::Env env, const NeighbourInfo& neighbour) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("address", neighbour.address.ToString());
  object.Set("mac", neighbour.mac);
  object.Set("state", static_cast<uint32_t>(neighbour.state));
  return object;
}

Napi::Object CountersValue(Napi::Env env, const rtnl_link_stats64& stats) {
  Napi::Object object = Napi::Object::New(env);
  const auto set = [&](const char* name, uint64_t value) { object.Set(name, static_cast<double>(value)); };
  set("rxPackets", stats.rx_packets);
  set("rxBytes", stats.rx_bytes);
  set("rxErrors", stats.rx_errors);
  set("rxDropped", stats.rx_dropped);
  set("txPackets", stats.tx_packets);
  set("txBytes", stats.tx_bytes);
  set("txErrors", stats.tx_errors);
  set("txDropped", stats.tx_dropped);
  set("multicast", stats.multicast);
  set("collisions", stats.collisions);
  return object;
}

/// An array of what `convert` makes of each record, or the negative errno that was met instead.
template <typename Record, typename Convert>
Napi::Value ListValue(Napi::Env env, SysResult result, const std::vector<Record>& records, Convert convert) {
  if (result < 0) return ResultValue(env, result);
  Napi::Array array = Napi::Array::New(env, records.size());
  for (uint32_t i = 0; i < records.size(); ++i) array.Set(i, convert(env, records[i]));
  return array;
}

/// Holds what the kernel said about the last request; no descriptor.
class LinkBinding : public Napi::ObjectWrap<LinkBinding> {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(env, "Rtnetlink",
                       {InstanceAccessor<&LinkBinding::KernelText>("kernelText"),
                        InstanceMethod<&LinkBinding::GetLink>("getLink"),
                        InstanceMethod<&LinkBinding::ListLinks>("listLinks"),
                        InstanceMethod<&LinkBinding::Counters>("counters"),
                        InstanceMethod<&LinkBinding::CreateLink>("createLink"),
                        InstanceMethod<&LinkBinding::ChangeLink>("changeLink"),
                        InstanceMethod<&LinkBinding::DeleteLink>("deleteLink"),
                        InstanceMethod<&LinkBinding::ChangeAddress>("changeAddress"),
                        InstanceMethod<&LinkBinding::ListAddresses>("listAddresses"),
                        InstanceMethod<&LinkBinding::ChangeRoute>("changeRoute"),
                        InstanceMethod<&LinkBinding::ListRoutes>("listRoutes"),
                        InstanceMethod<&LinkBinding::ChangeNeighbour>("changeNeighbour"),
                        InstanceMethod<&LinkBinding::ListNeighbours>("listNeighbours")});
  }

  explicit LinkBinding(const Napi::CallbackInfo& info) : Napi::ObjectWrap<LinkBinding>(info) {}

 private:
  Napi::Value KernelText(const Napi::CallbackInfo& info) {
    return Napi::String::New(info.Env(), rtnetlink_.kernel_text());
  }

  /// getLink(index, name): by name where the index is 0.
  Napi::Value GetLink(const Napi::CallbackInfo& info) {
    LinkInfo link;
    const SysResult result = rtnetlink_.GetLink(UintArg(info, 0), StringArg(info, 1), &link);
    return result < 0 ? ResultValue(info.Env(), result) : LinkValue(info.Env(), link);
  }

  Napi::Value ListLinks(const Napi::CallbackInfo& info) {
    std::vector<LinkInfo> links;
    const SysResult result = rtnetlink_.ListLinks(&links);
    return ListValue(info.Env(), result, links, LinkValue);
  }

  /// counters(index)
  Napi::Value Counters(const Napi::CallbackInfo& info) {
    LinkInfo link;
    const SysResult result = rtnetlink_.GetLink(UintArg(info, 0), {}, &link);
    return result < 0 ? ResultValue(info.Env(), result) : CountersValue(info.Env(), link.stats);
  }

  /// createLink(type, settings, peer | undefined, parent, vlanId)
  Napi::Value CreateLink(const Napi::CallbackInfo& info) {
    LinkSpec spec;
    spec.kind = StringArg(info, 0);
    spec.settings = ReadSettings(info[1]);
    spec.peer = ReadSettings(info[2]);
    spec.parent = UintArg(info, 3);
    spec.vlan_id = static_cast<uint16_t>(UintArg(info, 4));
    return ResultValue(info.Env(), rtnetlink_.CreateLink(spec));
  }

  /// changeLink(index, settings)
  Napi::Value ChangeLink(const Napi::CallbackInfo& info) {
    return ResultValue(info.Env(), rtnetlink_.ChangeLink(UintArg(info, 0), ReadSettings(info[1])));
  }

  /// deleteLink(index)
  Napi::Value DeleteLink(const Napi::CallbackInfo& info) {
    return ResultValue(info.Env(), rtnetlink_.DeleteLink(UintArg(info, 0)));
  }

  /// changeAddress(add, index, cidr)
  Napi::Value ChangeAddress(const Napi::CallbackInfo& info) {
    IpPrefix address;
    const SysResult result = IpPrefix::Parse(StringArg(info, 2), &address)
                                 ? rtnetlink_.ChangeAddress(ReadChange(info), UintArg(info, 1), address)
                                 : -EINVAL;
    return ResultValue(info.Env(), result);
  }

  /// listAddresses(index)
  Napi::Value ListAddresses(const Napi::CallbackInfo& info) {
    std::vector<IpPrefix> addresses;
    const SysResult result = rtnetlink_.ListAddresses(UintArg(info, 0), &addresses);
    return ListValue(info.Env(), result, addresses, [](Napi::Env env, const IpPrefix& address) {
      return Napi::String::New(env, address.ToString());
    });
  }

  /// changeRoute(add, index, destination, gateway | undefined, source | undefined, metric)
  Napi::Value ChangeRoute(const Napi::CallbackInfo& info) {
    RouteInfo route;
    bool parsed = IpPrefix::Parse(StringArg(info, 2), &route.destination);
    if (info[3].IsString()) parsed = parsed && IpAddress::Parse(StringArg(info, 3), &route.gateway);
    if (info[4].IsString()) parsed = parsed && IpAddress::Parse(StringArg(info, 4), &route.source);
    route.metric = UintArg(info, 5);
    return ResultValue(info.Env(),
                       parsed ? rtnetlink_.ChangeRoute(ReadChange(info), UintArg(info, 1), route) : -EINVAL);
  }

  /// listRoutes(index)
  Napi::Value ListRoutes(const Napi::CallbackInfo& info) {
    std::vector<RouteInfo> routes;
    const SysResult result = rtnetlink_.ListRoutes(UintArg(info, 0), &routes);
    return ListValue(info.Env(), result, routes, RouteValue);
  }

  /// changeNeighbour(add, index, address, mac)
  Napi::Value ChangeNeighbour(const Napi::CallbackInfo& info) {
    IpAddress address;
    const SysResult result =
        IpAddress::Parse(StringArg(info, 2), &address)
            ? rtnetlink_.ChangeNeighbour(ReadChange(info), UintArg(info, 1), address, StringArg(info, 3))
            : -EINVAL;
    return ResultValue(info.Env(), result);
  }

  /// listNeighbours(index)
  Napi::Value ListNeighbours(const Napi::CallbackInfo& info) {
    std::vector<NeighbourInfo> neighbours;
    const SysResult result = rtnetlink_.ListNeighbours(UintArg(info, 0), &neighbours);
    return ListValue(info.Env(), result, neighbours, NeighbourValue);
  }

  Rtnetlink rtnetlink_;
};

}  // namespace

void RegisterLinkBinding(Napi::Env env, Napi::Object exports) {
  exports.Set("Rtnetlink", LinkBinding::Define(env));
}

}  // namespace tunsock
