#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "core/sys/failure.h"
#include "core/sys/unique_fd.h"
#include "core/vhost/vring.h"

namespace tunsock {

/// Which of the two rings of a vhost-net device (VHOST_NET_VQ_*); the names are the driver's view.
enum class VhostQueue : uint32_t { kReceive = 0, kSend = 1 };

/// A descriptor of /dev/vhost-net: the kernel's thread that moves packets between rings in this process's
/// memory and a socket (drivers/vhost/net.c, linux/vhost.h). The thread reads and writes the memory that was
/// shared with it until the backend is off or the device closed: close it before that memory goes.
class VhostDevice {
 public:
  VhostDevice() = default;
  VhostDevice(VhostDevice&&) = default;
  VhostDevice& operator=(VhostDevice&&) = default;
  VhostDevice(const VhostDevice&) = delete;
  VhostDevice& operator=(const VhostDevice&) = delete;
  ~VhostDevice() = default;

  /// Opens `path` and settles what both sides speak: rings of virtio 1 with the event index and merged
  /// receive buffers. `own_header`: the socket behind it has no virtio header of its own, so that vhost
  /// strips and adds one. -EOPNOTSUPP in VHOST_GET_FEATURES: the kernel has less than that. Changes `device`
  /// only when all went well.
  static Failure Open(const char* path, bool own_header, VhostDevice* device);

  /// Lets the kernel see `bytes` bytes at `memory`, in which rings and buffers lie, at the addresses that
  /// they have here. Once, before SetRing().
  Failure ShareMemory(const void* memory, size_t bytes);

  /// Hands over a ring of which nothing is used yet.
  Failure SetRing(VhostQueue queue, const Vring& ring);

  /// Puts a socket behind both rings: the descriptor of an attached tun device, or of a bound packet socket.
  /// Packets move from here on. All or nothing.
  ///
  /// A tun device in tun mode wants its send buffer below INT_MAX first (TUNSETSNDBUF): with the default
  /// every packet is lost without an error, since vhost's batches go through code that takes them for
  /// Ethernet (tun_xdp_one()).
  Failure SetBackend(int fd);

  /// Takes it off again; behind this the kernel touches neither the rings nor the socket. Not an error where
  /// there is none.
  void RemoveBackend();

  /// Tells the kernel's thread to look at the ring; for when Vring::Publish() says so.
  void Kick(VhostQueue queue);
  /// Readable when the kernel has told of what came back to either ring (Vring::EnableCalls()); until
  /// ClearCall().
  [[nodiscard]] int call_fd() const { return call_.get(); }
  void ClearCall();

  /// Of the device; -1 when closed.
  [[nodiscard]] int fd() const { return fd_.get(); }
  void Close();

 private:
  SysResult SetBackend(VhostQueue queue, int fd);

  UniqueFd fd_;
  UniqueFd call_;
  std::array<UniqueFd, 2> kicks_;
};

}  // namespace tunsock
