import { describe, expect, it } from 'vitest';
import { ENDED, run } from '../helpers/program';

/** A device that the host floods, and `shut()`, which closes its socket with sends in its queue. */
const STAGE = (offload: string) => `
  const { PacketBatch } = tunsock;
  const before = descriptors();
  // From the other side of the device to port 9 of this one, which nobody reads; without a checksum (RFC 768).
  const packet = Buffer.from('4500001d00000000401166cd0a0000020a0000010fa000090009000078', 'hex');
  const tun = TunSocket.open({ offload: '${offload}', address: '10.0.0.1/24', sendQueueLimit: 4096 });
  const told = { close: 0, callbacks: 0, late: 0 };
  tun.on('close', () => told.close++);
  const shut = () => {
    if (tun.closed) {
      told.late++;
      return;
    }
    for (let n = 0; n < 5; n++) tun.send(packet, () => told.callbacks++);
    tun.close();
    if (!tun.closed || tun.fd !== -1 || told.callbacks !== 0) console.log('not closed at once');
  };
  const udp = require('dgram').createSocket('udp4');
  udp.bind(0, () => {
    // The device may be gone before.
    if (tun.closed) return udp.close();
    for (let n = 0; n < 100; n++) udp.send(Buffer.alloc(100), 9, '10.0.0.2', () => {});
    tun.on('close', () => setTimeout(() => udp.close(), 20));
  });
  process.on('exit', () => console.log(JSON.stringify({ ...told, left: descriptors() > before + 3, links: Link.list().length })));`;

/** Everywhere that a program of the caller's is called. */
const PLACES: [place: string, program: string][] = [
  ["a 'message' listener", `tun.on('message', shut);`],
  ["a 'batch' listener", `tun.on('batch', shut);`],
  ["a 'batch' listener before 'message'", `tun.on('batch', shut).on('message', () => told.late++);`],
  ["a 'listening' listener", `tun.on('listening', shut);`],
  [
    "a 'drain' listener",
    `tun.on('drain', shut);
     for (let n = 0; n < 200; n++) tun.send(packet, () => {});`,
  ],
  ["a 'link' listener", `tun.on('link', shut); setTimeout(() => tun.closed || tun.link.down(), 50);`],
  ["an 'error' listener", `tun.on('error', shut).send(Buffer.alloc(20));`],
  [
    'the callback of a send()',
    `tun.send(packet, shut); for (let n = 0; n < 9; n++) tun.send(packet, () => {});`,
  ],
  ['what follows a receive()', `tun.receive().then(shut);`],
  [
    'what follows one of several receive() calls',
    // Several may have got their packets in one wake-up, before the first of them closes the socket.
    `for (let n = 0; n < 3; n++) tun.receive().then(() => tun.closed || shut(), () => {});`,
  ],
  [
    'what follows a sendBatch()',
    `const batch = new PacketBatch(); batch.push(packet); tun.sendBatch(batch).then(shut);`,
  ],
  ["a 'data' listener of its stream", `tun.stream().once('data', shut);`],
  ['the callback of a write to its stream', `tun.stream().write(packet, shut);`],
  ['the body of for await', `(async () => { for await (const _ of tun) shut(); })();`],
  [
    'a listener of another socket',
    `const other = TunSocket.open().on('listening', () => { shut(); other.close(); });`,
  ],
  [
    'a signal that is aborted in a listener',
    `const control = new AbortController();
     control.signal.addEventListener('abort', shut);
     tun.on('message', () => control.abort());`,
  ],
];

describe.each(['none', 'split', 'raw'])("close() with offload '%s', in", (offload) => {
  it.each(
    // A stream has no place for what is still to be done to a packet.
    PLACES.filter(([place]) => offload !== 'raw' || !place.includes('stream')),
  )('%s: all is told, once', (_, program) => {
    const { output, ...ended } = run(STAGE(offload) + program);
    expect(ended).toEqual(ENDED);
    expect(JSON.parse(output)).toEqual({ close: 1, callbacks: 5, late: 0, left: false, links: 1 });
  });
});
