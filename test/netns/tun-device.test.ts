import { execFileSync, spawnSync } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { Link, TunSocket } from '../../dist';
import { codeOf } from '../helpers/device';
import { IS_REAL_ROOT } from '../helpers/kernel';
import { enterQuietNamespace } from '../helpers/namespace';
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

describe.runIf(IS_REAL_ROOT)('owner, group and persist', () => {
  it('are read back as they were set, by number and by name', () => {
    using tun = TunSocket.open({ owner: 'nobody', group: 12 });
    expect(tun.info()).toMatchObject({ owner: 65534, group: 12, persist: false, queues: 1 });
    tun.setOwner(1000);
    tun.setGroup('daemon');
    tun.setPersist(true);
    expect(tun.info()).toMatchObject({ owner: 1000, group: 1, persist: true });
    expect(execFileSync('ip', ['-d', 'link', 'show', tun.name], { encoding: 'utf8' })).toMatch(
      /persist on.*user \S+ group daemon/,
    );
    tun.setPersist(false);
    expect(codeOf(() => tun.setOwner('nobody at all'))).toBe('ERR_INVALID_ARG_VALUE');
    expect(codeOf(() => tun.setGroup(-1))).toBe('ERR_OUT_OF_RANGE');
  });

  it('let the owner attach without privilege, and nobody else', () => {
    using tun = TunSocket.open({ name: 'owned', owner: 1000, persist: true });
    tun.close();
    const attach = (uid: number) =>
      spawnSync(
        'python3',
        [
          '-c',
          `import os,fcntl,struct
fd=os.open('/dev/net/tun',os.O_RDWR)
os.setgroups([])
os.setresgid(${uid},${uid},${uid})
os.setresuid(${uid},${uid},${uid})
fcntl.ioctl(fd,0x400454ca,struct.pack('16sH22x',b'owned',0x1001))`,
        ],
        { encoding: 'utf8' },
      );
    expect(attach(1000)).toMatchObject({ status: 0 });
    expect(attach(1001).stderr).toMatch(/PermissionError/);
    TunSocket.open({ name: 'owned', persist: false }).close();
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
    const shown = execFileSync('ip', ['link', 'show', tun.name], { encoding: 'utf8' });
    expect(shown).toMatch(/NO-CARRIER/);
    expect(execFileSync('ethtool', [tun.name], { encoding: 'utf8' })).toMatch(/0x0*7/);
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

  it('setCarrier() plugs the cable in and out', () => {
    using tun = TunSocket.open({ noCarrier: true });
    const shown = () => execFileSync('ip', ['link', 'show', tun.name], { encoding: 'utf8' });
    expect(shown()).toMatch(/NO-CARRIER/);
    tun.setCarrier(true);
    expect(shown()).toMatch(/LOWER_UP/);
    tun.setCarrier(false);
    expect(shown()).toMatch(/NO-CARRIER/);
  });

  it('offload takes only the features that are asked for', () => {
    using tun = TunSocket.open({ offload: { mode: 'raw', features: ['csum', 'tso4'] } });
    expect(tun.offloadFeatures).toEqual(['csum', 'tso4']);
    const shown = execFileSync('ethtool', ['-k', tun.name], { encoding: 'utf8' });
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

  /** Loads "r0 = value; exit" for the values 0 and 1, and becomes a program that inherits both descriptors. */
  const LOADER = `import ctypes,os,struct,sys
libc=ctypes.CDLL(None,use_errno=True)
number={'x86_64':321,'aarch64':280}[os.uname().machine]
fds=[]
for value in (0,1):
  code=struct.pack('<BBhiBBhi',0xb7,0,0,value,0x95,0,0,0)
  insns=ctypes.create_string_buffer(code)
  name=ctypes.create_string_buffer(b'GPL')
  attr=ctypes.create_string_buffer(struct.pack('<IIQQ',1,2,ctypes.addressof(insns),ctypes.addressof(name))+bytes(104))
  fd=libc.syscall(number,5,attr,128)
  if fd<0: sys.exit('bpf(2): '+os.strerror(ctypes.get_errno()))
  os.set_inheritable(fd,True)
  fds.append(str(fd))
os.execv(sys.argv[1],sys.argv[1:]+fds)`;
  const USER = `const { TunSocket } = require(process.argv[1]);
const { execFileSync } = require('node:child_process');
const [none, one] = process.argv.slice(2).map(Number);
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
console.log(JSON.stringify(results));`;

  it('steers packets to a queue, and drops them', () => {
    const library = require.resolve('../../dist');
    const run = spawnSync('python3', ['-c', LOADER, process.execPath, '-e', USER, library], {
      encoding: 'utf8',
    });
    expect(run.stderr).toBe('');
    expect(JSON.parse(run.stdout)).toEqual({
      toSecond: [0, 20],
      toFirst: [20, 0],
      dropped: [0, 0],
      again: [20, 0],
    });
  });
});
