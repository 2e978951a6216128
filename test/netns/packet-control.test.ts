import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { constants, Link, PacketBatch, PacketSocket } from '../../dist';
import { codeOf } from '../helpers/device';
import { withPrograms } from '../helpers/ebpf';
import { IS_REAL_ROOT } from '../helpers/kernel';
import { program } from '../helpers/optional';
import { empty, OTHER, packetStage, room, TEST, text } from '../helpers/packet-stage';
import { FAR_MAC, frame, NEAR_MAC } from '../helpers/pair';
import { HAS_PYTHON } from '../helpers/peers';

if (!IS_REAL_ROOT) console.log('skipped: eBPF programs, which need root outside of a user namespace');

const { MSG_DONTWAIT } = constants;
const stage = packetStage();
const { near, far, kept } = stage;

const ip = (...args: string[]) =>
  stage.pair.near.run(() => spawnSync(program('ip'), args, { encoding: 'utf8' })).stdout;
const namesIn = (socket: PacketSocket) => {
  const batch = new PacketBatch({ capacity: 256 });
  socket.recvmmsg(batch, MSG_DONTWAIT);
  return [...batch].map((packet) => packet.toString('latin1', 14).replaceAll('.', ''));
};
const first = (letter: string) => `4\n48 0 0 14\n21 0 1 ${letter.charCodeAt(0)}\n6 0 0 262144\n6 0 0 0\n`;

describe('a filter', () => {
  const sendAll = () => {
    const sender = far();
    for (const name of ['A', 'B', 'C']) sender.sendmsg(text(name));
    sender.close();
  };

  it.each(['none', 'split', 'raw'] as const)(
    "is set, replaced and removed while the socket is open, with '%s'",
    (offload) => {
      const socket = near({ offload });
      sendAll();
      socket.setFilter(first('A'));
      // What came before it is gone.
      expect(() => socket.recvmsg(room(), MSG_DONTWAIT)).toThrow(empty);
      sendAll();
      expect(namesIn(socket)).toEqual(['A']);
      socket.setFilter([
        { code: 48, jt: 0, jf: 0, k: 14 },
        { code: 21, jt: 0, jf: 1, k: 66 },
        { code: 6, jt: 0, jf: 0, k: 262144 },
        { code: 6, jt: 0, jf: 0, k: 0 },
      ]);
      sendAll();
      expect(namesIn(socket)).toEqual(['B']);
      sendAll();
      socket.removeFilter();
      sendAll();
      expect(namesIn(socket)).toEqual(['A', 'B', 'C']);
      socket.removeFilter();
    },
  );

  it('set by a listener is for the next packet', async () => {
    const socket = near();
    const seen: string[] = [];
    sendAll();
    await new Promise<void>((resolve) => {
      socket.on('message', (packet) => {
        seen.push(packet.toString('latin1', 14, 15));
        if (seen.length === 1) {
          socket.setFilter(first('C'));
          sendAll();
        } else {
          resolve();
        }
      });
    });
    expect(seen).toEqual(['A', 'C']);
  });

  it('that the kernel refuses leaves the one before in force, and what it let through', () => {
    const socket = near({ filter: first('A') });
    sendAll();
    expect(() => socket.setFilter('1\n48 0 0 0')).toThrow(
      expect.objectContaining({ code: 'EINVAL', syscall: 'SO_ATTACH_FILTER', interface: 'v0' }),
    );
    expect(codeOf(() => socket.setFilter('nonsense'))).toBe('ERR_INVALID_ARG_VALUE');
    expect(codeOf(() => socket.setFilter(7 as never))).toBe('ERR_INVALID_ARG_TYPE');
    sendAll();
    expect(namesIn(socket)).toEqual(['A', 'A']);
  });

  it('that is locked stays, and says so', () => {
    const socket = near({ filter: first('B') });
    socket.lockFilter();
    for (const change of [() => socket.setFilter(first('A')), () => socket.removeFilter()]) {
      expect(change).toThrow(
        expect.objectContaining({ code: 'EPERM', message: expect.stringContaining('lockFilter()') }),
      );
    }
    sendAll();
    expect(namesIn(socket)).toEqual(['B']);
  });

  it('of a closed socket', () => {
    const socket = near();
    socket.close();
    expect(codeOf(() => socket.setFilter(first('A')))).toBe('ERR_SOCKET_CLOSED');
    expect(codeOf(() => socket.lockFilter())).toBe('ERR_SOCKET_CLOSED');
  });
});

describe('memberships', () => {
  /** LLDP's group: IEEE 802.1AB, 7.1. */
  const LLDP = '01:80:c2:00:00:0e';
  const groups = () => ip('maddress', 'show', 'dev', 'v0');
  const flags = () => ip('-d', 'link', 'show', 'v0');

  it('of one multicast address', () => {
    const socket = near();
    socket.addMembership(LLDP);
    expect(groups()).toContain(LLDP);
    socket.addMembership(LLDP);
    socket.dropMembership(LLDP);
    expect(groups()).toContain(LLDP);
    socket.dropMembership(LLDP);
    expect(groups()).not.toContain(LLDP);
    socket.addMembership(LLDP);
    socket.close();
    expect(groups()).not.toContain(LLDP);
  });

  it("'promiscuous' and 'allMulticast'", () => {
    const socket = near();
    socket.addMembership('promiscuous');
    socket.addMembership('allMulticast');
    expect(flags()).toMatch(/promiscuity 1 +allmulti 1/);
    socket.dropMembership('promiscuous');
    expect(flags()).toMatch(/promiscuity 0 +allmulti 1/);
    socket.dropMembership('allMulticast');
    expect(flags()).toMatch(/promiscuity 0 +allmulti 0/);
    socket.dropMembership('allMulticast');
  });

  it('of another unicast address', () => {
    const socket = near();
    const other = '02:00:00:00:00:77';
    socket.addMembership(other);
    expect(
      stage.pair.near.run(() => spawnSync('bridge', ['fdb', 'show', 'dev', 'v0'], { encoding: 'utf8' }))
        .stdout,
    ).toContain(other);
    socket.dropMembership(other);
  });

  it('that are none, or can not be had', () => {
    const socket = near();
    for (const address of ['', 'all', '01:80', '01:80:c2:00:00:0e:00:01', 'gg:00:00:00:00:00']) {
      expect(() => socket.addMembership(address), address).toThrow(
        expect.objectContaining({ code: expect.stringMatching(/^(ERR_INVALID_ARG_VALUE|EINVAL)$/) }),
      );
    }
    expect(codeOf(() => socket.addMembership(1 as never))).toBe('ERR_INVALID_ARG_TYPE');
    const any = near({ interface: 'any' });
    expect(() => any.addMembership('promiscuous')).toThrow(
      expect.objectContaining({ code: 'ENODEV', syscall: 'PACKET_ADD_MEMBERSHIP' }),
    );
  });
});

describe('mark and priority', () => {
  it('are what the kernel has', () => {
    const socket = near({ mark: 0xfedcba98, priority: 5 });
    expect([socket.mark, socket.priority]).toEqual([0xfedcba98, 5]);
    socket.mark = 7;
    socket.priority = 3;
    expect([socket.mark, socket.priority]).toEqual([7, 3]);
    expect([near().mark, near().priority]).toEqual([0, 0]);
    for (const mark of [-1, 1.5, 2 ** 32]) {
      expect(() => near({ mark }), `${mark}`).toThrow(RangeError);
      expect(() => {
        socket.mark = mark;
      }).toThrow(RangeError);
    }
    expect(() => near({ priority: -1 })).toThrow(RangeError);
    expect(() => near({ mark: '1' as never })).toThrow(TypeError);
  });

  it('go with each packet: a filter of the host reads them', () => {
    // ld [mark] (SKF_AD_OFF + SKF_AD_MARK); a mark does not leave the host, so the socket is at the sender's side.
    const filter = (mark: number) => `4\n32 0 0 ${0xfffff000 + 20}\n21 0 1 ${mark}\n6 0 0 262144\n6 0 0 0`;
    const seen = near({ protocol: 'all', filter: filter(0xfedcba98) });
    const sender = near({ protocol: 0, mark: 0xfedcba98 });
    sender.sendmsg(text('marked'));
    sender.mark = 1;
    sender.sendmsg(text('otherwise'));
    near({ protocol: 0 }).sendmsg(text('not'));
    expect(namesIn(seen)).toEqual(['marked']);
  });
});

it('buffers change while the socket is open; the kernel doubles them', () => {
  const socket = near();
  socket.setRecvBufferSize(100_000);
  socket.setSendBufferSize(50_000);
  expect([socket.getRecvBufferSize(), socket.getSendBufferSize()]).toEqual([200_000, 100_000]);
  for (const size of [0, -1, 2 ** 30, 1.5]) {
    expect(() => socket.setRecvBufferSize(size)).toThrow(RangeError);
    expect(() => socket.setSendBufferSize(size)).toThrow(RangeError);
  }
});

it('statistics: what arrived was queued or dropped', () => {
  const a = near({ receiveBuffer: 5000, filter: first('A') });
  const batch = new PacketBatch({ capacity: 100 });
  for (let i = 0; i < 100; i++) batch.push(text(i % 2 === 0 ? 'A' : 'B'));
  far().sendmmsg(batch);
  const received = namesIn(a).length;
  expect(received).toBeLessThan(50);
  expect(a.stats().received).toMatchObject({ packets: received, dropped: 50 - received, arrived: 50 });
  expect(a.stats().received.arrived).toBe(50);
});

describe("interface: 'any'", () => {
  it('receives from all interfaces, and says from which', () => {
    const netns = stage.pair.near;
    netns.run(() => Link.create({ type: 'veth', name: 'w0', peer: { name: 'w1' } }));
    const [w0, w1] = netns.run(() => [Link.get('w0'), Link.get('w1')]);
    for (const link of [w0, w1]) link.up();
    const socket = near({ interface: 'any' });
    expect([socket.name, socket.index, socket.offload]).toEqual(['', 0, 'none']);
    far().sendmsg(text('from v0'));
    kept(PacketSocket.open({ interface: 'w1', netns, protocol: 0 })).sendmsg(text('from w0'));
    const infos = Array.from({ length: 2 }, () => {
      const data = room();
      const info = socket.recvmsg(data);
      return [info.interface, data.toString('latin1', 14, 21)];
    });
    expect(infos).toEqual([
      [stage.pair.nearLink.index, 'from v0'],
      [w0.index, 'from w0'],
    ]);
  });

  it('sends where each packet says', async () => {
    const seen = far({ protocol: 'all' });
    const socket = near({ interface: 'any', protocol: 0 });
    const to = { interface: stage.pair.nearLink.index };
    const bytes = (name: string) => frame(TEST, Buffer.from(name.padEnd(50, '.')), FAR_MAC, NEAR_MAC);
    expect(() => socket.sendmsg(bytes('nowhere'))).toThrow(expect.objectContaining({ code: 'ENXIO' }));
    expect(() => socket.sendmsg(bytes('nowhere'), 0, { to: { interface: 4711 } })).toThrow(
      expect.objectContaining({ code: 'ENXIO' }),
    );
    socket.sendmsg(bytes('call'), 0, { to });
    const batch = new PacketBatch();
    batch.push(bytes('batch'), { to });
    expect(socket.sendmmsg(batch)).toBe(1);
    await new Promise((resolve) => socket.send(bytes('send'), { to }, resolve));
    expect(namesIn(seen)).toEqual(['call', 'batch', 'send']);

    const dgram = near({ interface: 'any', type: 'dgram', protocol: OTHER });
    dgram.sendmsg(Buffer.alloc(50, 'd'), 0, { to: { ...to, address: FAR_MAC } });
    const data = room();
    expect(seen.recvmsg(data)).toMatchObject({ bytes: 64, protocol: OTHER });
    expect(() => near().sendmsg(text(''), 0, { to: { ...to, address: FAR_MAC } })).toThrow(TypeError);
  });

  it("can not have 'split'", () => {
    expect(codeOf(() => near({ interface: 'any', offload: 'split' }))).toBe('ERR_INVALID_ARG_VALUE');
    expect(near({ interface: 'any', offload: 'raw' }).offload).toBe('raw');
  });
});

/** What python3 prints in the namespace of v0, with the descriptor of `socket`, if it is given one, as its own number 3. */
function python(script: string, socket?: PacketSocket): string {
  const { stdout, stderr } = stage.pair.near.run(() =>
    spawnSync('python3', ['-c', script], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe', ...(socket === undefined ? [] : [socket.fd])],
    }),
  );
  expect(stderr).toBe('');
  return stdout.trim();
}

it.runIf(IS_REAL_ROOT)('an eBPF program says which member of a fanout group gets a packet', () => {
  const code = `
    const netns = '/proc/${process.pid}/fd/';
    const open = (program) => PacketSocket.open({
      interface: 'v0', netns: netns + ${stage.pair.near.fd}, protocol: ${TEST}, fanout: { group: 15, program },
    });
    const members = [open(none), open(none)];
    const far = PacketSocket.open({ interface: 'v1', netns: netns + ${stage.pair.far.fd}, protocol: 0 });
    const round = () => {
      for (let i = 0; i < 20; i++) far.sendmsg(Buffer.from('${frame(TEST, Buffer.alloc(50)).toString('hex')}', 'hex'));
      return members.map((member) => {
        let count = 0;
        try { for (;;) { member.recvmsg(Buffer.alloc(100), 0x40); count++; } } catch (error) { if (error.code !== 'EAGAIN') throw error; }
        return count;
      });
    };
    const results = [round()];
    // The group has the program that was set last: a third member sets the other, and leaves.
    open(one).close();
    results.push(round());
    console.log(JSON.stringify(results));`;
  expect(withPrograms(code)).toEqual([
    [20, 0],
    [0, 20],
  ]);
});

it.runIf(HAS_PYTHON)("on a link whose header tunsock can't look behind, the default is 'none'", () => {
  // A tun device that calls itself a PPP link: TUNSETIFF, TUNSETLINK, TUNSETPERSIST.
  python(`
import fcntl, struct
tun = open('/dev/net/tun', 'r+b', buffering=0)
fcntl.ioctl(tun, 0x400454ca, struct.pack('16sH22x', b'ppp7', 0x1001))
fcntl.ioctl(tun, 0x400454cd, 512)
fcntl.ioctl(tun, 0x400454cb, 1)`);
  expect(near({ interface: 'ppp7' }).offload).toBe('none');
  expect(codeOf(() => near({ interface: 'ppp7', offload: 'split' }))).toBe('EOPNOTSUPP');
});
