#pragma once

namespace tunsock::test {

void TestChecksum();
void TestPacketView();
void TestGsoSplit();
void TestGroTable();
void TestRoundTrip();

}  // namespace tunsock::test
