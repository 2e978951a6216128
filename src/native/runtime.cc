// What the addon needs of the C++ runtime, so that it links against no libstdc++: one that is older than the
// compiler's, or musl's, is then as good as any. All of it is hidden (exports.map). Without exceptions there
// is one answer to what would be thrown: the process ends, as it would at std::terminate.

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>

#if defined(__GLIBC__)
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace {

[[noreturn]] void End(const char* what) {
  std::fprintf(stderr, "tunsock: %s\n", what);
  std::abort();
}

void* Allocate(std::size_t size) {
  void* memory = std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr) End("out of memory");
  return memory;
}

}  // namespace

void* operator new(std::size_t size) {
  return Allocate(size);
}
void* operator new[](std::size_t size) {
  return Allocate(size);
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  return std::malloc(size == 0 ? 1 : size);
}
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept {
  return std::malloc(size == 0 ? 1 : size);
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete[](void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}
void operator delete[](void* memory, std::size_t) noexcept {
  std::free(memory);
}
void operator delete(void* memory, const std::nothrow_t&) noexcept {
  std::free(memory);
}
void operator delete[](void* memory, const std::nothrow_t&) noexcept {
  std::free(memory);
}

extern "C" [[noreturn]] void __cxa_pure_virtual() {
  End("a pure virtual function was called");
}

#if defined(__GLIBCXX__)
const std::nothrow_t std::nothrow{};

// The headers declare this one 'extern template'.
template class std::basic_string<char>;

// What the headers of libstdc++ call where they would throw.
namespace std {
void __throw_bad_alloc() {
  End("out of memory");
}
void __throw_bad_array_new_length() {
  End("out of memory");
}
void __throw_bad_function_call() {
  End("an empty function was called");
}
void __throw_length_error(const char* what) {
  End(what);
}
void __throw_logic_error(const char* what) {
  End(what);
}
void __throw_out_of_range_fmt(const char* what, ...) {
  End(what);
}
void __throw_system_error(int error) {
  End(std::strerror(error));
}
}  // namespace std
#endif

#if defined(__GLIBC__)
// Became a function of its own in glibc 2.33. The kernel's struct is glibc's where all is 64 bits wide.
static_assert(sizeof(void*) == 8);
extern "C" int fstat64(int fd, struct stat64* status) noexcept {
  return static_cast<int>(::syscall(SYS_fstat, fd, status));
}
#endif
