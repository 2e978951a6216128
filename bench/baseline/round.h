// What the C programs of the bench share: a line on standard input asks for a round, a line of JSON answers it.
#pragma once

#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

// The tun descriptor that run.ts opened, O_NONBLOCK.
enum { TUN_FD = 3, MAX_PACKET = 65536, WAKE_UP_PACKETS = 64 };

static inline void die(const char *what) {
  perror(what);
  exit(1);
}

static inline long long now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

// User and system time of this process.
static inline long long cpu_ns(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000LL +
         (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000LL;
}

static inline void answer(long packets, long long ns, long long cpu) {
  printf("{\"packets\":%ld,\"nanoseconds\":%lld,\"cpu\":%lld}\n", packets, ns, cpu);
  fflush(stdout);
}

static inline void wait_for_packet(void) {
  struct pollfd entry = {TUN_FD, POLLIN, 0};
  if (poll(&entry, 1, -1) < 0) die("poll");
}

// One packet into `packet`: its length, or 0 when none is queued.
static inline size_t read_packet(unsigned char *packet) {
  const ssize_t length = read(TUN_FD, packet, MAX_PACKET);
  if (length < 0 && errno != EAGAIN) die("read");
  return length < 0 ? 0 : (size_t)length;
}

static inline void write_packet(const unsigned char *packet, size_t length) {
  if (write(TUN_FD, packet, length) < 0) die("write");
}

// Reads hexadecimal digits into at most `room` bytes; returns how many there are.
static inline size_t read_hex(const char *digits, unsigned char *bytes, size_t room) {
  const size_t length = strlen(digits) / 2;
  for (size_t i = 0; i < length && i < room; ++i) sscanf(digits + 2 * i, "%2hhx", &bytes[i]);
  return length;
}

static inline void *idle_thread(void *unused) {
  for (;;) pause();
  return unused;
}

// Runs `work(packets, packet, length)`, which returns how many packets it moved, for each line that says how many.
// The packet to send is the program's first argument, in hexadecimal. With a second argument the process has a thread
// that does nothing: as in Node, the kernel then counts references to the descriptor at each system call.
static inline int run_rounds(int argc, char **argv, long (*work)(long, const unsigned char *, size_t)) {
  static unsigned char packet[MAX_PACKET];
  const size_t length = argc > 1 ? read_hex(argv[1], packet, sizeof packet) : 0;
  pthread_t thread;
  if (argc > 2 && pthread_create(&thread, NULL, idle_thread, NULL) != 0) die("pthread_create");
  char line[64];
  while (fgets(line, sizeof line, stdin) != NULL) {
    const long packets = atol(line);
    const long long cpu = cpu_ns();
    const long long start = now_ns();
    const long moved = work(packets, packet, length);
    const long long end = now_ns();
    answer(moved, end - start, cpu_ns() - cpu);
  }
  return 0;
}
