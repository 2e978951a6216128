// The other end of a veth pair: frames that start as the program's argument does, in hexadecimal. Commands, a line each:
//   burst <packets> <size>   sends so many frames of `size` bytes
//   flood <size>             sends until the next line
#include "mmsg.h"

static long flood(void) {
  struct pollfd input = {STDIN_FILENO, POLLIN, 0};
  char line[64];
  long sent = 0;
  while (poll(&input, 1, 0) == 0) sent += send_batches(BATCH_PACKETS);
  if (fgets(line, sizeof line, stdin) == NULL) exit(0);
  return sent;
}

int main(int argc, char **argv) {
  static unsigned char frame[SLOT_BYTES];
  if (argc > 1) read_hex(argv[1], frame, sizeof frame);
  setvbuf(stdin, NULL, _IONBF, 0);

  char line[64];
  while (fgets(line, sizeof line, stdin) != NULL) {
    long packets = 0;
    long size = 0;
    long done = 0;
    const long long cpu = cpu_ns();
    const long long start = now_ns();
    if (sscanf(line, "burst %ld %ld", &packets, &size) == 2) {
      lay_out_copies(frame, (size_t)size);
      done = send_batches(packets);
    } else if (sscanf(line, "flood %ld", &size) == 1) {
      lay_out_copies(frame, (size_t)size);
      done = flood();
    }
    answer(done, now_ns() - start, cpu_ns() - cpu);
  }
  return 0;
}
