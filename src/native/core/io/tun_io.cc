#include "core/io/tun_io.h"

#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

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

size_t TotalLength(const iovec* views, int count) {
  size_t total = 0;
  for (int i = 0; i < count; ++i) total += views[i].iov_len;
  return total;
}

/// Copies the first bytes of scattered buffers; returns how many there were.
size_t Peek(const iovec* views, int count, size_t available, uint8_t* out, size_t wanted) {
  size_t copied = 0;
  for (int i = 0; i < count && copied < wanted && copied < available; ++i) {
    const size_t part = std::min({views[i].iov_len, wanted - copied, available - copied});
    std::memcpy(out + copied, views[i].iov_base, part);
    copied += part;
  }
  return copied;
}

/// Sets TUN_PKT_STRIP in the struct tun_pi that starts in `views`: the kernel sees the spill area and so
/// doesn't.
void MarkStripped(const iovec* views, int count) {
  uint16_t flags = 0;
  Peek(views, count, sizeof flags, reinterpret_cast<uint8_t*>(&flags), sizeof flags);
  flags |= TUN_PKT_STRIP;
  const auto* bytes = reinterpret_cast<const uint8_t*>(&flags);
  size_t written = 0;
  for (int i = 0; i < count && written < sizeof flags; ++i) {
    const size_t part = std::min(views[i].iov_len, sizeof flags - written);
    std::memcpy(views[i].iov_base, bytes + written, part);
    written += part;
  }
}

uint32_t ProtocolOf(const TunFraming& framing, const uint8_t* head, size_t length) {
  if (framing.packet_info) return ProtocolAt(head, length, kPacketInfoProtocolOffset);
  if (framing.ethernet) return ProtocolAt(head, length, kEtherTypeOffset);
  return ProtocolOfIp(head, length);
}

}  // namespace

// syscall(2) rather than read(2) and write(2): those are cancellation points, which in a process with threads
// costs two locked instructions for each packet (10 to 25 ns).

SysResult TunIo::ReadPacket(const iovec* views, int count, PacketMeta* meta) {
  SysResult result = 0;
  if (framing_.virtio_header == 0 && count == 1) {
    result = RetryOnSignal([&] { return ::syscall(SYS_read, fd_, views[0].iov_base, views[0].iov_len); });
  } else {
    iovec all[kMaxViews + 2];
    int used = 0;
    if (framing_.virtio_header != 0) all[used++] = {meta->virtio_header, framing_.virtio_header};
    std::copy(views, views + count, all + used);
    result = RetryOnSignal([&] { return ::readv(fd_, all, used + count); });
    if (result >= 0) result = std::max<SysResult>(0, result - static_cast<SysResult>(framing_.virtio_header));
  }
  // A device that goes away under a read shows as EFAULT once, and as EBADFD from then on.
  return result == -EFAULT ? -EBADFD : result;
}

SysResult TunIo::Receive(const iovec* views, int count, int flags, PacketDetails* details) {
  if ((flags & ~kReceiveFlags) != 0 || count > kMaxViews) return -EINVAL;
  // Transmit timestamps are not asked for, so the error queue is empty.
  if ((flags & MSG_ERRQUEUE) != 0) return Count(&stats_.received, -EAGAIN);
  const size_t room = TotalLength(views, count);
  *details = {};
  // The kernel's read of 0 bytes returns 0 and leaves the packet queued.
  if (room == 0) return 0;
  // Here the kernel would drop the packet.
  if (framing_.packet_info && room < sizeof(tun_pi)) return -EINVAL;

  iovec all[kMaxViews + 1];
  std::copy(views, views + count, all);
  all[count] = {g_spill, sizeof g_spill};
  const SysResult size = ReadPacket(all, count + 1, &details->meta);
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
  details->protocol = ProtocolOf(framing_, head, Peek(views, count, details->copied, head, sizeof head));
  return (flags & MSG_TRUNC) != 0 ? details->size : details->copied;
}

SysResult TunIo::WritePacket(const iovec* views, int count, size_t total, const PacketMeta* meta) {
  if (total == 0) return -EINVAL;
  // The kernel takes even 131072 bytes, and sends what no receiver can take.
  const size_t headers =
      (framing_.ethernet ? kMaxLinkHeader : 0) + (framing_.packet_info ? sizeof(tun_pi) : 0);
  if (total > kMaxIpPacket + headers) return -EMSGSIZE;
  if (framing_.virtio_header == 0 && count == 1) {
    return RetryOnSignal([&] { return ::syscall(SYS_write, fd_, views[0].iov_base, total); });
  }
  static const PacketMeta kNoMeta{};
  iovec all[kMaxViews + 1];
  int used = 0;
  if (framing_.virtio_header != 0) {
    const uint8_t* header = (meta != nullptr ? meta : &kNoMeta)->virtio_header;
    all[used++] = {const_cast<uint8_t*>(header), framing_.virtio_header};
  }
  std::copy(views, views + count, all + used);
  const SysResult result = RetryOnSignal([&] { return ::writev(fd_, all, used + count); });
  return result < 0 ? result
                    : std::max<SysResult>(0, result - static_cast<SysResult>(framing_.virtio_header));
}

SysResult TunIo::Send(const iovec* views, int count, int flags, const PacketMeta* meta) {
  if ((flags & ~kSendFlags) != 0 || count > kMaxViews) return -EINVAL;
  return Count(&stats_.sent, WritePacket(views, count, TotalLength(views, count), meta));
}

SysResult TunIo::ReceiveBatch(const Batch& batch, int flags) {
  if ((flags & ~(MSG_DONTWAIT | MSG_TRUNC)) != 0) return -EINVAL;
  if (framing_.packet_info && batch.SlotLength() < sizeof(tun_pi)) return -EINVAL;
  return FillBatch(batch, [&](uint8_t* slot, size_t room, uint32_t index) {
    const iovec view{slot, room};
    const SysResult size = ReadPacket(&view, 1, &batch.meta[index]);
    Count(&stats_.received, size);
    if (size < 0) return size;
    const size_t kept = std::min(static_cast<size_t>(size), batch.SlotLength());
    const bool cut = kept < static_cast<size_t>(size);
    if (cut) {
      stats_.received.truncated += 1;
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
    const iovec view{packet, length};
    return Count(&stats_.sent, WritePacket(&view, 1, length, &batch.meta[index]));
  });
}

SysResult TunIo::PendingError() {
  ifreq request{};
  return CallOnce([&] { return ::ioctl(fd_, TUNGETIFF, &request); });
}

}  // namespace tunsock
