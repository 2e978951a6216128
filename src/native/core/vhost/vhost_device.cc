#include "core/vhost/vhost_device.h"

#include <fcntl.h>
// Without it linux/virtio_ring.h has code that is no C++.
#define VIRTIO_RING_NO_LEGACY
#include <linux/vhost.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#include <utility>

#include "core/sys/sys_result.h"

namespace tunsock {
namespace {

constexpr uint64_t Bit(unsigned number) {
  return uint64_t{1} << number;
}

/// VIRTIO_NET_F_MRG_RXBUF (of linux/virtio_net.h, which is no C++), VIRTIO_RING_F_EVENT_IDX,
/// VIRTIO_F_VERSION_1.
constexpr uint64_t kSpoken = Bit(15) | Bit(29) | Bit(32);

template <typename Argument>
SysResult Control(int fd, unsigned long request, Argument argument) {
  return CallOnce([&] { return ::ioctl(fd, request, argument); });
}

/// A memory table of one region (struct vhost_memory has a flexible array).
struct MemoryTable {
  uint32_t count;
  uint32_t padding;
  vhost_memory_region region;
};
static_assert(sizeof(MemoryTable) == sizeof(vhost_memory) + sizeof(vhost_memory_region), "laid out as there");

uint64_t Address(const void* memory) {
  return reinterpret_cast<uintptr_t>(memory);
}

}  // namespace

Failure VhostDevice::Open(const char* path, bool own_header, VhostDevice* device) {
  VhostDevice opened;
  const SysResult fd = RetryOnSignal([&] { return ::open(path, O_RDWR | O_CLOEXEC); });
  if (fd < 0) return {fd, "open"};
  opened.fd_.reset(static_cast<int>(fd));

  // The thread is made here.
  SysResult result = Control(opened.fd(), VHOST_SET_OWNER, 0);
  if (result < 0) return {result, "VHOST_SET_OWNER"};
  const uint64_t wanted = kSpoken | (own_header ? Bit(VHOST_NET_F_VIRTIO_NET_HDR) : 0);
  uint64_t offered = 0;
  result = Control(opened.fd(), VHOST_GET_FEATURES, &offered);
  if (result < 0) return {result, "VHOST_GET_FEATURES"};
  if ((offered & wanted) != wanted) return {-EOPNOTSUPP, "VHOST_GET_FEATURES"};
  result = Control(opened.fd(), VHOST_SET_FEATURES, &wanted);
  if (result < 0) return {result, "VHOST_SET_FEATURES"};
  *device = std::move(opened);
  return {};
}

Failure VhostDevice::ShareMemory(const void* memory, size_t bytes) {
  const MemoryTable table{1, 0, {Address(memory), bytes, Address(memory), 0}};
  const SysResult result = Control(fd(), VHOST_SET_MEM_TABLE, &table);
  return result < 0 ? Failure{result, "VHOST_SET_MEM_TABLE"} : Failure{};
}

Failure VhostDevice::SetRing(VhostQueue queue, const Vring& ring) {
  const auto index = static_cast<uint32_t>(queue);
  for (UniqueFd* event : {&kicks_[index], &call_}) {
    if (event->valid()) continue;
    const SysResult fd = CallOnce([] { return ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC); });
    if (fd < 0) return {fd, "eventfd"};
    event->reset(static_cast<int>(fd));
  }
  const vhost_vring_state size{index, ring.size()};
  const vhost_vring_state base{index, 0};
  const vhost_vring_addr addresses{
      index, 0, Address(ring.descriptors()), Address(ring.used()), Address(ring.available()), 0};
  const vhost_vring_file kick{index, kicks_[index].get()};
  const vhost_vring_file call{index, call_.get()};
  struct Step {
    unsigned long request;
    const void* argument;
    const char* name;
  };
  const Step steps[] = {
      {VHOST_SET_VRING_NUM, &size, "VHOST_SET_VRING_NUM"},
      {VHOST_SET_VRING_BASE, &base, "VHOST_SET_VRING_BASE"},
      {VHOST_SET_VRING_ADDR, &addresses, "VHOST_SET_VRING_ADDR"},
      {VHOST_SET_VRING_KICK, &kick, "VHOST_SET_VRING_KICK"},
      {VHOST_SET_VRING_CALL, &call, "VHOST_SET_VRING_CALL"},
  };
  for (const Step& step : steps) {
    const SysResult result = Control(fd(), step.request, step.argument);
    if (result < 0) return {result, step.name};
  }
  return {};
}

SysResult VhostDevice::SetBackend(VhostQueue queue, int fd) {
  const vhost_vring_file backend{static_cast<uint32_t>(queue), fd};
  return Control(fd_.get(), VHOST_NET_SET_BACKEND, &backend);
}

Failure VhostDevice::SetBackend(int fd) {
  for (const VhostQueue queue : {VhostQueue::kReceive, VhostQueue::kSend}) {
    const SysResult result = SetBackend(queue, fd);
    if (result >= 0) continue;
    RemoveBackend();
    return {result, "VHOST_NET_SET_BACKEND"};
  }
  return {};
}

void VhostDevice::RemoveBackend() {
  if (!fd_.valid()) return;
  for (const VhostQueue queue : {VhostQueue::kReceive, VhostQueue::kSend}) (void)SetBackend(queue, -1);
}

void VhostDevice::Kick(VhostQueue queue) {
  // It fails only where nobody has read 2^64 - 2 kicks.
  (void)::eventfd_write(kicks_[static_cast<size_t>(queue)].get(), 1);
}

void VhostDevice::ClearCall() {
  eventfd_t count;
  (void)::eventfd_read(call_.get(), &count);
}

void VhostDevice::Close() {
  // The device first: the kernel stops using its events and the memory then. Closing is not enough for that
  // while a process that was forked and has not started its program yet has the descriptor too.
  RemoveBackend();
  fd_.reset();
  call_.reset();
  kicks_ = {};
}

}  // namespace tunsock
