#pragma once

#include <napi.h>

#include "core/host/rtnetlink.h"

namespace tunsock {

/// What core/host takes and gives, as objects of JavaScript: their shapes are in src/ts/native.ts. Reading
/// returns false for a text that is no address.

LinkSettings ReadLinkSettings(const Napi::Value& value);
bool ReadLinkSpec(const Napi::Value& value, LinkSpec* spec);
bool ReadAddressSpec(const Napi::Value& value, AddressSpec* spec);
bool ReadAddressSpecs(const Napi::Value& value, std::vector<AddressSpec>* specs);
bool ReadRouteSpec(const Napi::Value& value, RouteSpec* spec);
bool ReadRule(const Napi::Value& value, RuleInfo* rule);
std::optional<Impairment> ReadImpairment(const Napi::Value& value);

Napi::Value LinkValue(Napi::Env env, const LinkInfo& link);
Napi::Value CountersValue(Napi::Env env, const rtnl_link_stats64& stats);
Napi::Value AddressValue(Napi::Env env, const AddressInfo& address);
Napi::Value NeighbourValue(Napi::Env env, const NeighbourInfo& neighbour);
Napi::Value RouteValue(Napi::Env env, const RouteInfo& route);
Napi::Value RuleValue(Napi::Env env, const RuleInfo& rule);

}  // namespace tunsock
