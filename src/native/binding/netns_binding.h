#pragma once

#include <napi.h>

namespace tunsock {

/// The class NetnsHandle: a network namespace, opened (src/ts/native.ts has its face).
void RegisterNetnsBinding(Napi::Env env, Napi::Object exports);

}  // namespace tunsock
