#pragma once

#include <string>
#include <vector>

#include "core/device/device.h"
#include "core/io/tun_io.h"
#include "core/sys/failure.h"
#include "core/sys/sys_result.h"
#include "core/sys/unique_fd.h"

namespace tunsock {

/// A descriptor of /dev/net/tun that is attached to a device: the ioctls of drivers/net/tun.c.
class TunDevice final : public Device {
 public:
  /// Opens `path` and attaches to the device that `name` and `flags` (IFF_TUN, IFF_TAP, IFF_NO_PI, ...) name,
  /// in the calling thread's network namespace. `name` may hold one %d. Changes `device` only when all went
  /// well. A new device gets `index`, unless that is 0 (TUNSETIFINDEX).
  static Failure Open(const char* path, const std::string& name, uint16_t flags, int index,
                      TunDevice* device);

  /// What the driver behind `path` has (TUNGETFEATURES): IFF_*. Attaches to nothing.
  static Failure Features(const char* path, uint32_t* flags);

  /// Tells the interface of a descriptor that something else opened, and its network namespace where that can
  /// be had: -ENOTSOCK for what is no tun descriptor, -EBADFD for one that is not attached.
  static Failure Inspect(int fd, std::string* name, UniqueFd* netns);

  /// Takes over a descriptor that Inspect found good, and makes it O_NONBLOCK; leaves it with the caller when
  /// it fails. `packet_info` is what rtnetlink says (IFLA_TUN_PI).
  static Failure Adopt(int fd, bool packet_info, TunDevice* device);

  /// One of the ioctls that take or give an int, by its name ("TUNSETPERSIST"); TUNSETQUEUE takes
  /// IFF_DETACH_QUEUE or IFF_ATTACH_QUEUE, and TUNGETIFF gives the flags. A TUNSETVNETHDRSZ holds against
  /// SetOffload, and goes before it.
  SysResult Control(const std::string& request, int value) override;

  /// TUNATTACHFILTER, TUNDETACHFILTER; -EINVAL on what is no tap. What is queued stays queued.
  SysResult SetFilter(const std::vector<sock_filter>& program) override;

  /// The program of SetFilter; empty without one. The kernel tells its address and length only
  /// (TUNGETFILTER): -EBUSY when the last one to set a filter was somebody else.
  SysResult GetFilter(std::vector<sock_filter>* program) const override;

  /// TUNSETTXFILTER: `addresses` are of six bytes each.
  SysResult SetTransmitFilter(uint16_t flags, const std::vector<uint8_t>& addresses) override;

  /// TUNSETOFFLOAD, and TUNSETVNETHDRSZ on a device with IFF_VNET_HDR.
  SysResult SetOffload(uint32_t wanted, bool shared) override;
  [[nodiscard]] size_t virtio_header() const override { return framing_.virtio_header; }
  /// TUNSETVNETHDRSZ, which is of all queues, and in tun mode TUNSETSNDBUF. -EBUSY: other queues have
  /// headers of another size. -EINVAL: there is packet info.
  Failure PrepareVhost(bool shared, VhostFraming* framing) override;
  void LeaveVhost() override;
  SysResult PacketFraming(Framing* framing) const override;
  [[nodiscard]] SysResult MaxIpPacket() const override { return 0; }
  [[nodiscard]] std::unique_ptr<PacketIo> MakeIo() const override;

  /// -EBADFD when the device is gone.
  SysResult Name(std::string* name) const override;

  /// TUNGETDEVNETNS.
  [[nodiscard]] SysResult NetworkNamespace() const override;

  [[nodiscard]] int fd() const override { return fd_.get(); }
  int Release() override { return fd_.release(); }
  /// With the O_NONBLOCK that it had.
  int GiveBack() override;

 private:
  Failure ReadFraming(bool packet_info);
  SysResult SetHeaderSize(size_t bytes);

  UniqueFd fd_;
  TunFraming framing_;
  bool header_chosen_ = false;
  /// The kernel keeps its address, and reads it again when a queue is attached that is not to skip it. A move
  /// keeps it in place.
  std::vector<sock_filter> filter_;
  bool limited_ = false;  // PrepareVhost() has set the send buffer, which was at its default
  int status_ = -1;       // the flags of a descriptor that was taken over, as they were
};

}  // namespace tunsock
