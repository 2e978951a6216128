// The other side of the device: UDP packets from 10.7.0.1 to 10.7.0.2, which lie behind it. Commands, a line each:
//   burst <packets> <size>   sends so many packets of `size` bytes
//   singles <packets> <size> the same, each in a call of its own, so that no device gets them as one superpacket
//   flood <size>             sends until the next line
//   ping <packets> <size>    sends one, waits until it comes back, and so on
// A second socket takes what the device sends to port 9 of 10.7.0.1, and is never read.
#include <arpa/inet.h>
#include <netinet/udp.h>
#include <sys/socket.h>

#include "round.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

enum { ECHO_PORT = 7, SINK_PORT = 9, HEADERS = 28, MAX_SEGMENTS = 64, MAX_SEND = 65000 };

static unsigned char payload[MAX_SEND];

static int udp_socket(int port) {
  struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(port)};
  inet_pton(AF_INET, "10.7.0.1", &here.sin_addr);
  const int fd = socket(AF_INET, SOCK_DGRAM, 0);
  if (fd < 0 || bind(fd, (struct sockaddr *)&here, sizeof here) < 0) die("bind");
  return fd;
}

static void set_segment(int fd, int bytes) {
  if (setsockopt(fd, SOL_UDP, UDP_SEGMENT, &bytes, sizeof bytes) < 0) die("UDP_SEGMENT");
}

// Sends at most `packets`, which the stack cuts out of one long datagram: a sender that is faster than any reader.
static long send_some(int fd, long packets, long bytes) {
  long segments = MAX_SEND / bytes < MAX_SEGMENTS ? MAX_SEND / bytes : MAX_SEGMENTS;
  if (segments > packets) segments = packets;
  if (send(fd, payload, (size_t)(segments * bytes), 0) < 0 && errno != ENOBUFS) die("send");
  return segments;
}

static long flood(int fd, long bytes) {
  struct pollfd input = {STDIN_FILENO, POLLIN, 0};
  char line[64];
  long sent = 0;
  set_segment(fd, (int)bytes);
  while (poll(&input, 1, 0) == 0) sent += send_some(fd, MAX_SEGMENTS, bytes);
  if (fgets(line, sizeof line, stdin) == NULL) exit(0);
  return sent;
}

static long burst(int fd, long packets, long bytes) {
  set_segment(fd, (int)bytes);
  for (long sent = 0; sent < packets;) sent += send_some(fd, packets - sent, bytes);
  return packets;
}

static long singles(int fd, long packets, long bytes) {
  set_segment(fd, 0);
  for (long i = 0; i < packets; ++i) {
    if (send(fd, payload, (size_t)bytes, 0) < 0) die("send");
  }
  return packets;
}

static long ping(int fd, long packets, long bytes) {
  set_segment(fd, 0);
  for (long i = 0; i < packets; ++i) {
    if (send(fd, payload, (size_t)bytes, 0) < 0) die("send");
    if (recv(fd, payload, sizeof payload, 0) < 0) die("recv");
  }
  return packets;
}

int main(void) {
  const int fd = udp_socket(ECHO_PORT);
  struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(ECHO_PORT)};
  inet_pton(AF_INET, "10.7.0.2", &there.sin_addr);
  if (connect(fd, (struct sockaddr *)&there, sizeof there) < 0) die("connect");
  udp_socket(SINK_PORT);
  setvbuf(stdin, NULL, _IONBF, 0);

  char line[64];
  while (fgets(line, sizeof line, stdin) != NULL) {
    long packets = 0;
    long size = 0;
    long done = 0;
    const long long cpu = cpu_ns();
    const long long start = now_ns();
    if (sscanf(line, "burst %ld %ld", &packets, &size) == 2) {
      done = burst(fd, packets, size - HEADERS);
    } else if (sscanf(line, "singles %ld %ld", &packets, &size) == 2) {
      done = singles(fd, packets, size - HEADERS);
    } else if (sscanf(line, "flood %ld", &size) == 1) {
      done = flood(fd, size - HEADERS);
    } else if (sscanf(line, "ping %ld %ld", &packets, &size) == 2) {
      done = ping(fd, packets, size - HEADERS);
    }
    answer(done, now_ns() - start, cpu_ns() - cpu);
  }
  return 0;
}
