// A race that the thread sanitizer must find in the addon, so that it is known to look: two Workers receive into the same memory.
const { isMainThread, Worker, workerData } = require('node:worker_threads');
const { Netns, UdpSocket } = require('../../dist');

/** Where the processors have other work, a Worker does a hundred in its slice of time, and the other one a hundred in the next. */
const ROUNDS = 5000;

if (isMainThread) {
  const shared = { memory: new SharedArrayBuffer(64), ready: new Int32Array(new SharedArrayBuffer(4)) };
  for (let n = 0; n < 2; n++) new Worker(__filename, { workerData: shared });
} else {
  const { memory, ready } = workerData;
  Netns.create({ loopback: true }).enter();
  const udp = UdpSocket.open({ address: '127.0.0.1', receiveTimeout: 1000 });
  const to = udp.address();
  // Both at once: what one has done before the other begins is no race.
  Atomics.add(ready, 0, 1);
  while (Atomics.load(ready, 0) < 2);
  for (let round = 0; round < ROUNDS; round++) {
    udp.sendmsg(Buffer.alloc(64), 0, { to });
    udp.recvmsg(new Uint8Array(memory));
  }
  udp.close();
}
