// poll(2), then read(2) until EAGAIN, or as many packets as a wake-up of the event loop reads.
#include "round.h"

static long work(long packets, const unsigned char *packet, size_t length) {
  static unsigned char received[MAX_PACKET];
  (void)packet, (void)length;
  long done = 0;
  while (done < packets) {
    wait_for_packet();
    for (int i = 0; i < WAKE_UP_PACKETS && read_packet(received) > 0; ++i) ++done;
  }
  return done;
}

int main(int argc, char **argv) { return run_rounds(argc, argv, work); }
