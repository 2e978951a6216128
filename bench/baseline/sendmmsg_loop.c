// sendmmsg(2) of the same 64 frames.
#include "mmsg.h"

static long work(long packets, const unsigned char *packet, size_t length) {
  if (views[0].iov_len == 0) lay_out_copies(packet, length);
  return send_batches(packets);
}

int main(int argc, char **argv) { return run_rounds(argc, argv, work); }
