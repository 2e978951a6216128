#pragma once

#include <linux/filter.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/io/packet_io.h"
#include "core/io/vhost_io.h"
#include "core/offload/packet_view.h"
#include "core/sys/failure.h"
#include "core/sys/sys_result.h"

namespace tunsock {

/// A descriptor that moves the packets of an interface, and what can be asked of it besides.
class Device {
 public:
  Device() = default;
  Device(Device&&) = default;
  Device& operator=(Device&&) = default;
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  virtual ~Device() = default;

  /// -1 once released or closed.
  [[nodiscard]] virtual int fd() const = 0;

  /// Makes a request that takes or gives an int, by its name ("TUNSETPERSIST", "SO_RCVBUF"). Returns 0, or
  /// for one that gets a value that value; -ENOENT for a name that is none.
  virtual SysResult Control(const std::string& request, int value) = 0;

  /// Makes a request that takes or gives an address, by its name ("getsockname"). Returns 0; -ENOENT for a
  /// name that is none.
  virtual SysResult Address(const std::string& /*request*/, PacketMeta* /*meta*/) { return -ENOENT; }

  /// The interface's name, which another program can change; a negative errno when the interface is gone.
  virtual SysResult Name(std::string* name) const = 0;

  /// The network namespace of the interface, as a descriptor that the caller owns.
  [[nodiscard]] virtual SysResult NetworkNamespace() const = 0;

  /// Switches virtio headers on or off, and says what the device may hand over unfinished: as much of
  /// `wanted` (TUN_F_*) as the kernel has. Returns what that is. `shared`: other sockets move packets of the
  /// same device, and the size of the header is theirs too. An io must be made anew after it.
  virtual SysResult SetOffload(uint32_t wanted, bool shared) = 0;

  /// Bytes of virtio header before each packet of the descriptor; 0 for none.
  [[nodiscard]] virtual size_t virtio_header() const = 0;

  /// Whether what it moves are datagrams of a UDP socket, and what is to be cut is several of one length.
  [[nodiscard]] virtual bool datagrams() const { return false; }

  /// Gets the descriptor ready to stand behind vhost-net, after SetOffload(), and says how it is framed then.
  /// `shared`: as there. -EOPNOTSUPP in "vhost" for what can't stand there.
  virtual Failure PrepareVhost(bool /*shared*/, VhostFraming* /*framing*/) { return {-EOPNOTSUPP, "vhost"}; }

  /// Undoes what PrepareVhost() did, for when nothing came of it; but for the virtio header's size, which
  /// SetOffload() sets.
  virtual void LeaveVhost() {}

  /// What packets start with; -EOPNOTSUPP for a link header that tunsock can't look behind.
  virtual SysResult PacketFraming(Framing* framing) const = 0;

  /// The longest IP packet that may be sent, in bytes, where the device itself cuts nothing and refuses
  /// nothing; 0 where any length is right.
  [[nodiscard]] virtual SysResult MaxIpPacket() const = 0;

  /// What moves the packets of the descriptor, as the device is framed now; null without memory for it. The
  /// device must outlive it.
  [[nodiscard]] virtual std::unique_ptr<PacketIo> MakeIo() const = 0;

  /// Gives up the descriptor without closing it.
  virtual int Release() = 0;

  /// The same for one that was taken over, by somebody who failed after it: what taking it over has changed
  /// about it is as before.
  virtual int GiveBack() { return Release(); }

  /// Sets the classic BPF program that says what is received, or with an empty one removes it. What came
  /// before is thrown away. When it fails, the program before is in force.
  virtual SysResult SetFilter(const std::vector<sock_filter>& /*program*/) { return -EOPNOTSUPP; }

  /// The program that SetFilter has set, empty without one, where the device can tell.
  virtual SysResult GetFilter(std::vector<sock_filter>* /*program*/) const { return -EOPNOTSUPP; }

  /// Says which hardware addresses frames must be for that the host sends to the device; with none all pass.
  virtual SysResult SetTransmitFilter(uint16_t /*flags*/, const std::vector<uint8_t>& /*addresses*/) {
    return -EOPNOTSUPP;
  }

  /// Adds or drops what the interface receives beside what is for it: PACKET_MR_* of packet(7).
  virtual SysResult ChangeMembership(bool /*add*/, uint16_t /*type*/, const uint8_t* /*address*/,
                                     size_t /*length*/) {
    return -EOPNOTSUPP;
  }
};

}  // namespace tunsock
