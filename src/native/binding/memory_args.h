#pragma once

#include <napi.h>

#include "core/io/packet_io.h"

namespace tunsock {

/// Readers for arguments that are memory of JavaScript: it stays in place for the length of the call, and is
/// as long as it says.

/// What one call gathers or scatters.
struct Views {
  iovec entries[kMaxViews];
  int count = 0;
};

/// One Uint8Array, or an array of them: 0, or a negative errno.
SysResult ReadViews(napi_env env, napi_value value, Views* views);

/// The memory of a PacketBatch, from three arguments: memory, capacity, packetSize.
bool ReadBatch(napi_env env, const napi_value* arguments, Batch* batch);

/// The bytes of a small typed array that native fills or reads; null when it is not of the size.
void* FixedArray(napi_env env, napi_value value, napi_typedarray_type wanted, size_t elements);

}  // namespace tunsock
