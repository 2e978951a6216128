#pragma once

#include <linux/filter.h>
#include <net/if.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "core/device/device.h"
#include "core/io/packet_socket_io.h"
#include "core/sys/failure.h"
#include "core/sys/unique_fd.h"

namespace tunsock {

/// How a packet socket is opened. Sizes of 0 leave the kernel's default.
struct PacketOptions {
  uint32_t interface_index = 0;
  uint16_t protocol = 0;  // EtherType, host order; 0 receives nothing
  bool datagram = false;  // SOCK_DGRAM: packets without their link header
  bool promiscuous = false;
  bool ignore_outgoing = false;
  bool auxdata = false;
  bool timestamps = false;
  bool qdisc_bypass = false;
  int receive_buffer = 0;
  int send_buffer = 0;
  std::optional<int> fanout;        // as PACKET_FANOUT takes it
  std::vector<sock_filter> filter;  // empty: none
  Destination destination;          // of a datagram socket's packets
};

/// An AF_PACKET socket that is bound to an interface: the options of net/packet/af_packet.c. packet(7).
class PacketDevice final : public Device {
 public:
  /// Opens a socket in the calling thread's network namespace. Nothing reaches its queue but what the options
  /// ask for. Changes `device` only when all went well.
  static Failure Open(const PacketOptions& options, PacketDevice* device);

  /// Takes over a packet socket that something else opened. Leaves `fd` with the caller when it fails:
  /// -ENOTSOCK for what is no packet socket.
  static Failure Adopt(int fd, PacketDevice* device);

  [[nodiscard]] int fd() const override { return fd_.get(); }
  /// "SO_RCVBUF", "SO_SNDBUF", "SO_TYPE", or "sll_ifindex": the index of the interface, 0 for all of them.
  SysResult Control(const std::string& request, int value) override;
  SysResult Name(std::string* name) const override;
  [[nodiscard]] SysResult NetworkNamespace() const override;
  int Release() override { return fd_.release(); }
  /// PACKET_VNET_HDR: on where anything is wanted. What comes in is as the interface has it.
  SysResult SetOffload(uint32_t wanted, bool shared) override;
  [[nodiscard]] size_t virtio_header() const override { return framing_.virtio_header; }
  SysResult PacketFraming(Framing* framing) const override;
  /// The mtu of the interface.
  [[nodiscard]] SysResult MaxIpPacket() const override;
  [[nodiscard]] std::unique_ptr<PacketIo> MakeIo() const override;

 private:
  Failure Configure(const PacketOptions& options) const;
  /// What an ioctl by the interface's name says of it.
  SysResult Interface(unsigned long what, ifreq* request) const;

  UniqueFd fd_;
  SocketFraming framing_;
};

}  // namespace tunsock
