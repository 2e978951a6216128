#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "core/device/device.h"
#include "core/io/held_io.h"

namespace tunsock {

/// How packets go between a device and its socket.
struct DataPathOptions {
  /// What the device may hand over unfinished, and takes unfinished (TUN_F_*); absent: as it is set up.
  std::optional<uint32_t> offload;
  /// Packets are whole: superpackets are cut and made on the way.
  bool split = false;
  /// Other sockets move packets of the same device, and how it is set up is theirs too.
  bool shared = false;
};

/// Sets the device up for `options`, and makes what moves its packets; the one place where an io is put
/// together. Returns what of the offload is in force, or a negative errno, and then `path` is as it was.
SysResult OpenDataPath(Device* device, const DataPathOptions& options, std::unique_ptr<HeldIo>* path);

}  // namespace tunsock
