#include <linux/if_tun.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "core/vhost/packet_rings.h"
#include "core/vhost/vhost_device.h"

// Moves packets through vhost-net and the rings of core/vhost, over a descriptor that it got as its number 3;
// what a test of the guest wants to see of it is printed as JSON.
//
//   ring_traffic echo OPTIONS         sends each IP packet back with its addresses exchanged, until stdin
//   ends ring_traffic send OPTIONS N HEX   sends N times the packet HEX, as fast as the ring takes it
//
// OPTIONS: letters. 'h': the descriptor has virtio headers of its own; 's': a send buffer below INT_MAX; 'e':
// IP packets lie behind Ethernet headers; '-': none of these.

namespace tunsock {
namespace {

constexpr int kDescriptor = 3;
constexpr uint32_t kRingSize = 256;
constexpr uint32_t kBufferBytes = 2048;
constexpr int kMaxWait = 20000;

struct Report {
  uint64_t received = 0;
  uint64_t sent = 0;
  uint64_t longest = 0;
  uint64_t kicks = 0;
  uint64_t calls = 0;
};

[[noreturn]] void Fail(const Failure& failure) {
  std::printf("{\"error\":%d,\"step\":\"%s\"}\n", static_cast<int>(-failure.error), failure.syscall);
  std::exit(0);
}

void OrFail(const Failure& failure) {
  if (failure.error < 0) Fail(failure);
}

SysResult OrFail(SysResult result, const char* step) {
  if (result < 0) Fail({result, step});
  return result;
}

/// Both rings and their buffers, in one mapping.
class Memory {
 public:
  Memory() {
    void* mapped = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) Fail({-errno, "mmap"});
    start_ = static_cast<uint8_t*>(mapped);
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() { ::munmap(start_, kBytes); }

  [[nodiscard]] uint8_t* ring(int number) const { return start_ + static_cast<size_t>(number) * kRingBytes; }
  [[nodiscard]] uint8_t* buffers(int number) const {
    return start_ + 2 * kRingBytes + static_cast<size_t>(number) * kBufferArea;
  }
  [[nodiscard]] const uint8_t* start() const { return start_; }

  static constexpr size_t kRingBytes = 8192;
  static constexpr size_t kBufferArea = size_t{kRingSize} * kBufferBytes;
  static constexpr size_t kBytes = 2 * (kRingBytes + kBufferArea);

 private:
  uint8_t* start_;
};

class Traffic {
 public:
  explicit Traffic(const std::string& options) : ethernet_(options.find('e') != std::string::npos) {
    const bool own_header = options.find('h') == std::string::npos;
    OrFail(VhostDevice::Open("/dev/vhost-net", own_header, &device_));
    OrFail(device_.ShareMemory(memory_.start(), Memory::kBytes));
    OrFail(device_.SetRing(VhostQueue::kReceive, receive_.ring()));
    OrFail(device_.SetRing(VhostQueue::kSend, send_.ring()));
    if (!own_header) {
      int size = kRingPacketHeader;
      OrFail(CallOnce([&] { return ::ioctl(kDescriptor, TUNSETVNETHDRSZ, &size); }), "TUNSETVNETHDRSZ");
    }
    if (options.find('s') != std::string::npos) {
      int size = 0x7ffffffe;
      OrFail(CallOnce([&] { return ::ioctl(kDescriptor, TUNSETSNDBUF, &size); }), "TUNSETSNDBUF");
    }
    (void)receive_.ring().Publish();
    OrFail(device_.SetBackend(kDescriptor));
    device_.Kick(VhostQueue::kReceive);
  }

  void Echo() {
    for (;;) {
      while (EchoOne()) {
      }
      Flush(VhostQueue::kReceive, &receive_.ring());
      Flush(VhostQueue::kSend, &send_.ring());
      if (OrFail(receive_.ring().EnableCalls(), "EnableCalls") != 0) continue;
      if (!Wait(VhostQueue::kReceive, true)) break;
    }
    Finish();
  }

  void Send(uint64_t count, const std::vector<uint8_t>& packet) {
    for (uint64_t left = count; left > 0; --left) {
      Put(packet.data(), packet.size(), kNothing);
      if (left % 64 == 0) Flush(VhostQueue::kSend, &send_.ring());
    }
    Finish();
  }

 private:
  static constexpr uint8_t kNothing[kRingPacketHeader] = {};

  bool EchoOne() {
    RingPacket packet;
    if (OrFail(receive_.Next(&packet), "Next") == 0) return false;
    report_.received++;
    report_.longest = std::max<uint64_t>(report_.longest, packet.size);
    bytes_.clear();
    for (int i = 0; i < packet.count; ++i) {
      const auto* part = static_cast<const uint8_t*>(packet.parts[i].iov_base);
      bytes_.insert(bytes_.end(), part, part + packet.parts[i].iov_len);
    }
    uint8_t header[kRingPacketHeader];
    std::memcpy(header, packet.header, sizeof header);
    header[10] = header[11] = 0;
    receive_.Recycle();
    const size_t ip = ethernet_ ? 14 : 0;
    if (bytes_.size() < ip + 20 || bytes_[ip] >> 4 != 4) return true;
    std::swap_ranges(bytes_.begin() + static_cast<long>(ip) + 12, bytes_.begin() + static_cast<long>(ip) + 16,
                     bytes_.begin() + static_cast<long>(ip) + 16);
    if (ethernet_) std::swap_ranges(bytes_.begin(), bytes_.begin() + 6, bytes_.begin() + 6);
    Put(bytes_.data(), bytes_.size(), header);
    return true;
  }

  void Put(const uint8_t* bytes, size_t size, const uint8_t* header) {
    const iovec view{const_cast<uint8_t*>(bytes), size};
    for (;;) {
      const SysResult result = send_.Put(header, &view, 1, size);
      if (result != -EAGAIN) {
        OrFail(result, "Put");
        report_.sent++;
        return;
      }
      Flush(VhostQueue::kSend, &send_.ring());
      if (OrFail(send_.ring().EnableCalls(), "EnableCalls") == 0) (void)Wait(VhostQueue::kSend, false);
    }
  }

  void Flush(VhostQueue queue, Vring* ring) {
    if (!ring->Publish()) return;
    device_.Kick(queue);
    report_.kicks++;
  }

  /// Returns false when stdin has ended, if that is looked at.
  bool Wait(VhostQueue queue, bool until_end) {
    pollfd entries[] = {{device_.call_fd(queue), POLLIN, 0}, {until_end ? 0 : -1, POLLIN, 0}};
    const SysResult ready = OrFail(CallOnce([&] { return ::poll(entries, 2, kMaxWait); }), "poll");
    if (ready == 0) Fail({-ETIMEDOUT, "poll"});
    if (entries[0].revents != 0) {
      report_.calls++;
      device_.ClearCall(queue);
    }
    return entries[1].revents == 0;
  }

  /// Waits until all that was sent has left, and says how it went.
  void Finish() {
    Flush(VhostQueue::kSend, &send_.ring());
    for (;;) {
      OrFail(send_.Reap(), "Reap");
      const uint32_t left = send_.ring().exposed();
      if (left == 0) break;
      if (OrFail(send_.ring().EnableCalls(left), "EnableCalls") == 0) (void)Wait(VhostQueue::kSend, false);
    }
    device_.RemoveBackend();
    device_.Close();
    std::printf("{\"received\":%lu,\"sent\":%lu,\"longest\":%lu,\"kicks\":%lu,\"calls\":%lu}\n",
                report_.received, report_.sent, report_.longest, report_.kicks, report_.calls);
  }

  // The device goes first: the kernel uses the memory until then.
  Memory memory_;
  ReceiveRing receive_{memory_.ring(0), kRingSize, memory_.buffers(0), kBufferBytes};
  SendRing send_{memory_.ring(1), kRingSize, memory_.buffers(1), kBufferBytes};
  VhostDevice device_;
  std::vector<uint8_t> bytes_;
  bool ethernet_;
  Report report_;
};

std::vector<uint8_t> FromHex(const std::string& text) {
  std::vector<uint8_t> bytes;
  for (size_t at = 0; at + 1 < text.size(); at += 2) {
    bytes.push_back(static_cast<uint8_t>(std::stoi(text.substr(at, 2), nullptr, 16)));
  }
  return bytes;
}

}  // namespace
}  // namespace tunsock

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  tunsock::Traffic traffic(argv[2]);
  std::puts("\"ready\"");
  std::fflush(stdout);
  if (std::string(argv[1]) == "echo") {
    traffic.Echo();
  } else if (argc == 5) {
    traffic.Send(std::stoul(argv[3]), tunsock::FromHex(argv[4]));
  }
  return 0;
}
