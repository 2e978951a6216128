#include "binding/host_values.h"

#include <linux/if_addr.h>

#include <string>

namespace tunsock {
namespace {

template <typename Number>
std::optional<Number> GetNumber(const Napi::Object& object, const char* key) {
  const Napi::Value value = object.Get(key);
  if (!value.IsNumber()) return std::nullopt;
  return static_cast<Number>(value.As<Napi::Number>().Int64Value());
}

double GetDouble(const Napi::Object& object, const char* key) {
  const Napi::Value value = object.Get(key);
  return value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : 0;
}

std::optional<std::string> GetString(const Napi::Object& object, const char* key) {
  const Napi::Value value = object.Get(key);
  if (!value.IsString()) return std::nullopt;
  return value.As<Napi::String>().Utf8Value();
}

std::optional<bool> GetBoolean(const Napi::Object& object, const char* key) {
  const Napi::Value value = object.Get(key);
  if (!value.IsBoolean()) return std::nullopt;
  return value.As<Napi::Boolean>().Value();
}

/// Leaves `address` alone where there is none.
bool GetAddress(const Napi::Object& object, const char* key, IpAddress* address) {
  const std::optional<std::string> text = GetString(object, key);
  return !text.has_value() || IpAddress::Parse(*text, address);
}

bool GetPrefix(const Napi::Object& object, const char* key, std::optional<IpPrefix>* prefix) {
  const std::optional<std::string> text = GetString(object, key);
  if (!text.has_value()) return true;
  IpPrefix parsed;
  if (!IpPrefix::Parse(*text, &parsed)) return false;
  *prefix = parsed;
  return true;
}

std::optional<Range> GetRange(const Napi::Object& object, const char* key) {
  const Napi::Value value = object.Get(key);
  if (!value.IsArray()) return std::nullopt;
  const Napi::Array pair = value.As<Napi::Array>();
  const auto at = [&](uint32_t i) { return pair.Get(i).ToNumber().Uint32Value(); };
  return Range{at(0), at(1)};
}

template <typename Value>
void SetOptional(Napi::Object* object, const char* key, const std::optional<Value>& value) {
  if (value.has_value()) object->Set(key, *value);
}

void SetByte(Napi::Object* object, const char* key, const std::optional<uint8_t>& value) {
  if (value.has_value()) object->Set(key, static_cast<uint32_t>(*value));
}

void SetAddress(Napi::Object* object, const char* key, const IpAddress& address) {
  if (address.valid()) object->Set(key, address.ToString());
}

void SetPrefix(Napi::Object* object, const char* key, const std::optional<IpPrefix>& prefix) {
  if (prefix.has_value()) object->Set(key, prefix->ToString());
}

void SetRange(Napi::Object* object, const char* key, const std::optional<Range>& range) {
  if (!range.has_value()) return;
  Napi::Array pair = Napi::Array::New(object->Env(), 2);
  pair.Set(0U, range->first);
  pair.Set(1U, range->last);
  object->Set(key, pair);
}

bool ReadHops(const Napi::Value& value, std::vector<NextHop>* hops) {
  if (!value.IsArray()) return true;
  const Napi::Array array = value.As<Napi::Array>();
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const Napi::Value element = array.Get(i);
    if (!element.IsObject()) return false;
    const Napi::Object object = element.As<Napi::Object>();
    NextHop hop;
    if (!GetAddress(object, "gateway", &hop.gateway)) return false;
    hop.index = GetNumber<uint32_t>(object, "index").value_or(0);
    hop.weight = GetNumber<uint32_t>(object, "weight").value_or(1);
    hop.onlink = GetBoolean(object, "onlink").value_or(false);
    hops->push_back(hop);
  }
  return true;
}

Napi::Value HopsValue(Napi::Env env, const std::vector<NextHop>& hops) {
  Napi::Array array = Napi::Array::New(env, hops.size());
  for (uint32_t i = 0; i < hops.size(); ++i) {
    Napi::Object object = Napi::Object::New(env);
    SetAddress(&object, "gateway", hops[i].gateway);
    object.Set("index", hops[i].index);
    object.Set("weight", hops[i].weight);
    if (hops[i].onlink) object.Set("onlink", true);
    array.Set(i, object);
  }
  return array;
}

}  // namespace

LinkSettings ReadLinkSettings(const Napi::Value& value) {
  LinkSettings settings;
  if (!value.IsObject()) return settings;
  const Napi::Object object = value.As<Napi::Object>();
  settings.name = GetString(object, "name");
  settings.mac = GetString(object, "mac");
  settings.mtu = GetNumber<uint32_t>(object, "mtu");
  settings.tx_queue_length = GetNumber<uint32_t>(object, "txQueueLength");
  settings.gso_max_size = GetNumber<uint32_t>(object, "gsoMaxSize");
  settings.master = GetNumber<uint32_t>(object, "master");
  settings.address_generation = GetNumber<uint8_t>(object, "addressGeneration");
  settings.up = GetBoolean(object, "up");
  settings.netns = GetNumber<int>(object, "netns");
  return settings;
}

bool ReadLinkSpec(const Napi::Value& value, LinkSpec* spec) {
  if (!value.IsObject()) return false;
  const Napi::Object object = value.As<Napi::Object>();
  spec->kind = GetString(object, "type").value_or("");
  spec->settings = ReadLinkSettings(object.Get("settings"));
  spec->peer = ReadLinkSettings(object.Get("peer"));
  spec->parent = GetNumber<uint32_t>(object, "link").value_or(0);
  spec->id = GetNumber<uint32_t>(object, "id");
  spec->mode = GetNumber<uint32_t>(object, "mode");
  spec->port = GetNumber<uint16_t>(object, "port");
  spec->ttl = GetNumber<uint8_t>(object, "ttl");
  spec->table = GetNumber<uint32_t>(object, "table").value_or(0);
  return GetAddress(object, "local", &spec->local) && GetAddress(object, "remote", &spec->remote);
}

bool ReadAddressSpec(const Napi::Value& value, AddressSpec* spec) {
  if (!value.IsObject()) return false;
  const Napi::Object object = value.As<Napi::Object>();
  spec->scope = GetNumber<uint8_t>(object, "scope");
  spec->label = GetString(object, "label");
  spec->valid_lifetime = GetNumber<uint32_t>(object, "validLifetime");
  spec->preferred_lifetime = GetNumber<uint32_t>(object, "preferredLifetime");
  spec->no_prefix_route = GetBoolean(object, "noPrefixRoute").value_or(false);
  return IpPrefix::Parse(GetString(object, "address").value_or(""), &spec->address) &&
         GetAddress(object, "peer", &spec->peer) && GetAddress(object, "broadcast", &spec->broadcast);
}

bool ReadAddressSpecs(const Napi::Value& value, std::vector<AddressSpec>* specs) {
  if (!value.IsArray()) return false;
  const Napi::Array array = value.As<Napi::Array>();
  for (uint32_t i = 0; i < array.Length(); ++i) {
    if (!ReadAddressSpec(array.Get(i), &specs->emplace_back())) return false;
  }
  return true;
}

bool ReadRouteSpec(const Napi::Value& value, RouteSpec* spec) {
  if (!value.IsObject()) return false;
  const Napi::Object object = value.As<Napi::Object>();
  spec->table = GetNumber<uint32_t>(object, "table");
  spec->metric = GetNumber<uint32_t>(object, "metric");
  spec->mtu = GetNumber<uint32_t>(object, "mtu");
  spec->type = GetNumber<uint8_t>(object, "type");
  spec->scope = GetNumber<uint8_t>(object, "scope");
  spec->tos = GetNumber<uint8_t>(object, "tos");
  spec->onlink = GetBoolean(object, "onlink");
  return IpPrefix::Parse(GetString(object, "destination").value_or(""), &spec->destination) &&
         GetPrefix(object, "from", &spec->from) && GetAddress(object, "source", &spec->source) &&
         GetAddress(object, "gateway", &spec->gateway) && ReadHops(object.Get("multipath"), &spec->hops);
}

bool ReadRule(const Napi::Value& value, RuleInfo* rule) {
  if (!value.IsObject()) return false;
  const Napi::Object object = value.As<Napi::Object>();
  rule->family = GetNumber<int>(object, "family").value_or(4) == 6 ? AF_INET6 : AF_INET;
  rule->priority = GetNumber<uint32_t>(object, "priority");
  rule->input = GetString(object, "interface");
  rule->output = GetString(object, "outputInterface");
  rule->mark = GetNumber<uint32_t>(object, "mark");
  rule->mask = GetNumber<uint32_t>(object, "mask");
  rule->table = GetNumber<uint32_t>(object, "table");
  rule->action = GetNumber<uint8_t>(object, "action");
  rule->target = GetNumber<uint32_t>(object, "goto");
  rule->suppress_prefix_length = GetNumber<uint32_t>(object, "suppressPrefixLength");
  rule->users = GetRange(object, "uidRange");
  rule->tos = GetNumber<uint8_t>(object, "tos");
  rule->protocol = GetNumber<uint8_t>(object, "protocol");
  rule->source_ports = GetRange(object, "sourcePorts");
  rule->destination_ports = GetRange(object, "destinationPorts");
  rule->invert = GetBoolean(object, "not");
  return GetPrefix(object, "from", &rule->from) && GetPrefix(object, "to", &rule->to);
}

std::optional<Impairment> ReadImpairment(const Napi::Value& value) {
  if (!value.IsObject()) return std::nullopt;
  const Napi::Object object = value.As<Napi::Object>();
  Impairment impairment;
  impairment.delay_ns = static_cast<uint64_t>(GetDouble(object, "delayNs"));
  impairment.jitter_ns = static_cast<uint64_t>(GetDouble(object, "jitterNs"));
  impairment.loss = GetDouble(object, "loss");
  impairment.duplicate = GetDouble(object, "duplicate");
  impairment.reorder = GetDouble(object, "reorder");
  impairment.rate_bytes = static_cast<uint64_t>(GetDouble(object, "rateBytes"));
  impairment.limit = GetNumber<uint32_t>(object, "limit").value_or(impairment.limit);
  return impairment;
}

Napi::Value LinkValue(Napi::Env env, const LinkInfo& link) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("index", link.index);
  object.Set("name", link.name);
  Napi::Array names = Napi::Array::New(env, link.alternative_names.size());
  for (uint32_t i = 0; i < link.alternative_names.size(); ++i) names.Set(i, link.alternative_names[i]);
  object.Set("alternativeNames", names);
  object.Set("type", link.kind);
  if (link.tun.has_value()) {
    Napi::Object tun = Napi::Object::New(env);
    tun.Set("packetInfo", link.tun->packet_info);
    if (link.tun->owner.has_value()) tun.Set("owner", *link.tun->owner);
    if (link.tun->group.has_value()) tun.Set("group", *link.tun->group);
    tun.Set("persist", link.tun->persist);
    tun.Set("queues", link.tun->queues);
    tun.Set("disabledQueues", link.tun->disabled_queues);
    object.Set("tun", tun);
  }
  object.Set("flags", link.flags);
  object.Set("hardwareType", link.hardware_type);
  object.Set("mtu", link.mtu);
  object.Set("mac", link.mac);
  object.Set("txQueueLength", link.tx_queue_length);
  object.Set("gsoMaxSize", link.gso_max_size);
  object.Set("master", link.master);
  SetByte(&object, "addressGeneration", link.address_generation);
  return object;
}

Napi::Value CountersValue(Napi::Env env, const rtnl_link_stats64& stats) {
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

Napi::Value AddressValue(Napi::Env env, const AddressInfo& address) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("address", address.address.ToString());
  SetAddress(&object, "peer", address.peer);
  SetAddress(&object, "broadcast", address.broadcast);
  object.Set("scope", static_cast<uint32_t>(address.scope));
  if (!address.label.empty()) object.Set("label", address.label);
  if (address.valid_lifetime != kForever) object.Set("validLifetime", address.valid_lifetime);
  if (address.preferred_lifetime != kForever) object.Set("preferredLifetime", address.preferred_lifetime);
  if ((address.flags & IFA_F_NOPREFIXROUTE) != 0) object.Set("noPrefixRoute", true);
  return object;
}

Napi::Value NeighbourValue(Napi::Env env, const NeighbourInfo& neighbour) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("address", neighbour.address.ToString());
  object.Set("mac", neighbour.mac);
  object.Set("state", static_cast<uint32_t>(neighbour.state));
  return object;
}

Napi::Value RouteValue(Napi::Env env, const RouteInfo& route) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("destination", route.destination.ToString());
  if (route.from.length != 0) object.Set("from", route.from.ToString());
  SetAddress(&object, "source", route.source);
  object.Set("table", route.table);
  if (route.metric != 0) object.Set("metric", route.metric);
  if (route.mtu != 0) object.Set("mtu", route.mtu);
  if (route.tos != 0) object.Set("tos", static_cast<uint32_t>(route.tos));
  object.Set("type", static_cast<uint32_t>(route.type));
  object.Set("scope", static_cast<uint32_t>(route.scope));
  if (route.hops.size() > 1) {
    object.Set("multipath", HopsValue(env, route.hops));
  } else if (!route.hops.empty()) {
    SetAddress(&object, "gateway", route.hops[0].gateway);
    if (route.hops[0].onlink) object.Set("onlink", true);
  }
  return object;
}

Napi::Value RuleValue(Napi::Env env, const RuleInfo& rule) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("family", rule.family == AF_INET6 ? 6 : 4);
  SetOptional(&object, "priority", rule.priority);
  SetPrefix(&object, "from", rule.from);
  SetPrefix(&object, "to", rule.to);
  SetOptional(&object, "interface", rule.input);
  SetOptional(&object, "outputInterface", rule.output);
  SetOptional(&object, "mark", rule.mark);
  SetOptional(&object, "mask", rule.mask);
  SetOptional(&object, "table", rule.table);
  SetByte(&object, "action", rule.action);
  SetOptional(&object, "goto", rule.target);
  SetOptional(&object, "suppressPrefixLength", rule.suppress_prefix_length);
  SetRange(&object, "uidRange", rule.users);
  SetByte(&object, "tos", rule.tos);
  SetByte(&object, "protocol", rule.protocol);
  SetRange(&object, "sourcePorts", rule.source_ports);
  SetRange(&object, "destinationPorts", rule.destination_ports);
  if (rule.invert.value_or(false)) object.Set("not", true);
  return object;
}

}  // namespace tunsock
