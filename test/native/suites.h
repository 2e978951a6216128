#pragma once

namespace tunsock::test {

void TestChecksum();
void TestPacketView();
void TestGsoSplit();
void TestGsoLayers();
void TestGroTable();
void TestRoundTrip();
void TestOffloadReceive();
void TestOffloadSend();
void TestDatagramOffload();
void TestSegmentFallback();
void TestHeld();
void TestControlMessages();
void TestNetlink();
void TestVring();
void TestVringRace();
void TestPacketRings();
void TestVhostDevice();

}  // namespace tunsock::test
