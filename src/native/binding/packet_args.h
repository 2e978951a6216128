#pragma once

#include <napi.h>

#include "core/device/packet_device.h"

namespace tunsock {

/// A hardware address (Uint8Array of at most 8 bytes; undefined is none) and an EtherType.
bool ReadDestination(const Napi::Value& address, const Napi::Value& protocol, Destination* destination);

/// A classic BPF program (Uint32Array, four words an instruction: code, jt, jf, k); false where it is none.
bool ReadFilter(const Napi::Value& value, std::vector<sock_filter>* filter);
Napi::Value FilterValue(Napi::Env env, const std::vector<sock_filter>& filter);

/// What openPacket is given (PacketSettings in src/ts/native.ts); false where memory would not be as it says.
bool ReadPacketOptions(const Napi::Value& value, PacketOptions* options);

}  // namespace tunsock
