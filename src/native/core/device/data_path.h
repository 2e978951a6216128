#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "core/device/device.h"
#include "core/io/held_io.h"
#include "core/sys/failure.h"

namespace tunsock {

/// Whether packets go by the kernel's thread and rings (core/io/vhost_io.h).
struct VhostChoice {
  std::string path;
  uint32_t ring_size = 0;
  /// Without it what can't be had is done without.
  bool required = true;
};

/// How packets go between a device and its socket.
struct DataPathOptions {
  /// What the device may hand over unfinished, and takes unfinished (TUN_F_*); absent: as it is set up.
  std::optional<uint32_t> offload;
  /// Packets are whole: superpackets are cut and made on the way.
  bool split = false;
  /// Other sockets move packets of the same device, and how it is set up is theirs too.
  bool shared = false;
  std::optional<VhostChoice> vhost;
};

/// What moves the packets of a device, and how.
struct DataPath {
  std::unique_ptr<HeldIo> io;
  uint32_t offload = 0;  // what of it is in force (TUN_F_*)
  bool vhost = false;
};

/// Sets the device up for `options`, and makes what moves its packets; the one place where an io is put
/// together. The failure's syscall is empty where the device refuses the offload. Changes `path` only when
/// all went well.
Failure OpenDataPath(Device* device, const DataPathOptions& options, DataPath* path);

}  // namespace tunsock
