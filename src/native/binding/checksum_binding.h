#pragma once

#include <napi.h>

namespace tunsock {

/// The function internetSum, for programs that build packets (src/ts/native.ts has its face).
void RegisterChecksumBinding(Napi::Env env, Napi::Object exports);

}  // namespace tunsock
