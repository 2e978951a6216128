// Five packets with time between them: a loop whose watch ends after one event hears the first only.
const assert = require('node:assert');
const { spawn } = require('node:child_process');
const { constants, Netns, socketFromFd, TunSocket } = require('tunsock');

Netns.create().enter();
const tun = socketFromFd(TunSocket.open({ address: '10.0.0.1/24' }).detach());
const buffer = Buffer.alloc(2048);
const sender = `for i in 1 2 3 4 5; do printf x > /dev/udp/10.0.0.2/9; sleep 0.05; done`;

if (process.versions.bun !== undefined) {
  tun.on('error', (error) => {
    assert.equal(error.code, 'ENOSYS');
    const other = socketFromFd(TunSocket.open({ address: '10.0.1.1/24' }).detach());
    spawn('bash', ['-c', sender.replace('10.0.0.2', '10.0.1.2')]);
    let bytes = 0;
    do bytes = other.recvmsg([buffer]).bytes;
    while (buffer[0] >> 4 !== 4);
    assert.equal(bytes, 29);
    other.sendmsg(buffer.subarray(0, bytes), constants.MSG_DONTWAIT);
    console.log('calls work, events are refused with ENOSYS');
    process.exit(0);
  });
  tun.on('message', () => assert.fail('heard a packet'));
} else {
  let heard = 0;
  tun.on('message', (packet) => {
    if (packet[0] >> 4 === 4) heard += 1;
    if (heard < 5) return;
    tun.close();
    console.log('heard five packets');
  });
  spawn('bash', ['-c', sender]);
}
setTimeout(() => {
  console.error('nothing more was heard');
  process.exit(1);
}, 20_000).unref();
