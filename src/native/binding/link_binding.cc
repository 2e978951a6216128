#include "binding/link_binding.h"

#include <string>
#include <vector>

#include "binding/args.h"
#include "binding/host_values.h"
#include "core/host/rtnetlink.h"

namespace tunsock {
namespace {

Change ReadChange(const Napi::CallbackInfo& info) {
  return info[0].IsBoolean() && info[0].As<Napi::Boolean>().Value() ? Change::kAdd : Change::kRemove;
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
                        InstanceMethod<&LinkBinding::ChangeAlternativeName>("changeAlternativeName"),
                        InstanceMethod<&LinkBinding::DeleteLink>("deleteLink"),
                        InstanceMethod<&LinkBinding::AddAddress>("addAddress"),
                        InstanceMethod<&LinkBinding::RemoveAddress>("removeAddress"),
                        InstanceMethod<&LinkBinding::HasAddress>("hasAddress"),
                        InstanceMethod<&LinkBinding::ListAddresses>("listAddresses"),
                        InstanceMethod<&LinkBinding::AddRoute>("addRoute"),
                        InstanceMethod<&LinkBinding::RemoveRoute>("removeRoute"),
                        InstanceMethod<&LinkBinding::HasRoute>("hasRoute"),
                        InstanceMethod<&LinkBinding::ListRoutes>("listRoutes"),
                        InstanceMethod<&LinkBinding::ChangeNeighbour>("changeNeighbour"),
                        InstanceMethod<&LinkBinding::ListNeighbours>("listNeighbours"),
                        InstanceMethod<&LinkBinding::AddRule>("addRule"),
                        InstanceMethod<&LinkBinding::RemoveRule>("removeRule"),
                        InstanceMethod<&LinkBinding::ListRules>("listRules"),
                        InstanceMethod<&LinkBinding::SetImpairment>("setImpairment")});
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

  /// createLink(spec, addresses)
  Napi::Value CreateLink(const Napi::CallbackInfo& info) {
    LinkSpec spec;
    std::vector<AddressSpec> addresses;
    LinkInfo made;
    Failure failure{-EINVAL, "RTM_NEWLINK"};
    if (ReadLinkSpec(info[0], &spec) && ReadAddressSpecs(info[1], &addresses)) {
      failure = rtnetlink_.CreateLink(spec, addresses, &made);
    }
    return failure.error < 0 ? FailureValue(info.Env(), failure) : LinkValue(info.Env(), made);
  }

  /// changeLink(index, settings)
  Napi::Value ChangeLink(const Napi::CallbackInfo& info) {
    return ResultValue(info.Env(), rtnetlink_.ChangeLink(UintArg(info, 0), ReadLinkSettings(info[1])));
  }

  /// changeAlternativeName(add, index, name)
  Napi::Value ChangeAlternativeName(const Napi::CallbackInfo& info) {
    return ResultValue(
        info.Env(), rtnetlink_.ChangeAlternativeName(ReadChange(info), UintArg(info, 1), StringArg(info, 2)));
  }

  /// deleteLink(index)
  Napi::Value DeleteLink(const Napi::CallbackInfo& info) {
    return ResultValue(info.Env(), rtnetlink_.DeleteLink(UintArg(info, 0)));
  }

  /// addAddress(index, spec)
  Napi::Value AddAddress(const Napi::CallbackInfo& info) {
    AddressSpec spec;
    const bool read = ReadAddressSpec(info[1], &spec);
    return ResultValue(info.Env(), read ? rtnetlink_.AddAddress(UintArg(info, 0), spec) : -EINVAL);
  }

  /// removeAddress(index, spec)
  Napi::Value RemoveAddress(const Napi::CallbackInfo& info) {
    AddressSpec spec;
    const bool read = ReadAddressSpec(info[1], &spec);
    return ResultValue(info.Env(), read ? rtnetlink_.RemoveAddress(UintArg(info, 0), spec) : -EINVAL);
  }

  /// hasAddress(index, spec): 1 or 0
  Napi::Value HasAddress(const Napi::CallbackInfo& info) {
    AddressSpec spec;
    const bool read = ReadAddressSpec(info[1], &spec);
    return ResultValue(info.Env(), read ? rtnetlink_.HasAddress(UintArg(info, 0), spec) : -EINVAL);
  }

  /// listAddresses(index)
  Napi::Value ListAddresses(const Napi::CallbackInfo& info) {
    std::vector<AddressInfo> addresses;
    const SysResult result = rtnetlink_.ListAddresses(UintArg(info, 0), &addresses);
    return ListValue(info.Env(), result, addresses, AddressValue);
  }

  /// addRoute(index, spec, replace)
  Napi::Value AddRoute(const Napi::CallbackInfo& info) {
    RouteSpec spec;
    const bool replace = info[2].IsBoolean() && info[2].As<Napi::Boolean>().Value();
    const bool read = ReadRouteSpec(info[1], &spec);
    return ResultValue(info.Env(), read ? rtnetlink_.AddRoute(UintArg(info, 0), spec, replace) : -EINVAL);
  }

  /// removeRoute(index, spec)
  Napi::Value RemoveRoute(const Napi::CallbackInfo& info) {
    RouteSpec spec;
    const bool read = ReadRouteSpec(info[1], &spec);
    return ResultValue(info.Env(), read ? rtnetlink_.RemoveRoute(UintArg(info, 0), spec) : -EINVAL);
  }

  /// hasRoute(index, spec): 1 or 0
  Napi::Value HasRoute(const Napi::CallbackInfo& info) {
    RouteSpec spec;
    const bool read = ReadRouteSpec(info[1], &spec);
    return ResultValue(info.Env(), read ? rtnetlink_.HasRoute(UintArg(info, 0), spec) : -EINVAL);
  }

  /// listRoutes(index, table | undefined)
  Napi::Value ListRoutes(const Napi::CallbackInfo& info) {
    std::optional<uint32_t> table;
    if (info[1].IsNumber()) table = UintArg(info, 1);
    std::vector<RouteInfo> routes;
    const SysResult result = rtnetlink_.ListRoutes(UintArg(info, 0), table, &routes);
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

  /// addRule(rule)
  Napi::Value AddRule(const Napi::CallbackInfo& info) {
    RuleInfo rule;
    return ResultValue(info.Env(), ReadRule(info[0], &rule) ? rtnetlink_.AddRule(rule) : -EINVAL);
  }

  /// removeRule(rule)
  Napi::Value RemoveRule(const Napi::CallbackInfo& info) {
    RuleInfo rule;
    return ResultValue(info.Env(), ReadRule(info[0], &rule) ? rtnetlink_.RemoveRule(rule) : -EINVAL);
  }

  Napi::Value ListRules(const Napi::CallbackInfo& info) {
    std::vector<RuleInfo> rules;
    const SysResult result = rtnetlink_.ListRules(&rules);
    return ListValue(info.Env(), result, rules, RuleValue);
  }

  /// setImpairment(index, impairment | undefined)
  Napi::Value SetImpairment(const Napi::CallbackInfo& info) {
    return ResultValue(info.Env(), rtnetlink_.SetImpairment(UintArg(info, 0), ReadImpairment(info[1])));
  }

  Rtnetlink rtnetlink_;
};

}  // namespace

void RegisterLinkBinding(Napi::Env env, Napi::Object exports) {
  exports.Set("Rtnetlink", LinkBinding::Define(env));
}

}  // namespace tunsock
