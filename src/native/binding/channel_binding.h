#pragma once

#include <napi.h>

namespace tunsock {

/// The class ChannelHandle: passes descriptors to other processes; and setCloseOnExec (src/ts/native.ts has
/// their face).
void RegisterChannelBinding(Napi::Env env, Napi::Object exports);

}  // namespace tunsock
