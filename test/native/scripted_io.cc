#include "scripted_io.h"

#include <algorithm>
#include <cstring>

#include "check.h"

namespace tunsock::test {

SysResult ScriptedIo::Receive(const iovec* views, int count, int flags, PacketDetails* details) {
  if (!receive_rules.ForPacket(flags)) return -EINVAL;
  if (incoming.empty()) return -EAGAIN;
  const Incoming next = incoming.front();
  incoming.pop_front();
  if (next.error != 0) return next.error;
  *details = {};
  details->size = static_cast<uint32_t>(next.packet.size());
  details->meta = next.meta;
  details->copied = static_cast<uint32_t>(CopyToViews(next.packet.data(), next.packet.size(), views, count));
  return ReceivedBytes(*details, flags);
}

SysResult ScriptedIo::ReceiveBatch(const Batch& batch, int /*flags*/, SysResult* behind) {
  return FillBatch(batch, behind, [&](uint8_t* slot, size_t room, uint32_t index) -> SysResult {
    if (incoming.empty()) return -EAGAIN;
    const Incoming next = incoming.front();
    incoming.pop_front();
    if (next.error != 0) return next.error;
    std::copy_n(next.packet.data(), std::min(room, next.packet.size()), slot);
    batch.meta[index] = next.meta;
    if (DatagramOf(next.meta).port == 0) {
      next.header.Encode(batch.meta[index].virtio_header, kMaxVirtioHeader);
      batch.meta[index].interface_index = 7;
    }
    batch.flags[index] = 0;
    batch.protocols[index] = 0x0800;
    return static_cast<SysResult>(next.packet.size());
  });
}

SysResult ScriptedIo::Refusal() {
  if (refusals.empty()) return 0;
  const SysResult refusal = refusals.front();
  refusals.pop_front();
  return refusal;
}

SysResult ScriptedIo::Send(const iovec* views, int count, int /*flags*/, const PacketMeta* meta) {
  if (const SysResult refusal = Refusal(); refusal != 0) return refusal;
  Outgoing sent;
  if (meta != nullptr) {
    sent.header = VirtioNetHdr::Decode(meta->virtio_header);
    sent.meta = *meta;
  }
  for (int i = 0; i < count; i++) {
    const auto* from = static_cast<const uint8_t*>(views[i].iov_base);
    sent.packet.insert(sent.packet.end(), from, from + views[i].iov_len);
  }
  outgoing.push_back(sent);
  return static_cast<SysResult>(sent.packet.size());
}

SysResult ScriptedIo::SendBatch(const Batch& batch, uint32_t start, uint32_t end, int flags) {
  return DrainBatch(batch, start, end, [&](uint8_t* packet, size_t length, uint32_t index) {
    const iovec view{packet, length};
    return Send(&view, 1, flags, batch.has_headers || batch.has_datagrams ? &batch.meta[index] : nullptr);
  });
}

TestBatch::TestBatch(uint32_t capacity, uint32_t packet_size) {
  const size_t slab = packet_size != 0 ? size_t{capacity} * packet_size + kBatchTail : 2 * kPackedRoom;
  const size_t bytes = size_t{capacity} * Batch::kBytesForEach + 64 + slab;
  memory_.resize(bytes / sizeof(uint64_t) + 1);
  CHECK(view.Map(reinterpret_cast<uint8_t*>(memory_.data()), memory_.size() * sizeof(uint64_t), capacity,
                 packet_size),
        "the batch fits its memory");
}

void TestBatch::Push(const Bytes& packet, const VirtioNetHdr& header) {
  const uint32_t index = length++;
  view.offsets[index] = static_cast<uint32_t>(view.SlotOffset(index));
  view.lengths[index] = static_cast<uint32_t>(packet.size());
  view.sizes[index] = index;
  std::copy(packet.begin(), packet.end(), view.slab + view.offsets[index]);
  view.meta[index] = {};
  header.Encode(view.meta[index].virtio_header, kMaxVirtioHeader);
}

Bytes TestBatch::At(uint32_t index) const {
  const uint8_t* from = view.slab + view.offsets[index];
  return {from, from + view.lengths[index]};
}

}  // namespace tunsock::test
