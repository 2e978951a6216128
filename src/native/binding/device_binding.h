#pragma once

#include <napi.h>

namespace tunsock {

/// openTun, adoptTun, openPacket, adoptPacket, openUdp, adoptUdp: what makes SocketHandles of devices.
void RegisterDeviceBinding(Napi::Env env, Napi::Object exports);

}  // namespace tunsock
