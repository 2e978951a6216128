#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "packet_spec.h"

/// What libFuzzer calls, and replay_main.cc. One for each *_fuzz.cc.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace tunsock::test {

/// Well-formed inputs of the target, to mutate.
std::vector<Bytes> SeedInputs();

/// TCP and UDP, IPv4 and IPv6, with and without Ethernet, VLAN, options and extension headers; of `payload`
/// bytes.
std::vector<PacketSpec> SeedSpecs(size_t payload);

}  // namespace tunsock::test
