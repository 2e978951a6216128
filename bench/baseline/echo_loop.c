// poll(2), read(2), and write(2) with the IPv4 addresses swapped; then read(2) until EAGAIN.
#include "round.h"

static long work(long packets, const unsigned char *packet, size_t length) {
  static unsigned char received[MAX_PACKET];
  (void)packet, (void)length;
  long done = 0;
  while (done < packets) {
    wait_for_packet();
    for (int i = 0; i < WAKE_UP_PACKETS; ++i) {
      const size_t size = read_packet(received);
      if (size == 0) break;
      unsigned char source[4];
      memcpy(source, received + 12, 4);
      memcpy(received + 12, received + 16, 4);
      memcpy(received + 16, source, 4);
      write_packet(received, size);
      ++done;
    }
  }
  return done;
}

int main(int argc, char **argv) { return run_rounds(argc, argv, work); }
