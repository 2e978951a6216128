#include <algorithm>
#include <cstdio>
#include <fstream>
#include <random>
#include <string>

#include "check.h"
#include "fuzz_target.h"

// Drives a fuzz target where there is no libFuzzer: each seed, cut at every length, and mutated by a random
// generator with a fixed seed. With a folder as argument: writes the seeds there, for libFuzzer to start
// from.

namespace {

using tunsock::test::Bytes;

constexpr int kMutationsOfEach = 2000;

void Run(const Bytes& input) {
  LLVMFuzzerTestOneInput(input.data(), input.size());
}

Bytes Mutate(Bytes input, std::mt19937& random) {
  const auto below = [&](size_t limit) {
    return std::uniform_int_distribution<size_t>(0, limit - 1)(random);
  };
  // Most headers are near the start, so that half of the changes go there.
  for (size_t left = 1 + below(3); left > 0 && !input.empty(); left--) {
    const size_t at = below(below(2) == 0 ? std::min<size_t>(input.size(), 80) : input.size());
    switch (below(5)) {
      case 0:
        input[at] ^= static_cast<uint8_t>(1 << below(8));
        break;
      case 1:
        input[at] = static_cast<uint8_t>(random());
        break;
      case 2:
        input[at] = below(2) == 0 ? 0 : 0xff;
        break;
      case 3:
        input.resize(below(input.size() + 1));
        break;
      default:
        input.insert(input.begin() + static_cast<long>(at), static_cast<uint8_t>(random()));
    }
  }
  return input;
}

int WriteSeeds(const std::string& folder) {
  size_t number = 0;
  for (const Bytes& seed : tunsock::test::SeedInputs()) {
    std::ofstream file(folder + "/seed" + std::to_string(number++), std::ios::binary);
    file.write(reinterpret_cast<const char*>(seed.data()), static_cast<std::streamsize>(seed.size()));
    if (!file.good()) return 1;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1) return WriteSeeds(argv[1]);
  std::mt19937 random(20240229);
  for (const Bytes& seed : tunsock::test::SeedInputs()) {
    for (size_t size = 0; size <= seed.size(); size++) {
      Run(Bytes(seed.begin(), seed.begin() + static_cast<long>(size)));
    }
    for (int i = 0; i < kMutationsOfEach; i++) Run(Mutate(seed, random));
  }
  std::printf("%zu checks passed\n", tunsock::test::checks_passed);
  return 0;
}
