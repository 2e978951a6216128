// What open-configure.ts does, by the `ip` program: a tun device with an address and an MTU, up.
#include <spawn.h>
#include <sys/wait.h>

#include "round.h"

extern char **environ;

static void ip(char **argv) {
  pid_t child = 0;
  int status = 0;
  if (posix_spawnp(&child, "ip", NULL, NULL, argv, environ) != 0) die("ip");
  if (waitpid(child, &status, 0) < 0 || status != 0) die("ip");
}

int main(void) {
  char *add[] = {"ip", "tuntap", "add", "dev", "opened0", "mode", "tun", NULL};
  char *address[] = {"ip", "address", "add", "10.8.0.1/24", "dev", "opened0", NULL};
  char *up[] = {"ip", "link", "set", "dev", "opened0", "mtu", "1400", "up", NULL};
  char *delete[] = {"ip", "tuntap", "del", "dev", "opened0", "mode", "tun", NULL};
  char line[64];
  while (fgets(line, sizeof line, stdin) != NULL) {
    const long long cpu = cpu_ns();
    const long long start = now_ns();
    ip(add);
    ip(address);
    ip(up);
    const long long end = now_ns();
    ip(delete);
    answer(1, end - start, cpu_ns() - cpu);
  }
  return 0;
}
