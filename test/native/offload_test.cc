#include <cstdio>

#include "check.h"
#include "suites.h"

int main() {
  tunsock::test::TestChecksum();
  tunsock::test::TestPacketView();
  tunsock::test::TestGsoSplit();
  tunsock::test::TestGsoLayers();
  tunsock::test::TestGroTable();
  tunsock::test::TestRoundTrip();
  tunsock::test::TestOffloadReceive();
  tunsock::test::TestOffloadSend();
  tunsock::test::TestDatagramOffload();
  tunsock::test::TestSegmentFallback();
  tunsock::test::TestHeld();
  tunsock::test::TestControlMessages();
  tunsock::test::TestNetlink();
  tunsock::test::TestVring();
  tunsock::test::TestVringRace();
  tunsock::test::TestPacketRings();
  tunsock::test::TestVhostDevice();
  std::printf("%zu checks passed\n", tunsock::test::checks_passed);
  return 0;
}
