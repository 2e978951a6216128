// Datagrams over a UDP socket with UDP_SEGMENT and UDP_GRO: `udp_loop send <port> <bytes>` sends to that port of this host, 64 at a time,
// as few messages as may be; `udp_loop receive <port>` takes what is queued there. Each line of standard input says how many.
#include "round.h"

#include <arpa/inet.h>
#include <netinet/udp.h>
#include <sys/socket.h>

enum { BATCH_PACKETS = 64, MAX_MESSAGE = 65487, RECEIVE_BUFFER = 128 << 20 };

static int udp;
static size_t size;
static unsigned char datagrams[BATCH_PACKETS][MAX_PACKET];

struct control {
  _Alignas(struct cmsghdr) unsigned char bytes[CMSG_SPACE(sizeof(int)) + 256];
};

// Lays 64 datagrams out as messages of several; returns how many messages.
static unsigned lay_out(struct mmsghdr *headers, struct iovec *views, struct control *controls) {
  const size_t most = MAX_MESSAGE / size < BATCH_PACKETS ? MAX_MESSAGE / size : BATCH_PACKETS;
  unsigned count = 0;
  for (size_t next = 0; next < BATCH_PACKETS; ++count) {
    const size_t some = BATCH_PACKETS - next < most ? BATCH_PACKETS - next : most;
    for (size_t i = 0; i < some; ++i) views[next + i] = (struct iovec){datagrams[next + i], size};
    struct msghdr *header = &headers[count].msg_hdr;
    *header = (struct msghdr){.msg_iov = &views[next], .msg_iovlen = some, .msg_control = controls[count].bytes};
    header->msg_controllen = CMSG_SPACE(sizeof(uint16_t));
    struct cmsghdr *item = CMSG_FIRSTHDR(header);
    item->cmsg_level = SOL_UDP;
    item->cmsg_type = UDP_SEGMENT;
    item->cmsg_len = CMSG_LEN(sizeof(uint16_t));
    memcpy(CMSG_DATA(item), &(uint16_t){(uint16_t)size}, sizeof(uint16_t));
    next += some;
  }
  return count;
}

static long send_work(long packets, const unsigned char *unused, size_t length) {
  (void)unused, (void)length;
  static struct mmsghdr headers[BATCH_PACKETS];
  static struct iovec views[BATCH_PACKETS];
  static struct control controls[BATCH_PACKETS];
  const unsigned messages = lay_out(headers, views, controls);
  for (long sent = 0; sent < packets; sent += BATCH_PACKETS) {
    if (sendmmsg(udp, headers, messages, MSG_DONTWAIT | MSG_NOSIGNAL) != (int)messages) die("sendmmsg");
  }
  return packets;
}

// How many datagrams a message is.
static long segments(struct mmsghdr *entry) {
  const int bytes = (int)entry->msg_len;
  int segment = bytes;
  for (struct cmsghdr *item = CMSG_FIRSTHDR(&entry->msg_hdr); item != NULL; item = CMSG_NXTHDR(&entry->msg_hdr, item)) {
    if (item->cmsg_level == SOL_UDP && item->cmsg_type == UDP_GRO) memcpy(&segment, CMSG_DATA(item), sizeof segment);
  }
  return (bytes + segment - 1) / segment;
}

// With as many slots as tunsock's batch of 'raw' has.
static long receive_work(long packets, const unsigned char *unused, size_t length) {
  (void)unused, (void)length;
  static struct mmsghdr headers[BATCH_PACKETS];
  static struct iovec views[BATCH_PACKETS];
  static struct control controls[BATCH_PACKETS];
  static struct sockaddr_in from[BATCH_PACKETS];
  long done = 0;
  while (done < packets) {
    for (int i = 0; i < BATCH_PACKETS; ++i) {
      views[i] = (struct iovec){datagrams[i], MAX_PACKET};
      headers[i].msg_hdr = (struct msghdr){.msg_name = &from[i], .msg_namelen = sizeof from[i], .msg_iov = &views[i]};
      headers[i].msg_hdr.msg_iovlen = 1;
      headers[i].msg_hdr.msg_control = controls[i].bytes;
      headers[i].msg_hdr.msg_controllen = sizeof controls[i].bytes;
    }
    const int received = recvmmsg(udp, headers, BATCH_PACKETS, MSG_DONTWAIT | MSG_TRUNC, NULL);
    if (received < 0 && errno == EAGAIN) break;
    if (received < 0) die("recvmmsg");
    for (int i = 0; i < received; ++i) done += segments(&headers[i]);
  }
  return done;
}

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  const int sends = strcmp(argv[1], "send") == 0;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argv[2]))};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  udp = socket(AF_INET, SOCK_DGRAM, 0);
  const int on = 1, room = RECEIVE_BUFFER;
  if (sends) {
    size = (size_t)atol(argv[3]);
    if (connect(udp, (const struct sockaddr *)&address, sizeof address) < 0) die("connect");
  } else {
    setsockopt(udp, SOL_UDP, UDP_GRO, &on, sizeof on);
    // What UdpSocket asks for too.
    setsockopt(udp, IPPROTO_IP, IP_PKTINFO, &on, sizeof on);
    setsockopt(udp, IPPROTO_IP, IP_RECVTOS, &on, sizeof on);
    if (setsockopt(udp, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room) < 0) die("SO_RCVBUFFORCE");
    if (bind(udp, (const struct sockaddr *)&address, sizeof address) < 0) die("bind");
  }
  answer(0, 0, 0);  // ready
  char *threaded[] = {argv[0], "", "threaded", NULL};
  return run_rounds(3, threaded, sends ? send_work : receive_work);
}
