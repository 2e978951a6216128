// A Worker has its own copy of the module, and its own thread's namespace.
const assert = require('node:assert');
const { isMainThread, parentPort, Worker } = require('node:worker_threads');
const { Netns, TunSocket } = require('tunsock');

if (isMainThread) {
  const worker = new Worker(__filename);
  worker.on('message', (name) => assert.equal(name, 'tun0'));
  worker.on('exit', (code) => assert.equal(code, 0));
} else {
  Netns.create().enter();
  const tun = TunSocket.open({ address: '10.0.0.1/24' });
  parentPort.postMessage(tun.name);
  tun.close();
}
