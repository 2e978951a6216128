#pragma once

#include <napi.h>

namespace tunsock {

/// openTun, adoptTun, openPacket, adoptPacket: what makes SocketHandles of devices.
void RegisterDeviceBinding(Napi::Env env, Napi::Object exports);

}  // namespace tunsock
