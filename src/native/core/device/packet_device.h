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

/// A group of packet sockets that share the packets of an interface.
struct FanoutGroup {
  uint32_t argument = 0;             // as PACKET_FANOUT takes it: number, mode and flags
  uint32_t members = 0;              // how many there may be; 0: the kernel's default
  std::vector<sock_filter> program;  // who gets a packet, where the mode is PACKET_FANOUT_CBPF
  int program_fd = -1;               // the same where it is PACKET_FANOUT_EBPF
};

/// How a packet socket is opened. Sizes of 0 leave the kernel's default.
struct PacketOptions {
  uint32_t interface_index = 0;
  uint16_t protocol = 0;  // EtherType, host order; 0 receives nothing
  bool datagram = false;  // SOCK_DGRAM: packets without their link header
  bool promiscuous = false;
  bool ignore_outgoing = false;
  bool auxdata = false;
  bool tags_inline = false;  // a frame's VLAN tag stands in its bytes
  bool original_device = false;
  bool timestamps = false;
  bool transmit_timestamps = false;
  bool qdisc_bypass = false;
  int receive_buffer = 0;
  int send_buffer = 0;
  std::optional<int> mark;
  std::optional<int> priority;
  std::optional<FanoutGroup> fanout;
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
  /// "SO_RCVBUF", "SO_SNDBUF", "SO_MARK", "SO_PRIORITY", and what sets them: "set SO_RCVBUF" and so on;
  /// "SO_TYPE", "PACKET_FANOUT", "set SO_LOCK_FILTER", or "sll_ifindex": the index of the interface, 0 for
  /// all of them.
  SysResult Control(const std::string& request, int value) override;
  SysResult Name(std::string* name) const override;
  [[nodiscard]] SysResult NetworkNamespace() const override;
  int Release() override { return fd_.release(); }
  int GiveBack() override;
  SysResult SetFilter(const std::vector<sock_filter>& program) override;
  SysResult ChangeMembership(bool add, uint16_t type, const uint8_t* address, size_t length) override;
  /// PACKET_VNET_HDR: on where anything is wanted. What comes in is as the interface has it.
  SysResult SetOffload(uint32_t wanted, bool shared) override;
  [[nodiscard]] size_t virtio_header() const override { return framing_.virtio_header; }
  /// PACKET_VNET_HDR_SZ (Linux 6.4) where there are virtio headers. -EOPNOTSUPP: a socket that is bound to no
  /// interface. The kernel refuses one without link headers itself.
  Failure PrepareVhost(bool shared, VhostFraming* framing) override;
  SysResult PacketFraming(Framing* framing) const override;
  /// The mtu of the interface.
  [[nodiscard]] SysResult MaxIpPacket() const override;
  [[nodiscard]] std::unique_ptr<PacketIo> MakeIo() const override;

 private:
  Failure Configure(const PacketOptions& options) const;
  Failure Join(const FanoutGroup& group) const;
  [[nodiscard]] std::vector<sock_filter> FilterFor(const std::vector<sock_filter>& filter) const;
  /// What an ioctl by the interface's name says of it.
  SysResult Interface(unsigned long what, ifreq* request) const;

  UniqueFd fd_;
  SocketFraming framing_;
  bool drops_outgoing_ = false;
  bool lacked_auxdata_ = false;
};

}  // namespace tunsock
