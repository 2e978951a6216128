#pragma once

#include "core/device/device.h"
#include "core/io/udp_io.h"
#include "core/sys/failure.h"
#include "core/sys/unique_fd.h"

namespace tunsock {

/// A UDP socket: udp(7), ip(7), ipv6(7). What Control() sets by its name is 'set SO_MARK', what it gives
/// 'SO_MARK'.
class UdpDevice final : public Device {
 public:
  /// Opens a socket in the calling thread's network namespace, which says of each datagram what UdpIo reads.
  static Failure Open(bool six, UdpDevice* device);

  /// Takes over a UDP socket that something else opened. Leaves `fd` with the caller when it fails:
  /// -ENOTSOCK for what is no UDP socket.
  static Failure Adopt(int fd, UdpDevice* device);

  [[nodiscard]] int fd() const override { return fd_.get(); }
  /// Also 'interface NAME' or 'interface 192.0.2.1': the index of that one, or of the one with that address.
  SysResult Control(const std::string& request, int value) override;
  /// 'bind', 'connect', 'disconnect' (and bind again), 'getsockname', 'getpeername', 'add membership' and
  /// 'drop membership' (of the group that is the address, on interface_index, from the source that is the
  /// local address where there is one), 'multicast interface' (interface_index).
  SysResult Address(const std::string& request, PacketMeta* meta) override;
  SysResult Name(std::string* name) const override;
  [[nodiscard]] SysResult NetworkNamespace() const override;
  int Release() override { return fd_.release(); }
  /// UDP_GRO; UDP_SEGMENT is asked for with each message.
  SysResult SetOffload(uint32_t wanted, bool shared) override;
  [[nodiscard]] size_t virtio_header() const override { return 0; }
  SysResult PacketFraming(Framing* /*framing*/) const override { return -EOPNOTSUPP; }
  [[nodiscard]] bool datagrams() const override { return true; }
  [[nodiscard]] SysResult MaxIpPacket() const override { return 0; }
  [[nodiscard]] std::unique_ptr<PacketIo> MakeIo() const override;

 private:
  /// Switches on what UdpIo reads.
  [[nodiscard]] Failure Describe() const;
  /// Has the network's errors told, with who told of them, as far as the socket has a peer.
  [[nodiscard]] SysResult DescribeErrors() const;
  [[nodiscard]] SysResult InterfaceIndex(const char* name) const;
  [[nodiscard]] SysResult Bind(const DatagramMeta& meta) const;
  SysResult Membership(bool add, const DatagramMeta& meta) const;

  UniqueFd fd_;
  UdpFraming framing_;
};

}  // namespace tunsock
