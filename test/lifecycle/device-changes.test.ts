import { describe, expect, it } from 'vitest';
import { ENDED, run } from '../helpers/program';

/**
 * A device that sends each packet back, and a host that sends it numbered ones; `change()` after the first hundred. Ends when another
 * hundred came after the change, or the socket is closed.
 */
const STAGE = (offload: string, change: string, end: string) => `
  const packets = require(process.argv[1] + '/dist/packets');
  const here = Netns.current();
  const dgram = require('dgram');
  const seen = { kinds: new Set(), codes: [], closed: 0, before: 0, after: 0, disorder: 0, longest: 0 };
  let last = -1;
  let changed = false;
  const take = (packet, { offload } = {}) => {
    seen.longest = changed && seen.after > 0 ? Math.max(seen.longest, packet.length) : 0;
    if (packet[0] >> 4 !== 4 || packet[9] !== 17 || packet.readUInt16BE(22) !== 9) return;
    const number = packet.readUInt32BE(28);
    if (number <= last) seen.disorder++;
    last = number;
    seen[changed ? 'after' : 'before']++;
    if (!changed && seen.before === 100) { changed = true; change(); }
    if (seen.after === 100) setImmediate(finish);
  };
  const listen = (socket) => socket.on('message', (packet, info) => {
    take(packet, info);
    // A socket that is closed by what take() did has nothing more to send.
    if (!socket.closed) socket.send(packet, info.offload ? { offload: info.offload } : {}, () => {});
  }).on('link', ({ kind }) => seen.kinds.add(kind)).on('error', ({ code }) => seen.codes.push(code)).on('close', () => seen.closed++);
  const open = (options) => TunSocket.open({ name: 'c0', offload: '${offload}', address: '10.0.0.1/24', ...options });
  let tun = listen(open());
  let number = 0;
  let udp;
  let flooding = true;
  const flood = () => {
    if (!flooding) return;
    for (let n = 0; n < 20; n++) {
      const data = Buffer.alloc(800);
      data.writeUInt32BE(number++);
      udp.send(data, 9, '10.0.0.2', () => {});
    }
    setImmediate(flood);
  };
  const begin = async (netns) => {
    udp?.close();
    udp = await netns.bind(dgram.createSocket('udp4'), 0);
    flood();
  };
  let finished = false;
  function finish() {
    if (finished) return;
    finished = true;
    flooding = false;
    udp.close();
    const { name } = tun;
    if (!tun.closed) tun.close();
    setImmediate(() => console.log(JSON.stringify({ ...seen, name, kinds: [...seen.kinds] })));
  }
  function change() { ${change} }
  ${end}
  begin(here);`;

interface Seen {
  kinds: string[];
  codes: string[];
  closed: number;
  before: number;
  after: number;
  disorder: number;
  longest: number;
  name: string;
}

function seen(offload: string, change: string, end = ''): Seen {
  const { output, ...ended } = run(STAGE(offload, change, end));
  expect(ended).toEqual(ENDED);
  return JSON.parse(output);
}

describe.each(['none', 'split', 'raw'])("a device under load with offload '%s' that is", (offload) => {
  const lives = { codes: [], closed: 1, before: 100, disorder: 0 };

  it('renamed goes on by its new name', () => {
    const result = seen(offload, `Link.get('c0').rename('c1');`);
    expect(result).toMatchObject({ ...lives, name: 'c1' });
    expect(result.kinds).toContain('renamed');
    expect(result.after).toBeGreaterThanOrEqual(100);
  });

  it('brought down and up goes on, and tells both', () => {
    const result = seen(
      offload,
      `const link = Link.get('c0'); link.down(); setTimeout(() => link.up(), 50);`,
    );
    expect(result).toMatchObject(lives);
    expect(result.kinds).toEqual(expect.arrayContaining(['down', 'up']));
    expect(result.after).toBeGreaterThanOrEqual(100);
  });

  it('given another mtu goes on, and gets no packet that is longer', () => {
    const result = seen(offload, `Link.get('c0').mtu = 500;`);
    // A datagram of 828 bytes comes in fragments then; of those only the first has ports and a number.
    expect(result).toMatchObject(lives);
    expect(result.kinds).toContain('mtu');
    expect(result.after).toBeGreaterThanOrEqual(100);
    expect(result.longest).toBeLessThanOrEqual(500);
  });

  it('moved to another namespace goes on there', () => {
    const result = seen(
      offload,
      `const there = Netns.create();
       Link.get('c0').moveTo(there);
       there.run(() => { const link = Link.get('c0'); link.up(); link.addAddress('10.0.0.1/24'); });
       flooding = false;
       setTimeout(() => { flooding = true; begin(there); }, 50);`,
    );
    expect(result).toMatchObject(lives);
    expect(result.kinds).toContain('moved');
    expect(result.after).toBeGreaterThanOrEqual(100);
  });

  it('deleted ends its socket with EBADFD, once', () => {
    const result = seen(offload, `Link.get('c0').delete();`, `tun.on('close', () => setImmediate(finish));`);
    expect(result).toMatchObject({ codes: ['EBADFD'], closed: 1, before: 100, disorder: 0 });
  });

  it('deleted and made again by the same name is another one to its socket', () => {
    const result = seen(
      offload,
      `const old = tun; old.link.delete(); tun = listen(open()); flooding = false;
       setTimeout(() => { seen.old = [old.closed, tun.closed]; flooding = true; begin(here); }, 50);`,
    );
    expect(result).toMatchObject({ codes: ['EBADFD'], closed: 2, before: 100, disorder: 0, name: 'c0' });
    expect(result).toMatchObject({ old: [true, false] });
    expect(result.after).toBeGreaterThanOrEqual(100);
  });
});
