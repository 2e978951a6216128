#pragma once

#include <napi.h>

namespace tunsock {

/// The class MonitorHandle: hears of links, addresses and routes (src/ts/native.ts has its face).
void RegisterMonitorBinding(Napi::Env env, Napi::Object exports);

}  // namespace tunsock
