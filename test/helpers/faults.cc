// A library for LD_PRELOAD that makes system calls of the addon fail: those that are made by tunsock.node, not Node's own. What is to
// fail, and what was called, stands in the file that TUNSOCK_FAULTS names (`Control`), which the program under test reads and writes.
//
// Every function of libc that the addon imports and that makes a system call is in the list below; test/lifecycle/faults.test.ts holds
// that none is missing. A wrapper hands six words on: as many as any of them takes, and as many as go in registers on x86-64 and arm64.

#include <dlfcn.h>
#include <link.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>

extern "C" {
int open64(const char*, int, ...);
long syscall(long, ...);
}

namespace {

constexpr int kMaxSites = 4096;
constexpr int kMapShared = 1;
constexpr int kReadWrite = 3;
constexpr int kOpenReadWrite = 2;
/// In place of an errno: the call is made, and does half of what was asked for.
constexpr int kShort = -1;
/// The call and all behind it fail, so that what undoes things fails too.
constexpr int kLasting = -2;

/// The layout that test/helpers/faults.ts has too.
struct Control {
  int32_t armed;
  /// Which call since `armed` is to fail, from 1.
  int32_t at;
  int32_t error;
  std::atomic<int32_t> calls;
  /// The function whose call was made to fail, and where the call is in the addon; 0 when none was.
  int32_t failed_function;
  int32_t failed_site;
  /// Places of calls that were made to fail, each once: offsets in the addon.
  int32_t sites;
  int32_t site[kMaxSites];
};

enum class Kind {
  kInt,
  kLong,
  /// Packets or a message: shorter.
  kBytes,
  /// Packets: fewer; the third argument says how many.
  kCount,
  /// Done all the same: Linux has freed a descriptor or a mapping even when it reports an error.
  kFreeing,
  /// pthread_create(3).
  kReturnsErrno,
  /// if_nametoindex(3).
  kReturnsZero,
};

struct Function {
  const char* name;
  Kind kind;
};

#define FUNCTIONS(X)                                                                                      \
  X(accept4, kInt) X(bind, kInt) X(close, kFreeing) X(connect, kInt) X(eventfd, kInt) X(eventfd_read, kInt) \
  X(eventfd_write, kInt) X(fcntl64, kInt) X(fcntl, kInt) X(flock, kInt) X(getpeername, kInt)              \
  X(getsockname, kInt) X(getsockopt, kInt) X(if_nametoindex, kReturnsZero) X(ioctl, kInt) X(listen, kInt) \
  X(mkdir, kInt) X(mmap64, kLong) X(mmap, kLong) X(mount, kInt) X(munmap, kFreeing) X(open64, kInt)       \
  X(open, kInt) X(poll, kInt) X(pthread_create, kReturnsErrno) X(readv, kBytes) X(recv, kBytes)           \
  X(recvfrom, kBytes) X(recvmmsg, kCount) X(recvmsg, kBytes) X(sendmmsg, kCount) X(sendmsg, kLong)        \
  X(sendto, kLong) X(setns, kInt) X(setsockopt, kInt) X(socket, kInt) X(socketpair, kInt)                 \
  X(syscall, kBytes) X(umount2, kInt) X(unlink, kInt) X(unshare, kInt) X(writev, kLong)

enum Number {
#define NUMBER(name, kind) k_##name,
  FUNCTIONS(NUMBER)
#undef NUMBER
};

constexpr Function kFunctions[] = {
#define FUNCTION(name, kind) {#name, Kind::kind},
    FUNCTIONS(FUNCTION)
#undef FUNCTION
};

using Words = long (*)(long, long, long, long, long, long);
Words g_real[sizeof kFunctions / sizeof *kFunctions];
Control* g_control;
/// Whether this thread has moved to a network namespace, from which it goes back; that it can't is the end of the process
/// (Netns.run()), and so is not tried.
thread_local bool g_away;
uintptr_t g_start;
uintptr_t g_end;

Words Real(int number) {
  if (g_real[number] == nullptr) g_real[number] = reinterpret_cast<Words>(dlsym(RTLD_NEXT, kFunctions[number].name));
  return g_real[number];
}

/// The program's pages of the addon, once it is loaded.
int FindAddon(dl_phdr_info* info, size_t, void*) {
  const char* end = info->dlpi_name + strlen(info->dlpi_name);
  if (end - info->dlpi_name < 12 || strcmp(end - 12, "tunsock.node") != 0) return 0;
  for (int i = 0; i < info->dlpi_phnum; i++) {
    const ElfW(Phdr)& part = info->dlpi_phdr[i];
    if (part.p_type != PT_LOAD || (part.p_flags & PF_X) == 0) continue;
    g_end = info->dlpi_addr + part.p_vaddr + part.p_memsz;
    g_start = info->dlpi_addr;
  }
  return 1;
}

long Fail(Kind kind, int error) {
  if (kind == Kind::kReturnsErrno) return error;
  errno = error;
  return kind == Kind::kReturnsZero ? 0 : -1;
}

void Note(int32_t site) {
  int known = 0;
  while (known < g_control->sites && g_control->site[known] != site) known++;
  if (known == g_control->sites && known < kMaxSites) {
    g_control->site[known] = site;
    g_control->sites = known + 1;
  }
}

long Call(int number, const void* from, long a, long b, long c, long d, long e, long f) {
  const Kind kind = kFunctions[number].kind;
  const auto make = [&] {
    const long result = Real(number)(a, b, c, d, e, f);
    const bool wide = kind == Kind::kLong || kind == Kind::kBytes;
    return wide ? result : static_cast<long>(static_cast<int>(result));
  };
  if (g_control == nullptr || g_control->armed == 0) return make();
  if (g_start == 0) dl_iterate_phdr(FindAddon, nullptr);
  const auto place = reinterpret_cast<uintptr_t>(from);
  if (place < g_start || place >= g_end) return make();
  const auto site = static_cast<int32_t>(place - g_start);
  const bool goes_back = number == k_setns && std::exchange(g_away, !g_away);
  if (goes_back) return make();
  const int calls = ++g_control->calls;
  const bool fails = calls == g_control->at;
  const bool behind = g_control->failed_site != 0;
  // What is closed because of a fault fails too: nothing else comes there.
  if (!fails && !(behind && (kind == Kind::kFreeing || g_control->error == kLasting))) return make();
  if (fails) {
    g_control->failed_function = number + 1;
    g_control->failed_site = site;
  }
  Note(site);
  const int error = g_control->error < 0 ? EIO : g_control->error;
  if (kind == Kind::kFreeing) {
    (void)make();
    return Fail(kind, error);
  }
  if (g_control->error != kShort) {
    if (number == k_setns) g_away = false;
    return Fail(kind, error);
  }
  if (kind == Kind::kCount && c > 1) c /= 2;
  const long result = make();
  return kind == Kind::kBytes && result > 1 ? result / 2 : result;
}

__attribute__((constructor)) void Begin() {
  const char* path = getenv("TUNSOCK_FAULTS");
  if (path == nullptr) return;
  const long fd = Real(k_open64)(reinterpret_cast<long>(path), kOpenReadWrite, 0, 0, 0, 0);
  if (fd < 0) abort();
  const long start = Real(k_mmap64)(0, sizeof(Control), kReadWrite, kMapShared, fd, 0);
  if (start == -1) abort();
  (void)Real(k_close)(fd, 0, 0, 0, 0, 0);
  g_control = reinterpret_cast<Control*>(start);
}

}  // namespace

#define WRAPPER(name, kind)                                                                                \
  extern "C" __attribute__((visibility("default"))) long tunsock_##name(long a, long b, long c, long d,    \
                                                                        long e, long f) __asm__(#name);    \
  long tunsock_##name(long a, long b, long c, long d, long e, long f) {                                    \
    return Call(k_##name, __builtin_return_address(0), a, b, c, d, e, f);                                  \
  }
FUNCTIONS(WRAPPER)
