#include "core/io/tun_io.h"

#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "core/io/protocol.h"

namespace tunsock {
namespace {

constexpr int kReceiveFlags = MSG_DONTWAIT | MSG_TRUNC | MSG_ERRQUEUE;
constexpr int kSendFlags = MSG_DONTWAIT | MSG_NOSIGNAL;
constexpr size_t kEtherTypeOffset = 12;
constexpr size_t kPacketInfoProtocolOffset = 2;

/// Takes what a packet has beyond the caller's buffers, so that readv shows its true length. Written by the
/// kernel, never read, and so shared by all threads.
uint8_t g_spill[kMaxPacket + 64];

/// Into so little room packets are read by way of memory of our own: one piece that shows their true length.
/// Two pieces cost the kernel 160 ns, copying 1400 bytes 30 ns.
constexpr size_t kMaxScratchRoom = size_t{16} * 1024;
/// For the virtio header.
constexpr size_t kScratchHead = 64;

uint32_t ProtocolOf(const TunFraming& framing, const uint8_t* head, size_t length) {
  if (framing.packet_info) return ProtocolAt(head, length, kPacketInfoProtocolOffset);
  if (framing.ethernet) return ProtocolAt(head, length, kEtherTypeOffset);
  return ProtocolOfIp(head, length);
}

/// A device that goes away under a read shows as EFAULT once, and as EBADFD from then on.
SysResult Settle(SysResult result) {
  return result == -EFAULT ? -EBADFD : result;
}

}  // namespace

// syscall(2) rather than read(2) and write(2): those are cancellation points, which in a process with threads
// costs two locked instructions for each packet (10 to 25 ns).

SysResult TunIo::ReadPacket(const iovec* views, int count, PacketMeta* meta) {
  iovec all[kMaxViews + 1];
  int used = 0;
  if (framing_.virtio_header != 0) all[used++] = {meta->virtio_header, framing_.virtio_header};
  std::copy(views, views + count, all + used);
  used += count;
  all[used++] = {g_spill, sizeof g_spill};
  return Settle(
      WithoutHeader(RetryOnSignal([&] { return ::readv(fd_, all, used); }), framing_.virtio_header));
}

SysResult TunIo::ReadSmall(const iovec* views, int count, PacketMeta* meta) {
  uint8_t* slot = scratch_.get() + kScratchHead;
  const SysResult size = ReadSlot(slot, sizeof g_spill, meta);
  if (size > 0) CopyToViews(slot, std::min(static_cast<size_t>(size), sizeof g_spill), views, count);
  return size;
}

SysResult TunIo::ReadSlot(uint8_t* slot, size_t room, PacketMeta* meta) {
  const size_t header = framing_.virtio_header;
  if (header == 0) return Settle(RetryOnSignal([&] { return ::syscall(SYS_read, fd_, slot, room); }));
  const Headroom headroom(slot, header);
  const SysResult result =
      RetryOnSignal([&] { return ::syscall(SYS_read, fd_, headroom.data(), header + room); });
  std::memcpy(meta->virtio_header, headroom.data(), header);
  return Settle(WithoutHeader(result, header));
}

SysResult TunIo::Receive(const iovec* views, int count, int flags, PacketDetails* details) {
  const int most = framing_.virtio_header != 0 ? kMaxViews - 1 : kMaxViews;
  if ((flags & ~kReceiveFlags) != 0 || count > most) return -EINVAL;
  // Transmit timestamps are not asked for, so the error queue is empty.
  if ((flags & MSG_ERRQUEUE) != 0) return Count(&stats_.received, -EAGAIN);
  const size_t room = TotalLength(views, count);
  *details = {};
  // The kernel's read of 0 bytes returns 0 and leaves the packet queued. Into too few bytes for its headers
  // it would drop the packet.
  const SysResult before = rules().BeforePacket(room);
  if (before <= 0) return before;

  if (scratch_ == nullptr && room <= kMaxScratchRoom) {
    scratch_.reset(new (std::nothrow) uint8_t[kScratchHead + sizeof g_spill]);
  }
  const bool small = room <= kMaxScratchRoom && scratch_ != nullptr;
  const SysResult size =
      small ? ReadSmall(views, count, &details->meta) : ReadPacket(views, count, &details->meta);
  Count(&stats_.received, size);
  if (size < 0) return size;

  details->size = static_cast<uint32_t>(size);
  details->copied = static_cast<uint32_t>(std::min(room, static_cast<size_t>(size)));
  if (details->size > details->copied) {
    details->flags = MSG_TRUNC;
    stats_.received.truncated += 1;
    if (framing_.packet_info) MarkStripped(views, count);
  }
  uint8_t head[kEtherTypeOffset + 2];
  const size_t wanted = std::min<size_t>(details->copied, sizeof head);
  details->protocol = ProtocolOf(framing_, head, CopyFromViews(views, count, head, wanted));
  return ReceivedBytes(*details, flags);
}

SysResult TunIo::CheckLength(size_t total) const {
  return CheckPacketLength(
      total, (framing_.ethernet ? kMaxLinkHeader : 0) + (framing_.packet_info ? sizeof(tun_pi) : 0));
}

SysResult TunIo::WritePacket(const iovec* views, int count, size_t total, const PacketMeta* meta) {
  const SysResult checked = CheckLength(total);
  if (checked < 0) return checked;
  if (framing_.virtio_header == 0) {
    if (meta != nullptr && NeedsOffload(*meta)) return -EOPNOTSUPP;
    if (count == 1) {
      return RetryOnSignal([&] { return ::syscall(SYS_write, fd_, views[0].iov_base, total); });
    }
    return RetryOnSignal([&] { return ::writev(fd_, views, count); });
  }
  iovec all[kMaxViews + 1];
  all[0] = HeaderView(meta, framing_.virtio_header);
  std::copy(views, views + count, all + 1);
  return WithoutHeader(RetryOnSignal([&] { return ::writev(fd_, all, count + 1); }), framing_.virtio_header);
}

SysResult TunIo::WriteSlot(uint8_t* packet, size_t length, const PacketMeta* meta) {
  const size_t header = framing_.virtio_header;
  const SysResult checked = CheckLength(length);
  if (checked < 0) return checked;
  if (header == 0) {
    if (meta != nullptr && NeedsOffload(*meta)) return -EOPNOTSUPP;
    return RetryOnSignal([&] { return ::syscall(SYS_write, fd_, packet, length); });
  }
  const Headroom headroom(packet, header);
  std::memcpy(headroom.data(), HeaderView(meta, header).iov_base, header);
  return WithoutHeader(
      RetryOnSignal([&] { return ::syscall(SYS_write, fd_, headroom.data(), header + length); }), header);
}

SysResult TunIo::Send(const iovec* views, int count, int flags, const PacketMeta* meta) {
  if ((flags & ~kSendFlags) != 0 || count > kMaxViews) return -EINVAL;
  return Count(&stats_.sent, WritePacket(views, count, TotalLength(views, count), meta));
}

SysResult TunIo::ReceiveBatch(const Batch& batch, int flags, SysResult* behind) {
  if (!ReceiveRules::ForBatch(flags)) return -EINVAL;
  const SysResult before = rules().BeforePacket(batch.SlotLength());
  if (before < 0) return before;
  return FillBatch(batch, behind, [&](uint8_t* slot, size_t room, uint32_t index) {
    const SysResult size = ReadSlot(slot, room, &batch.meta[index]);
    Count(&stats_.received, size);
    if (size < 0) return size;
    const size_t kept = std::min(static_cast<size_t>(size), batch.SlotLength());
    const bool cut = kept < static_cast<size_t>(size);
    if (cut) {
      stats_.received.truncated += 1;
      const iovec view{slot, room};
      if (framing_.packet_info) MarkStripped(&view, 1);
    }
    batch.flags[index] = cut ? MSG_TRUNC : 0;
    batch.protocols[index] = ProtocolOf(framing_, slot, kept);
    return size;
  });
}

SysResult TunIo::SendBatch(const Batch& batch, uint32_t start, uint32_t end, int flags) {
  if ((flags & ~kSendFlags) != 0) return -EINVAL;
  return DrainBatch(batch, start, end, [&](uint8_t* packet, size_t length, uint32_t index) {
    const PacketMeta* meta = batch.has_headers ? &batch.meta[index] : nullptr;
    return Count(&stats_.sent, WriteSlot(packet, length, meta));
  });
}

SysResult TunIo::PendingError() {
  ifreq request{};
  return CallOnce([&] { return ::ioctl(fd_, TUNGETIFF, &request); });
}

}  // namespace tunsock
