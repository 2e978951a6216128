// sendmmsg(2) and recvmmsg(2) on an AF_PACKET socket, with the batch that PacketBatch is by default.
#pragma once

#include "round.h"

#include <linux/if_packet.h>
#include <sys/socket.h>

// The packet socket that run.ts opened, O_NONBLOCK.
enum { SOCKET_FD = 3, BATCH_PACKETS = 64, SLOT_BYTES = 2048 };

static unsigned char slots[BATCH_PACKETS][SLOT_BYTES];
static struct iovec views[BATCH_PACKETS];
static struct mmsghdr headers[BATCH_PACKETS];

// Points header i at slot i, of which `length` bytes count.
static inline void lay_out_batch(size_t length) {
  for (int i = 0; i < BATCH_PACKETS; ++i) {
    views[i] = (struct iovec){slots[i], length};
    headers[i].msg_hdr.msg_iov = &views[i];
    headers[i].msg_hdr.msg_iovlen = 1;
  }
}

// Fills the batch with copies of one frame.
static inline void lay_out_copies(const unsigned char *frame, size_t length) {
  for (int i = 0; i < BATCH_PACKETS; ++i) memcpy(slots[i], frame, length);
  lay_out_batch(length);
}

// Sends `packets` frames of the batch, and returns how many these were.
static inline long send_batches(long packets) {
  for (long sent = 0; sent < packets;) {
    const long left = packets - sent;
    const int some = sendmmsg(SOCKET_FD, headers, left < BATCH_PACKETS ? (unsigned)left : BATCH_PACKETS,
                              MSG_DONTWAIT | MSG_NOSIGNAL);
    if (some < 0) die("sendmmsg");
    sent += some;
  }
  return packets;
}
