#pragma once

// Included before everything else (binding.gyp): binds to functions of glibc by the version that they have
// had since the beginning of their architecture. They moved from libpthread to libc in 2.34, and what was
// linked there would not load on anything older.

#if defined(__has_include)
#if __has_include(<features.h>)
#include <features.h>
#endif
#endif

#if defined(__GLIBC__) && defined(__x86_64__)
#define TUNSOCK_FIRST_GLIBC "GLIBC_2.2.5"
#elif defined(__GLIBC__) && defined(__aarch64__)
#define TUNSOCK_FIRST_GLIBC "GLIBC_2.17"
#endif

#if defined(TUNSOCK_FIRST_GLIBC)
__asm__(".symver pthread_create, pthread_create@" TUNSOCK_FIRST_GLIBC);
__asm__(".symver pthread_join, pthread_join@" TUNSOCK_FIRST_GLIBC);
#endif
