#pragma once

#include <napi.h>

#include "core/host/rtnetlink.h"

namespace tunsock {

/// As JavaScript sees them.
Napi::Object LinkValue(Napi::Env env, const LinkInfo& link);
Napi::Object RouteValue(Napi::Env env, const RouteInfo& route);

/// The class Rtnetlink: requests about links, addresses, routes and neighbours (src/ts/native.ts has its
/// face).
void RegisterLinkBinding(Napi::Env env, Napi::Object exports);

}  // namespace tunsock
