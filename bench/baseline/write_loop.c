// write(2) of the same packet.
#include "round.h"

static long work(long packets, const unsigned char *packet, size_t length) {
  for (long i = 0; i < packets; ++i) write_packet(packet, length);
  return packets;
}

int main(int argc, char **argv) { return run_rounds(argc, argv, work); }
