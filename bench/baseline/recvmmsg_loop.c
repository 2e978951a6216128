// recvmmsg(2) of 64 frames, with their addresses and true lengths, until the queue is empty.
#include "mmsg.h"

static struct sockaddr_ll senders[BATCH_PACKETS];

static int receive_batch(void) {
  for (int i = 0; i < BATCH_PACKETS; ++i) headers[i].msg_hdr.msg_namelen = sizeof senders[i];
  const int received = recvmmsg(SOCKET_FD, headers, BATCH_PACKETS, MSG_DONTWAIT | MSG_TRUNC, NULL);
  if (received < 0 && errno != EAGAIN) die("recvmmsg");
  return received;
}

static long work(long packets, const unsigned char *packet, size_t length) {
  (void)packet, (void)length;
  lay_out_batch(SLOT_BYTES);
  for (int i = 0; i < BATCH_PACKETS; ++i) headers[i].msg_hdr.msg_name = &senders[i];
  long done = 0;
  for (int received; done < packets && (received = receive_batch()) > 0;) done += received;
  return done;
}

int main(int argc, char **argv) { return run_rounds(argc, argv, work); }
