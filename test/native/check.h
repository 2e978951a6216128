#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>

namespace tunsock::test {

/// The whole test framework: each check counts, the first that fails ends the program with what it was about.
inline size_t checks_passed = 0;

inline void Check(bool holds, const std::string& what, const char* file, int line) {
  if (holds) {
    checks_passed++;
    return;
  }
  std::fprintf(stderr, "%s:%d: failed: %s\n", file, line, what.c_str());
  std::exit(1);
}

}  // namespace tunsock::test

#define CHECK(condition, what) ::tunsock::test::Check((condition), (what), __FILE__, __LINE__)
