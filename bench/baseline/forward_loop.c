// poll(2) on two tun descriptors, 3 and 4; read(2) from the one and write(2) to the other, as many packets as a wake-up of the event
// loop moves. The packets may be superpackets with their virtio header. A line on standard input asks for the totals so far.
#include "round.h"

enum { OTHER_FD = 4, ROOM = 65536 + 128 };

static long forward(int from, int to) {
  static unsigned char packet[ROOM];
  long moved = 0;
  for (; moved < WAKE_UP_PACKETS; ++moved) {
    const ssize_t length = read(from, packet, sizeof packet);
    if (length < 0 && errno == EAGAIN) break;
    if (length < 0) die("read");
    if (write(to, packet, (size_t)length) < 0) die("write");
  }
  return moved;
}

int main(void) {
  struct pollfd entries[] = {{TUN_FD, POLLIN, 0}, {OTHER_FD, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
  long moved = 0;
  char line[64];
  for (;;) {
    if (poll(entries, 3, -1) < 0) die("poll");
    if ((entries[0].revents & POLLIN) != 0) moved += forward(TUN_FD, OTHER_FD);
    if ((entries[1].revents & POLLIN) != 0) moved += forward(OTHER_FD, TUN_FD);
    if (entries[2].revents == 0) continue;
    if (read(STDIN_FILENO, line, sizeof line) <= 0) return 0;
    answer(moved, now_ns(), cpu_ns());
  }
}
