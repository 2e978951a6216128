import { execFileSync, spawnSync } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { Link, Netns, TunSocket } from '../../dist';
import { codeOf } from '../helpers/device';
import { withPrograms } from '../helpers/ebpf';
import { IS_REAL_ROOT } from '../helpers/kernel';
import { enterQuietNamespace } from '../helpers/namespace';
import { program } from '../helpers/optional';
import { ethernetFrame, udpPacket } from '../helpers/packets';

beforeAll(enterQuietNamespace);

const MSG_DONTWAIT = 0x40;
const MAC = '02:00:00:00:00:02';
const macBytes = (mac: string) => Buffer.from(mac.replaceAll(':', ''), 'hex');
const RETURN = 6;
const LOAD_HALF = 0x28;
const JUMP_EQUAL = 0x15;
const ALL = 0x40000;

/** Only frames of an EtherType. */
const only = (type: number) => [
  { code: LOAD_HALF, jt: 0, jf: 0, k: 12 },
  { code: JUMP_EQUAL, jt: 0, jf: 1, k: type },
  { code: RETURN, jt: 0, jf: 0, k: ALL },
  { code: RETURN, jt: 0, jf: 0, k: 0 },
];

/** What the host sends to a tap: a frame through a packet socket of the kernel. */
function hostSends(name: string, to: string, type = 0x88b5): void {
  const frame = ethernetFrame(macBytes(to), macBytes(MAC), type, Buffer.alloc(50, 1));
  const code = `import socket,sys
s=socket.socket(socket.AF_PACKET,socket.SOCK_RAW)
s.bind((sys.argv[1],0))
s.send(bytes.fromhex(sys.argv[2]))`;
  execFileSync('python3', ['-c', code, name, frame.toString('hex')]);
}

const received = (tap: TunSocket) => {
  let count = 0;
  for (;;) {
    try {
      tap.recvmsg(Buffer.alloc(2048), MSG_DONTWAIT);
      count++;
    } catch {
      return count;
    }
  }
};

if (!IS_REAL_ROOT)
  console.log('skipped: owners and eBPF programs, which need root outside of a user namespace');

describe('features', () => {
  it('are what TUNGETFEATURES tells', () => {
    const features = TunSocket.features();
    expect(features).toMatchObject({ tun: true, tap: true, packetInfo: true, virtioHeader: true });
    expect(features).toMatchObject({ multiQueue: true, napi: true, napiFrags: true });
    expect(features.flags & 0x5003).toBe(0x5003);
    expect(features.noCarrier).toBe((features.flags & 0x40) !== 0);
    expect(codeOf(() => TunSocket.features('/nowhere'))).toBe('ENOENT');
    expect(codeOf(() => TunSocket.features('/dev/null'))).toBe('ENOTTY');
  });
});

/** Attaches to a device as another user, in another group, who has no privilege. */
function attach(name: string, uid: number, gid: number) {
  const code = `import os,fcntl,struct,sys
fd=os.open('/dev/net/tun',os.O_RDWR)
name,uid,gid=sys.argv[1].encode(),int(sys.argv[2]),int(sys.argv[3])
os.setgroups([])
os.setresgid(gid,gid,gid)
os.setresuid(uid,uid,uid)
fcntl.ioctl(fd,0x400454ca,struct.pack('16sH22x',name,0x1001))`;
  return spawnSync('python3', ['-c', code, name, `${uid}`, `${gid}`], { encoding: 'utf8' });
}

describe.runIf(IS_REAL_ROOT)('owner, group and persist', () => {
  it('are read back as they were set, by number and by name', () => {
    using tun = TunSocket.open({ owner: 'nobody', group: 12 });
    expect(tun.info()).toMatchObject({ owner: 65534, group: 12, persist: false, queues: 1 });
    tun.setOwner(1000);
    tun.setGroup('daemon');
    tun.setPersist(true);
    expect(tun.info()).toMatchObject({ owner: 1000, group: 1, persist: true });
    expect(execFileSync(program('ip'), ['-d', 'link', 'show', tun.name], { encoding: 'utf8' })).toMatch(
      /persist on.*user \S+ group daemon/,
    );
    tun.setPersist(false);
    expect(codeOf(() => tun.setOwner('nobody at all'))).toBe('ERR_INVALID_ARG_VALUE');
    expect(codeOf(() => tun.setGroup(-1))).toBe('ERR_OUT_OF_RANGE');
  });

  it('let the owner attach without privilege, and nobody else', () => {
    using tun = TunSocket.open({ name: 'owned', owner: 1000, persist: true });
    tun.close();
    expect(attach('owned', 1000, 1000)).toMatchObject({ status: 0 });
    expect(attach('owned', 1001, 1001).stderr).toMatch(/PermissionError/);
    TunSocket.open({ name: 'owned', persist: false }).close();
  });

  it('let a member of the group attach, and nobody else', () => {
    TunSocket.open({ name: 'grouped', group: 1000, persist: true }).close();
    expect(attach('grouped', 1001, 1000)).toMatchObject({ status: 0 });
    expect(attach('grouped', 1000, 1001).stderr).toMatch(/PermissionError/);
    TunSocket.open({ name: 'grouped', persist: false }).close();
  });

  it('are as before when a later step of open() fails', () => {
    TunSocket.open({ name: 'kept', owner: 1000, group: 5, persist: true }).close();
    expect(() =>
      TunSocket.open({
        name: 'kept',
        owner: 1001,
        routes: { destination: '10.9.9.0/24', gateway: '10.77.0.1' },
      }),
    ).toThrow();
    const again = TunSocket.open({ name: 'kept', persist: false });
    expect(again.info()).toMatchObject({ owner: 1000, group: 5 });
    again.close();
  });
});

describe('queues', () => {
  it('openQueue() shares the device; a detached queue gets nothing until it is attached', () => {
    using first = TunSocket.open({ multiQueue: true, offload: 'raw', address: '10.0.0.1/24' });
    using second = first.openQueue({ receiveTimeout: 1000 });
    expect([second.name, second.offload, second.offloadFeatures]).toEqual([
      first.name,
      'raw',
      first.offloadFeatures,
    ]);
    expect(first.info()).toMatchObject({ queues: 2, disabledQueues: 0, multiQueue: true });
    first.detachQueue();
    expect([first.queueAttached, second.queueAttached]).toEqual([false, true]);
    expect(second.info()).toMatchObject({ queues: 1, disabledQueues: 1 });
    execFileSync('python3', [
      '-c',
      `import socket
for port in range(9, 29):
  socket.socket(socket.AF_INET,socket.SOCK_DGRAM).sendto(b'x',('10.0.0.2',port))`,
    ]);
    expect([received(first), received(second)]).toEqual([0, 20]);
    first.attachQueue();
    expect(first.queueAttached).toBe(true);
    using single = TunSocket.open();
    expect(codeOf(() => single.openQueue())).toBe('ERR_INVALID_STATE');
  });
});

describe('filters of a tap', () => {
  it('a classic program decides what arrives, and is read back', () => {
    using tap = TunSocket.open({ mode: 'tap', filter: only(0x88b6) });
    expect(tap.getFilter()).toEqual(only(0x88b6));
    hostSends(tap.name, MAC, 0x88b5);
    expect(received(tap)).toBe(0);
    hostSends(tap.name, MAC, 0x88b6);
    expect(received(tap)).toBe(1);
    expect(codeOf(() => tap.setFilter([{ code: 0x28, jt: 0, jf: 0, k: 0 }]))).toBe('EINVAL');
    hostSends(tap.name, MAC, 0x88b5);
    expect([received(tap), tap.getFilter()]).toEqual([0, only(0x88b6)]);
    tap.removeFilter();
    expect(tap.getFilter()).toBeUndefined();
    hostSends(tap.name, MAC, 0x88b5);
    expect(received(tap)).toBe(1);
    using tun = TunSocket.open();
    expect(codeOf(() => tun.setFilter(only(1)))).toBe('EINVAL');
  });

  it('a filter is that of further queues too', () => {
    using first = TunSocket.open({ mode: 'tap', multiQueue: true, filter: only(0x88b6) });
    using second = first.openQueue();
    // The first queue out of service: all go to the second.
    first.detachQueue();
    hostSends(first.name, MAC, 0x88b5);
    expect(received(second)).toBe(0);
    hostSends(first.name, MAC, 0x88b6);
    expect(received(second)).toBe(1);
  });

  it('setTransmitFilter() decides by destination', () => {
    using tap = TunSocket.open({ mode: 'tap' });
    tap.setTransmitFilter({ addresses: ['02:00:00:00:00:09'] });
    hostSends(tap.name, MAC);
    hostSends(tap.name, '01:00:5e:00:00:01');
    expect(received(tap)).toBe(0);
    hostSends(tap.name, '02:00:00:00:00:09');
    expect(received(tap)).toBe(1);
    tap.setTransmitFilter({ addresses: ['02:00:00:00:00:09'], allMulticast: true });
    hostSends(tap.name, '01:00:5e:00:00:01');
    expect(received(tap)).toBe(1);
    tap.setTransmitFilter(null);
    hostSends(tap.name, MAC);
    expect(received(tap)).toBe(1);
    expect(codeOf(() => tap.setTransmitFilter({ addresses: [] }))).toBe('ERR_INVALID_ARG_VALUE');
  });
});

describe('options of the device', () => {
  it('index, linkType, noCarrier and virtioHeaderSize are as given', () => {
    using tun = TunSocket.open({ index: 4242, linkType: 512, noCarrier: true, debug: 7 });
    expect([tun.index, tun.info().linkType]).toEqual([4242, 512]);
    const shown = execFileSync(program('ip'), ['link', 'show', tun.name], { encoding: 'utf8' });
    expect(shown).toMatch(/NO-CARRIER/);
    expect(execFileSync(program('ethtool'), [tun.name], { encoding: 'utf8' })).toMatch(/0x0*7/);
    expect(codeOf(() => TunSocket.open({ index: 4242 }))).toBe('EBUSY');
    using raw = TunSocket.open({ offload: 'raw', virtioHeaderSize: 12, byteOrder: 'little' });
    expect(raw.info().virtioHeaderSize).toBe(12);
    raw.sendmsg(udpPacket(['10.0.0.2', 1], ['10.0.0.1', 2], 'x'));
    expect(codeOf(() => TunSocket.open({ virtioHeaderSize: 12 }))).toBe('ERR_INVALID_ARG_VALUE');
    expect(codeOf(() => TunSocket.open({ byteOrder: 'big' }))).toBe('ERR_INVALID_ARG_VALUE');
  });

  it("byteOrder 'big' is as the kernel was built", () => {
    const open = () => TunSocket.open({ name: 'swapped', offload: 'raw', byteOrder: 'big' }).close();
    // CONFIG_TUN_VNET_CROSS_LE is seldom set.
    try {
      open();
    } catch (error) {
      expect(error).toMatchObject({ code: 'EINVAL', syscall: 'TUNSETVNETBE' });
      expect((error as Error).message).toMatch(/CONFIG_TUN_VNET_CROSS_LE/);
    }
    expect(Link.list().map((link) => link.name)).not.toContain('swapped');
  });

  it('mtu is the interface’s, and the kernel’s limits hold', () => {
    using tun = TunSocket.open({ mtu: 1400 });
    expect(tun.mtu).toBe(1400);
    tun.mtu = 1280;
    expect([tun.mtu, Link.get(tun.name).mtu]).toEqual([1280, 1280]);
    // drivers/net/tun.c: MIN_MTU 68, MAX_MTU 65535.
    expect(
      codeOf(() => {
        tun.mtu = 67;
      }),
    ).toBe('EINVAL');
    expect(
      codeOf(() => {
        tun.mtu = -1;
      }),
    ).toBe('ERR_OUT_OF_RANGE');
    expect(tun.mtu).toBe(1280);
  });

  it('setCarrier() plugs the cable in and out, and whoever looks at the link is told', async () => {
    using tun = TunSocket.open({ noCarrier: true });
    using monitor = Link.monitor();
    const shown = () => execFileSync(program('ip'), ['link', 'show', tun.name], { encoding: 'utf8' });
    expect(shown()).toMatch(/NO-CARRIER/);
    tun.setCarrier(true);
    expect(shown()).toMatch(/LOWER_UP/);
    tun.setCarrier(false);
    expect(shown()).toMatch(/NO-CARRIER/);
    const told: boolean[] = [];
    for await (const { kind, link, after } of monitor) {
      if (kind !== 'carrier' || link.name !== tun.name) continue;
      told.push(after?.carrier ?? false);
      if (told.length === 2) break;
    }
    expect(told).toEqual([true, false]);
  });

  it('the send buffer is what was set, and INT_MAX before', () => {
    using tun = TunSocket.open();
    expect(tun.getSendBufferSize()).toBe(0x7fffffff);
    tun.setSendBufferSize(20_000);
    expect(tun.getSendBufferSize()).toBe(20_000);
    expect(codeOf(() => tun.setSendBufferSize(0))).toBe('ERR_OUT_OF_RANGE');
    expect(tun.getSendBufferSize()).toBe(20_000);
  });

  it('a descriptor tells the namespace of its device', () => {
    using netns = Netns.create();
    const tun = TunSocket.open({ name: 'there', netns, address: '10.0.0.1/24' });
    using again = TunSocket.fromFd(tun.detach());
    expect(again.name).toBe('there');
    expect(again.link.addresses()).toContain('10.0.0.1/24');
    expect(Link.list().map(({ name }) => name)).not.toContain('there');
  });

  it('offload takes only the features that are asked for', () => {
    using tun = TunSocket.open({ offload: { mode: 'raw', features: ['csum', 'tso4'] } });
    expect(tun.offloadFeatures).toEqual(['csum', 'tso4']);
    const shown = execFileSync(program('ethtool'), ['-k', tun.name], { encoding: 'utf8' });
    expect(shown).toMatch(/tx-tcp-segmentation: on/);
    expect(shown).toMatch(/tx-tcp6-segmentation: off/);
    expect(codeOf(() => TunSocket.open({ offload: { mode: 'raw', features: ['tso4'] } }))).toBe(
      'ERR_INVALID_ARG_VALUE',
    );
  });

  it('a receive buffer is none of its settings', () => {
    using tun = TunSocket.open();
    expect(() => tun.getRecvBufferSize()).toThrow(/EOPNOTSUPP.*link\.txQueueLength/);
  });
});

describe.runIf(IS_REAL_ROOT)('eBPF programs', () => {
  it('a descriptor that is no program is refused, and null clears', () => {
    using tap = TunSocket.open({ mode: 'tap', multiQueue: true });
    const fd = openSync('/dev/null', 'r');
    expect(codeOf(() => tap.setSteering(fd))).toBe('EINVAL');
    expect(codeOf(() => tap.setPacketFilter(fd))).toBe('EINVAL');
    closeSync(fd);
    tap.setSteering(null);
    tap.setPacketFilter(null);
    expect(codeOf(() => tap.setSteering(-1))).toBe('ERR_OUT_OF_RANGE');
  });

  it('steers packets to a queue, and drops them', () => {
    const results = withPrograms(`
      const { execFileSync } = require('node:child_process');
      const first = TunSocket.open({ multiQueue: true, address: '10.0.0.1/24' });
      const queues = [first, first.openQueue()];
      const round = () => {
        execFileSync('python3', ['-c', "import socket; [socket.socket(socket.AF_INET,socket.SOCK_DGRAM).sendto(b'x',('10.0.0.2',port)) for port in range(9, 29)]"]);
        return queues.map((queue) => {
          let count = 0;
          try { for (;;) { queue.recvmsg(Buffer.alloc(2048), 0x40); count++; } } catch (error) { if (error.code !== 'EAGAIN') throw error; }
          return count;
        });
      };
      const results = {};
      first.setSteering(one); results.toSecond = round();
      first.setSteering(none); results.toFirst = round();
      first.setPacketFilter(none); results.dropped = round();
      first.setPacketFilter(null); results.again = round();
      console.log(JSON.stringify(results));`);
    expect(results).toEqual({
      toSecond: [0, 20],
      toFirst: [20, 0],
      dropped: [0, 0],
      again: [20, 0],
    });
  });
});
