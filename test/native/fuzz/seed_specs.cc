#include "fuzz_target.h"

namespace tunsock::test {

std::vector<PacketSpec> SeedSpecs(size_t payload) {
  std::vector<PacketSpec> specs;
  for (const bool tcp : {true, false}) {
    for (const int version : {4, 6}) {
      for (const int tags : {-1, 0, 2}) {
        for (const bool options : {false, true}) {
          PacketSpec spec;
          spec.tcp = tcp;
          spec.version = version;
          spec.vlan_tags = tags;
          spec.flags = kTcpAck | kTcpPsh | kTcpEce;
          spec.payload = Pattern(payload);
          if (options) {
            if (tcp) spec.tcp_options = {1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2};
            if (version == 4) spec.ip_options = {1, 1, 1, 0};
            if (version == 6) {
              spec.first_extension = IPPROTO_HOPOPTS;
              const uint8_t next = tcp ? IPPROTO_TCP : IPPROTO_UDP;
              spec.extension_headers = {IPPROTO_DSTOPTS, 0, 1, 4, 0, 0, 0, 0, next, 0, 1, 4, 0, 0, 0, 0};
            }
          }
          specs.push_back(spec);
        }
      }
    }
  }
  return specs;
}

}  // namespace tunsock::test
