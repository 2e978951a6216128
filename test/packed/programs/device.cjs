// Opens a device and hears one packet: what a user's first program does, from CommonJS.
const assert = require('node:assert');
const dgram = require('node:dgram');
const { Netns, TunSocket } = require('tunsock');

Netns.create().enter();
const tun = TunSocket.open({ address: '10.0.0.1/24' });
assert.equal(tun.name, 'tun0');
const udp = dgram.createSocket('udp4');
tun.on('message', (packet) => {
  if (packet[0] >> 4 !== 4) return;
  assert.equal(packet.readUInt32BE(16), 0x0a000002);
  tun.close();
  udp.close();
  console.log('heard a packet');
});
udp.send('x', 9, '10.0.0.2');
import('tunsock').then((esm) => assert.equal(esm.TunSocket, TunSocket));
