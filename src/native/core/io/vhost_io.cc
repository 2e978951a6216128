#include "core/io/vhost_io.h"

#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <ctime>
#include <utility>

#include "core/io/protocol.h"
#include "core/offload/virtio_net_hdr.h"
#include "core/sys/poll_wait.h"

namespace tunsock {
namespace {

/// Milliseconds of a clock that only goes forward.
int64_t NowMs() {
  timespec now{};
  (void)::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<int64_t>(now.tv_sec) * 1000 + now.tv_nsec / 1'000'000;
}

constexpr int kSendFlags = MSG_DONTWAIT | MSG_NOSIGNAL;
constexpr size_t kEtherTypeOffset = 12;
/// Packets that are put into a ring before the kernel's thread may look at them: it works while the next ones
/// are copied, and where it is the faster one, it is woken no more often than that.
constexpr uint32_t kPublishEach = 32;

size_t AreaBytes(uint32_t ring_size) {
  return Vring::Bytes(ring_size) + size_t{ring_size} * kVhostBuffer;
}

}  // namespace

VhostIo::VhostIo(Mapping&& memory, const VhostOptions& options)
    : framing_(options.framing),
      memory_(std::move(memory)),
      receive_(memory_.data(), options.ring_size, memory_.data() + Vring::Bytes(options.ring_size),
               kVhostBuffer),
      send_(memory_.data() + AreaBytes(options.ring_size), options.ring_size,
            memory_.data() + AreaBytes(options.ring_size) + Vring::Bytes(options.ring_size), kVhostBuffer) {}

Failure VhostIo::Open(int fd, const VhostOptions& options, std::unique_ptr<VhostIo>* io) {
  const uint32_t size = options.ring_size;
  const size_t header = options.framing.virtio_header;
  if (size == 0 || size > Vring::kMaxSize || (size & (size - 1)) != 0 ||
      (header != 0 && header != kRingPacketHeader) || options.framing.rules.packet_info) {
    return {-EINVAL, "vhost"};
  }
  Mapping memory;
  const SysResult mapped = Mapping::Make(2 * AreaBytes(size), &memory);
  if (mapped < 0) return {mapped, "mmap"};
  std::unique_ptr<VhostIo> made(new VhostIo(std::move(memory), options));
  VhostDevice& device = made->device_;
  Failure failure = VhostDevice::Open(options.path, header == 0, &device);
  if (failure.error == 0) failure = device.ShareMemory(made->memory_.data(), made->memory_.size());
  if (failure.error == 0) failure = device.SetRing(VhostQueue::kReceive, made->receive_.ring());
  if (failure.error == 0) failure = device.SetRing(VhostQueue::kSend, made->send_.ring());
  // The buffers are there before the kernel's thread looks for some.
  (void)made->receive_.ring().Publish();
  if (failure.error == 0) failure = device.SetBackend(fd);
  if (failure.error != 0) return failure;
  device.Kick(VhostQueue::kReceive);
  *io = std::move(made);
  return {};
}

SysResult VhostIo::Look() {
  if (looking_at_) return 0;
  const SysResult result = receive_.Next(&packet_);
  if (result < 0) return result;
  if (result == 0) {
    PublishBuffers();
    // The rings of a socket whose device is gone just stay empty.
    const SysResult error = PendingError();
    return error < 0 ? error : -EAGAIN;
  }
  looking_at_ = true;
  return 0;
}

void VhostIo::Took() {
  looking_at_ = false;
  receive_.Recycle();
  // A thread that waits for buffers is woken for each that comes back: so they come back many at a time.
  if (receive_.ring().unpublished() >= receive_.ring().size() / 2) PublishBuffers();
}

void VhostIo::Publish(VhostQueue queue, Vring* ring) {
  if (!ring->Publish()) return;
  calls_.kicks += 1;
  device_.Kick(queue);
}

void VhostIo::ReadMeta(PacketMeta* meta) const {
  *meta = {};
  // Without num_buffers, which is of this ring, and must be 0 in one of packets to send.
  if (framing_.virtio_header != 0) std::memcpy(meta->virtio_header, packet_.header, VirtioNetHdr::kSize);
}

uint32_t VhostIo::ProtocolOf(const uint8_t* head, size_t length) const {
  return framing_.ethernet ? ProtocolAt(head, length, kEtherTypeOffset) : ProtocolOfIp(head, length);
}

SysResult VhostIo::Receive(const iovec* views, int count, int flags, PacketDetails* details) {
  if (count > kMaxViews) return -EINVAL;
  // Transmit timestamps are not to be had.
  if ((flags & MSG_ERRQUEUE) != 0 && framing_.rules.ForPacket(flags & ~MSG_ERRQUEUE)) {
    return Count(&stats_.received, -EAGAIN);
  }
  if (!framing_.rules.ForPacket(flags)) return -EINVAL;
  const size_t room = TotalLength(views, count);
  *details = {};
  const SysResult before = framing_.rules.BeforePacket(room);
  if (before <= 0) return before;
  const SysResult found = Look();
  if (found < 0) return Count(&stats_.received, found);

  const size_t copied = CopyViews(packet_.parts, packet_.count, views, count);
  ReadMeta(&details->meta);
  details->size = static_cast<uint32_t>(packet_.size);
  details->copied = static_cast<uint32_t>(copied);
  details->flags = copied < packet_.size ? MSG_TRUNC : 0;
  uint8_t head[kEtherTypeOffset + 2];
  details->protocol = ProtocolOf(head, CopyFromViews(packet_.parts, packet_.count, head, sizeof head));
  if ((flags & MSG_PEEK) == 0) {
    Count(&stats_.received, static_cast<SysResult>(packet_.size));
    if (details->flags != 0) stats_.received.truncated += 1;
    Took();
  }
  return ReceivedBytes(*details, flags);
}

SysResult VhostIo::ReceiveBatch(const Batch& batch, int flags, SysResult* behind) {
  if (!ReceiveRules::ForBatch(flags)) return -EINVAL;
  return FillBatch(batch, behind, [&](uint8_t* slot, size_t room, uint32_t index) -> SysResult {
    const SysResult found = Look();
    if (found < 0) return Count(&stats_.received, found);
    const size_t kept = std::min(room, batch.SlotLength());
    const size_t copied = CopyFromViews(packet_.parts, packet_.count, slot, kept);
    const size_t size = packet_.size;
    ReadMeta(&batch.meta[index]);
    batch.flags[index] = copied < size ? MSG_TRUNC : 0;
    batch.protocols[index] = ProtocolOf(slot, copied);
    Count(&stats_.received, static_cast<SysResult>(size));
    if (copied < size) stats_.received.truncated += 1;
    Took();
    return static_cast<SysResult>(size);
  });
}

SysResult VhostIo::Put(const iovec* views, int count, const PacketMeta* meta) {
  const size_t total = TotalLength(views, count);
  const SysResult checked = CheckPacketLength(total, framing_.ethernet ? kMaxLinkHeader : 0);
  if (checked < 0) return checked;
  if (framing_.virtio_header == 0 && meta != nullptr && NeedsOffload(*meta)) return -EOPNOTSUPP;
  const iovec header = HeaderView(framing_.virtio_header == 0 ? nullptr : meta, kRingPacketHeader);
  const SysResult result = send_.Put(static_cast<const uint8_t*>(header.iov_base), views, count, total);
  if (result == -EAGAIN) needed_ = send_.BuffersFor(total);
  return result < 0 ? result : static_cast<SysResult>(total);
}

SysResult VhostIo::Send(const iovec* views, int count, int flags, const PacketMeta* meta) {
  if ((flags & ~kSendFlags) != 0 || count > kMaxViews) return -EINVAL;
  const SysResult result = Count(&stats_.sent, Put(views, count, meta));
  Publish(VhostQueue::kSend, &send_.ring());
  return result;
}

SysResult VhostIo::SendBatch(const Batch& batch, uint32_t start, uint32_t end, int flags) {
  if ((flags & ~kSendFlags) != 0) return -EINVAL;
  const SysResult sent = DrainBatch(batch, start, end, [&](uint8_t* packet, size_t length, uint32_t index) {
    const PacketMeta* meta = batch.has_headers ? &batch.meta[index] : nullptr;
    const iovec view{packet, length};
    const SysResult result = Count(&stats_.sent, Put(&view, 1, meta));
    if (index % kPublishEach == kPublishEach - 1) Publish(VhostQueue::kSend, &send_.ring());
    return result;
  });
  Publish(VhostQueue::kSend, &send_.ring());
  return sent;
}

bool VhostIo::Arm(short wanted) {
  bool ready = false;
  // What is broken is told by the call that comes next.
  if ((wanted & POLLIN) != 0) {
    PublishBuffers();
    ready = looking_at_ || receive_.ring().EnableCalls() != 0;
  }
  if ((wanted & POLLOUT) != 0) {
    Vring& ring = send_.ring();
    const bool room = send_.Reap() < 0 || ring.free() >= needed_;
    // Half of what is on its way makes room for some more packets at once.
    ready |= room || ring.EnableCalls(std::max<uint32_t>(1, ring.exposed() / 2)) != 0;
  }
  return ready;
}

short VhostIo::Acknowledge(short /*ready*/) {
  calls_.calls += 1;
  device_.ClearCall();
  return POLLIN | POLLOUT;
}

SysResult VhostIo::PendingError() {
  const SysResult broken = std::min(receive_.ring().state(), send_.ring().state());
  return broken < 0 || socket_ == nullptr ? broken : socket_->PendingError();
}

const IoStats& VhostIo::stats() {
  if (socket_ != nullptr) stats_.received.dropped = socket_->stats().received.dropped;
  return stats_;
}

SysResult VhostIo::Drain(int timeout_ms) {
  const int64_t end = NowMs() + timeout_ms;
  for (;;) {
    const SysResult reaped = send_.Reap();
    if (reaped < 0) return reaped;
    const uint32_t left = send_.ring().exposed();
    const int64_t time = end - NowMs();
    if (left == 0 || time <= 0) return left;
    if (send_.ring().EnableCalls(left) != 0) continue;
    if (PollWait(device_.call_fd(), POLLIN, static_cast<int>(time)) > 0) (void)Acknowledge(POLLIN);
  }
}

}  // namespace tunsock
