#pragma once

#include <napi.h>

namespace tunsock {

/// The class Rtnetlink: requests about links, addresses, routes and neighbours (src/ts/native.ts has its
/// face).
void RegisterLinkBinding(Napi::Env env, Napi::Object exports);

}  // namespace tunsock
