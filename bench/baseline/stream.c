// The ends of a TCP connection: `stream receive <address> <port>` accepts one after the other and reads each to its end, until
// standard input ends;
// `stream send <address> <port>` connects for each line, sends so many bytes as the line says, and waits until the receiver has closed.
#include <arpa/inet.h>
#include <sys/socket.h>

#include "round.h"

enum { CHUNK = 256 * 1024 };

static char buffer[CHUNK];

static struct sockaddr_in address_of(char **argv) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argv[3]))};
  if (inet_pton(AF_INET, argv[2], &address.sin_addr) != 1) die("address");
  return address;
}

static int receive(char **argv) {
  const struct sockaddr_in here = address_of(argv);
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  if (bind(listener, (const struct sockaddr *)&here, sizeof here) < 0 || listen(listener, 1) < 0) die("bind");
  answer(0, 0, 0);  // ready
  struct pollfd entries[] = {{listener, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
  for (;;) {
    if (poll(entries, 2, -1) < 0) die("poll");
    if (entries[1].revents != 0) return 0;
    const int connection = accept(listener, NULL, NULL);
    if (connection < 0) die("accept");
    while (read(connection, buffer, sizeof buffer) > 0);
    close(connection);
  }
}

static void send_bytes(const struct sockaddr_in *there, long bytes) {
  const int connection = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(connection, (const struct sockaddr *)there, sizeof *there) < 0) die("connect");
  while (bytes > 0) {
    const ssize_t sent = write(connection, buffer, bytes < CHUNK ? (size_t)bytes : CHUNK);
    if (sent < 0) die("write");
    bytes -= sent;
  }
  shutdown(connection, SHUT_WR);
  if (read(connection, buffer, 1) != 0) die("read");
  close(connection);
}

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  if (strcmp(argv[1], "receive") == 0) return receive(argv);
  const struct sockaddr_in there = address_of(argv);
  char line[64];
  while (fgets(line, sizeof line, stdin) != NULL) {
    const long bytes = atol(line);
    const long long cpu = cpu_ns();
    const long long start = now_ns();
    send_bytes(&there, bytes);
    answer(bytes, now_ns() - start, cpu_ns() - cpu);
  }
  return 0;
}
