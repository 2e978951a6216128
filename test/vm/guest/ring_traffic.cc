#include <linux/if_tun.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "core/io/vhost_io.h"

// Moves packets through a VhostIo over a descriptor that it got as its number 3; what a test of the guest
// wants to see of it is printed as JSON.
//
//   ring_traffic echo LETTERS         sends each IP packet back with its addresses exchanged, until stdin
//   ends ring_traffic echo-batch LETTERS   the same by batches ring_traffic send LETTERS N HEX   sends N
//   times the packet HEX, by batches
//
// LETTERS: 'h', the descriptor has virtio headers of its own; 's', a send buffer below INT_MAX; 'e', IP
// packets lie behind Ethernet headers; 'n', a ring size that is none; '-', nothing of that.

namespace tunsock {
namespace {

constexpr int kDescriptor = 3;
constexpr int kMaxWait = 20000;

[[noreturn]] void Fail(const Failure& failure) {
  std::printf("{\"error\":%d,\"step\":\"%s\"}\n", static_cast<int>(-failure.error), failure.syscall);
  std::exit(0);
}

SysResult OrFail(SysResult result, const char* step) {
  if (result < 0) Fail({result, step});
  return result;
}

void SetDevice(unsigned long request, int value, const char* step) {
  OrFail(CallOnce([&] { return ::ioctl(kDescriptor, request, &value); }), step);
}

class Traffic {
 public:
  explicit Traffic(const std::string& letters) {
    const auto has = [&](char letter) { return letters.find(letter) != std::string::npos; };
    VhostOptions options;
    options.framing.ethernet = has('e');
    options.framing.virtio_header = has('h') ? kRingPacketHeader : 0;
    options.ring_size = has('n') ? 100 : 256;
    ip_ = has('e') ? 14 : 0;
    if (has('h')) SetDevice(TUNSETVNETHDRSZ, kRingPacketHeader, "TUNSETVNETHDRSZ");
    if (has('s')) SetDevice(TUNSETSNDBUF, 0x7ffffffe, "TUNSETSNDBUF");
    const Failure failure = VhostIo::Open(kDescriptor, options, &io_);
    if (failure.error < 0) Fail(failure);
  }

  /// One packet a call where `batches` is false.
  void Echo(bool batches) {
    do {
      while (batches ? EchoBatch() : EchoOne()) {
      }
    } while (io_->Arm(POLLIN) || Wait(POLLIN, true));
    Finish();
  }

  void Send(uint64_t count, const std::vector<uint8_t>& packet) {
    for (uint64_t left = count; left > 0; left -= batch_.capacity) {
      batch_.capacity = static_cast<uint32_t>(std::min<uint64_t>(left, kPackets));
      for (uint32_t i = 0; i < batch_.capacity; ++i) {
        batch_.offsets[i] = i * kSlot;
        batch_.lengths[i] = static_cast<uint32_t>(packet.size());
        std::copy(packet.begin(), packet.end(), batch_.slab + batch_.offsets[i]);
      }
      SendAll(batch_.capacity);
    }
    Finish();
  }

 private:
  static constexpr uint32_t kPackets = 64;
  static constexpr uint32_t kSlot = 2048;

  bool EchoOne() {
    const iovec halves[] = {{single_, 700}, {single_ + 700, sizeof single_ - 700}};
    PacketDetails details;
    const SysResult size = io_->Receive(halves, 2, MSG_DONTWAIT, &details);
    if (size == -EAGAIN) return false;
    OrFail(size, "Receive");
    longest_ = std::max(longest_, static_cast<uint64_t>(size));
    if (!TurnRound(single_, static_cast<size_t>(size))) return true;
    const iovec view{single_, static_cast<size_t>(size)};
    for (;;) {
      const SysResult sent = io_->Send(&view, 1, MSG_DONTWAIT, &details.meta);
      if (sent != -EAGAIN) return OrFail(sent, "Send") == size;
      if (!io_->Arm(POLLOUT)) (void)Wait(POLLOUT, false);
    }
  }

  bool EchoBatch() {
    SysResult behind = 0;
    const SysResult count = io_->ReceiveBatch(packed_, MSG_DONTWAIT, &behind);
    if (count == -EAGAIN) return false;
    OrFail(count, "ReceiveBatch");
    for (SysResult i = 0; i < count; ++i) {
      longest_ = std::max<uint64_t>(longest_, packed_.lengths[i]);
      if (!TurnRound(packed_.slab + packed_.offsets[i], packed_.lengths[i])) Fail({-EINVAL, "not IP"});
    }
    std::swap(packed_, batch_);
    SendAll(static_cast<uint32_t>(count));
    std::swap(packed_, batch_);
    return true;
  }

  void SendAll(uint32_t count) {
    for (uint32_t start = 0; start < count;) {
      const SysResult sent = io_->SendBatch(batch_, start, count, MSG_DONTWAIT);
      if (sent == -EAGAIN) {
        if (!io_->Arm(POLLOUT)) (void)Wait(POLLOUT, false);
        continue;
      }
      start += static_cast<uint32_t>(OrFail(sent, "SendBatch"));
    }
  }

  /// Exchanges the addresses of an IPv4 packet; false for anything else.
  bool TurnRound(uint8_t* bytes, size_t size) const {
    if (size < ip_ + 20 || bytes[ip_] >> 4 != 4) return false;
    std::swap_ranges(bytes + ip_ + 12, bytes + ip_ + 16, bytes + ip_ + 16);
    if (ip_ != 0) std::swap_ranges(bytes, bytes + 6, bytes + 6);
    return true;
  }

  /// Returns false when stdin has ended, if that is looked at.
  bool Wait(short wanted, bool until_end) {
    const PollTarget target = io_->Target(wanted);
    pollfd entries[] = {{target.fd, target.events, 0}, {until_end ? 0 : -1, POLLIN, 0}};
    if (OrFail(CallOnce([&] { return ::poll(entries, 2, kMaxWait); }), "poll") == 0)
      Fail({-ETIMEDOUT, "poll"});
    if (entries[0].revents != 0) (void)io_->Acknowledge(entries[0].revents);
    return entries[1].revents == 0;
  }

  /// Waits until all that was sent has left, and says how it went.
  void Finish() {
    if (OrFail(io_->Drain(kMaxWait), "Drain") != 0) Fail({-ETIMEDOUT, "Drain"});
    const IoStats& stats = io_->stats();
    std::printf("{\"received\":%lu,\"sent\":%lu,\"longest\":%lu,\"kicks\":%lu,\"calls\":%lu}\n",
                stats.received.packets, stats.sent.packets, longest_, io_->calls().kicks, io_->calls().calls);
  }

  struct Slab {
    explicit Slab(uint32_t slot) : words(kBytes / sizeof(uint64_t)) {
      if (!view.Map(reinterpret_cast<uint8_t*>(words.data()), kBytes, kPackets, slot)) std::abort();
      view.has_headers = slot == 0;
    }
    static constexpr size_t kBytes = size_t{1} << 20;
    std::vector<uint64_t> words;
    Batch view;
  };

  std::unique_ptr<VhostIo> io_;
  size_t ip_ = 0;
  uint64_t longest_ = 0;
  uint8_t single_[kMaxPacket];
  Slab slots_{kSlot};
  Slab run_{0};
  Batch batch_ = slots_.view;
  Batch packed_ = run_.view;
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
  const std::string job = argv[1];
  const auto traffic = std::make_unique<tunsock::Traffic>(argv[2]);
  std::puts("\"ready\"");
  std::fflush(stdout);
  if (job == "send" && argc == 5) {
    traffic->Send(std::stoul(argv[3]), tunsock::FromHex(argv[4]));
  } else {
    traffic->Echo(job == "echo-batch");
  }
  return 0;
}
